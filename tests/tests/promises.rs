//! Power cuts beside a host that sends as fast as it is acknowledged: after a sync that failed, which must acknowledge nothing, and
//! while the journal begins one segment after the other, which a wide host fills in seconds. A name that was not made durable in
//! its directory would take a whole segment of acknowledged samples along.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dawnwatch_proto::api::History;
use dawnwatch_proto::{Kind, Schema, Series, Tick};
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::Agent;
use dawnwatch_tests::image::Image;
use dawnwatch_tests::inject::{Fault, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{SOON, Stage};
use dawnwatch_tests::stream::{Stream, batch};
use dawnwatch_tests::wait::{until, until_true};
use rustix::process::Signal;

/// Room for all that is sent.
const IMAGE_MEGABYTES: u64 = 1_024;

/// Columns of a wide host, as many as one may have, and of a slim one.
const WIDE: usize = 2_000;
const SLIM: usize = 20;

/// Ticks in one message: of the wide host some megabyte.
const TICKS: u64 = 50;

/// Syncs that fail; `DAWNWATCH_FAILED_SYNCS` makes it more.
const FAILED_SYNCS: u64 = 5;

/// Cuts; `DAWNWATCH_ROTATION_ROUNDS` makes it more. Each start replays all before it.
const ROUNDS: u64 = 3;

/// Between two segments lie so many messages: the power goes around the next rotation.
const MESSAGES: u64 = 20;

const EPOCH: u64 = 9;

/// What a sync that failed should have kept is gone with the power: had it been acknowledged, it would be missed.
#[test]
fn a_sync_that_failed_is_never_acknowledged() {
    if !are_met(&[Need::PowerCut, Need::Strace]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let mut chance = Chance::new(seed);
    let mut site = Site::start();
    let (mut failed, mut held) = (0, 0);
    for round in 0..setting("DAWNWATCH_FAILED_SYNCS", FAILED_SYNCS) {
        let sender = site.send(SLIM);
        sender.await_more(held);
        let log = site.dir.path().join(format!("{round}.strace"));
        let nth = u32::try_from(1 + chance.below(3)).unwrap_or(1);
        let (calls, what) = ("fdatasync", What::Error("EIO"));
        let pid = site.stage.server().pid();
        let attached = Fault { calls, what, nth }.attach(pid, &log);
        until_true("the sync to fail", SOON, || !fired(&log).is_empty());
        // Time for a wrong acknowledgement to arrive, and not for the server to end: its last checkpoint would hide what is missing.
        std::thread::sleep(Duration::from_millis(60));
        site.stage.server().signal(Signal::STOP);
        drop(attached);
        let hit = fired(&log);
        failed += hit.iter().filter(|line| line.contains("/journal/")).count();
        held = site.cut(sender, SLIM);
    }
    say(&format!(
        "RESULT failed-sync seed={seed} of_the_journal={failed} held={held} lost=0"
    ));
    assert!(failed > 0, "no sync of the journal failed");
}

#[test]
#[ignore = "takes minutes in a debug build: tests/soak rotation"]
fn segments_that_were_just_begun_survive_a_power_cut() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let rounds = setting("DAWNWATCH_ROTATION_ROUNDS", ROUNDS);
    let mut chance = Chance::new(seed);
    let mut site = Site::start();
    let (mut held, mut begun) = (0, 0);
    for _ in 0..rounds {
        let sender = site.send(WIDE);
        sender.await_more(held + TICKS * (MESSAGES / 2 + chance.below(MESSAGES)));
        site.stage.server().signal(Signal::STOP);
        begun = begun.max(segments(&site.image.point.join("server/journal")));
        held = site.cut(sender, WIDE);
    }
    say(&format!(
        "RESULT rotation seed={seed} cuts={rounds} held={held} lost=0 segments={begun}"
    ));
    assert!(begun > 1, "no segment was begun");
}

/// A server on an image, and a host that joined. Fields are dropped in this order.
struct Site {
    stage: Stage,
    image: Image,
    address: String,
    state: PathBuf,
    dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
        let stage = Stage::start(dir.path(), &image.point, 0);
        let (address, token) = (stage.server().address, stage.server().token(1));
        let state = dir.path().join("web01");
        let _joined = Agent::join(&state, "web01", address, &token.join);
        Site {
            stage,
            image,
            address: address.to_string(),
            state,
            dir,
        }
    }

    fn send(&self, columns: usize) -> Sender {
        Sender::start(&self.state, &self.address, columns)
    }

    /// Cuts the power under a server that stands still or has ended, and starts it again: what it holds then, which must be all that
    /// it promised.
    fn cut(&mut self, sender: Sender, columns: usize) -> u64 {
        let promised = sender.acked.load(Ordering::Acquire);
        self.image.cut();
        self.stage.kill_server();
        drop(sender);
        self.image.unmount();
        self.image.mount_again();
        self.stage
            .start_server(Vec::new())
            .expect("the server starts");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let greeted = runtime.block_on(Stream::greet(&self.state, &self.address, EPOCH));
        let held = greeted.expect("the host is welcome").1;
        assert!(held >= promised, "{promised} acknowledged, {held} held");
        let last = columns - 1;
        let path =
            format!("/api/v1/history?host=web01&series=column_{last}&from=2020-01-01T00:00:00Z");
        let history: History = until("the history to answer", SOON, || {
            self.stage.server().get(&path).ok()
        });
        assert_eq!((history.samples, history.repeated), (held, 0));
        held
    }
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

/// Sends the host's ticks as fast as they are acknowledged, until it is dropped.
struct Sender {
    /// The last number that was acknowledged.
    acked: Arc<AtomicU64>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sender {
    fn start(state: &Path, address: &str, columns: usize) -> Sender {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let acked = Arc::new(AtomicU64::new(0));
        let (told, state, address) = (Arc::clone(&acked), state.to_owned(), address.to_owned());
        runtime.spawn(async move {
            let greeted = Stream::greet(&state, &address, EPOCH).await;
            let (mut stream, mut held) = greeted.expect("the host is welcome");
            let series = |i| Series::new(&format!("column_{i}"), Kind::Gauge);
            let schema = Schema::new((0..columns).map(series).collect());
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

impl Sender {
    fn await_more(&self, than: u64) {
        until_true("the samples to be acknowledged", SOON, || {
            self.acked.load(Ordering::Acquire) > than
        });
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
        row: (0..schema.series().len())
            .map(|_| i64::try_from(chance.below(1 << 44)).unwrap_or(0))
            .collect(),
    };
    (0..TICKS).map(&mut tick).collect()
}
