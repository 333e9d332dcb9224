//! Power cuts while the journal begins one segment after the other: a wide host's samples fill one in seconds. A name that was
//! not made durable in its directory would take a whole segment of acknowledged samples along.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dawnwatch_proto::api::History;
use dawnwatch_proto::{Kind, Schema, Series, Tick};
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::Agent;
use dawnwatch_tests::image::Image;
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{SOON, Stage};
use dawnwatch_tests::stream::{Stream, batch};
use dawnwatch_tests::wait::until;
use rustix::process::Signal;

/// Room for all that is sent.
const IMAGE_MEGABYTES: u64 = 1_024;

/// Columns of the wide host, as many as one may have.
const COLUMNS: usize = 2_000;

/// Its ticks in one message: some megabyte.
const TICKS: u64 = 50;

/// Cuts; `DAWNWATCH_ROTATION_ROUNDS` makes it more. Each start replays all before it.
const ROUNDS: u64 = 3;

/// Between two segments lie so many messages: the power goes around the next rotation.
const MESSAGES: u64 = 20;

const EPOCH: u64 = 9;

#[test]
#[ignore = "takes minutes in a debug build: tests/soak rotation"]
fn segments_that_were_just_begun_survive_a_power_cut() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let rounds = setting("DAWNWATCH_ROTATION_ROUNDS", ROUNDS);
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
    let mut stage = Stage::start(dir.path(), &image.point, 0);
    let (address, token) = (stage.server().address, stage.server().token(1));
    let state = dir.path().join("wide01");
    let _joined = Agent::join(&state, "wide01", address, &token.join);
    let (mut held, mut begun) = (0, 0);
    for round in 1..=rounds {
        let sender = Sender::start(&state, &address.to_string());
        let enough = held + TICKS * (MESSAGES / 2 + chance.below(MESSAGES));
        until("the samples to be acknowledged", SOON, || {
            (sender.acked.load(Ordering::Acquire) >= enough).then_some(())
        });
        let server = stage.server();
        server.signal(Signal::STOP);
        let promised = sender.acked.load(Ordering::Acquire);
        begun = begun.max(segments(&image.point.join("server/journal")));
        image.cut();
        stage.kill_server();
        drop(sender);
        image.unmount();
        image.mount_again();
        stage.start_server(Vec::new()).expect("the server starts");
        held = greet(&state, &address.to_string());
        assert!(
            held >= promised,
            "round {round}: {promised} acknowledged, {held} held"
        );
        let path = "/api/v1/history?host=wide01&series=wide_7&from=2020-01-01T00:00:00Z";
        let history: History = until("the history to answer", SOON, || {
            stage.server().get(path).ok()
        });
        assert_eq!(
            (history.samples, history.repeated),
            (held, 0),
            "round {round}"
        );
    }
    say(&format!(
        "RESULT rotation seed={seed} cuts={rounds} held={held} lost=0 segments={begun}"
    ));
    assert!(begun > 1, "no segment was begun");
}

/// Segments that were ever begun, by the frames in their names.
fn segments(journal: &Path) -> usize {
    let files = std::fs::read_dir(journal).expect("the journal");
    let names = files.flatten().map(|file| file.file_name().into_string());
    names
        .flatten()
        .filter(|name| name.ends_with(".seg"))
        .count()
}

fn greet(state: &Path, address: &str) -> u64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let greeted = runtime.block_on(Stream::greet(state, address, EPOCH));
    greeted.expect("the host is welcome").1
}

/// Sends the wide host's ticks as fast as they are acknowledged, until it is dropped.
struct Sender {
    /// The last number that was acknowledged.
    acked: Arc<AtomicU64>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sender {
    fn start(state: &Path, address: &str) -> Sender {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let acked = Arc::new(AtomicU64::new(0));
        let (told, state, address) = (Arc::clone(&acked), state.to_owned(), address.to_owned());
        runtime.spawn(async move {
            let greeted = Stream::greet(&state, &address, EPOCH).await;
            let (mut stream, mut held) = greeted.expect("the host is welcome");
            let series = |i| Series::new(&format!("wide_{i}"), Kind::Gauge);
            let schema = Schema::new((0..COLUMNS).map(series).collect());
            loop {
                for message in batch(&schema, held + 1, &ticks(&schema, held)) {
                    stream.say(message).await;
                }
                held += TICKS;
                if stream.acked(held).await.is_err() {
                    return;
                }
                told.store(held, Ordering::Release);
            }
        });
        Sender {
            acked,
            runtime: Some(runtime),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The next ticks, of numbers that no codec makes small.
fn ticks(schema: &Schema, held: u64) -> Vec<Tick> {
    let now = real_now();
    let mut chance = Chance::new(held);
    let mut tick = |i: u64| Tick {
        time: now + Duration::from_millis(i),
        schema: schema.id(),
        row: (0..COLUMNS)
            .map(|_| i64::try_from(chance.below(1 << 44)).unwrap_or(0))
            .collect(),
    };
    (0..TICKS).map(&mut tick).collect()
}
