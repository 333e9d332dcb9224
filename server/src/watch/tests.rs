use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use dawnwatch_engine::Config;
use dawnwatch_engine::config::Channel;
use dawnwatch_engine::input::{Batch, HostCard, Started};
use dawnwatch_proto::event::Line;
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::{Event, EventBody, HostId, Kind, Schema, Series, Tick};
use dawnwatch_segment::{Log, RealDisk};
use jiff::Timestamp;

use super::*;
use crate::reserve::Reserve;

const HOST: HostId = HostId(7);
const BEFORE: usize = 8;

/// What left the watch.
#[derive(Clone, Default)]
struct Seen {
    sent: Arc<Mutex<Vec<String>>>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Seen {
    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

/// A data directory with a journal.
struct Stage {
    dir: tempfile::TempDir,
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn series() -> Series {
    Series::new("node_load1", Kind::Gauge)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn sample(seq: u64, second: i64) -> Input {
    let schema = Schema::new(vec![series()]).id();
    let (time, row) = (at(second), vec![second]);
    Input::Batch(Batch {
        host: HOST,
        epoch: 5,
        first_seq: seq,
        items: vec![Item::Tick(Tick { time, schema, row })],
        offset_ms: Some(0),
    })
}

/// A host reports for a minute, then falls silent: groups ten seconds apart.
fn story() -> Vec<Vec<Input>> {
    let channel = Channel {
        name: "ops".to_owned(),
        night: Severity::Info,
        day: Severity::Info,
        reviews: false,
    };
    let config = Config {
        channels: vec![channel],
        ..Config::default()
    };
    let card = HostCard::new(HOST, "web01", at(0));
    let started = Started {
        version: "1".to_owned(),
        clean: true,
        last_up: None,
    };
    let schema = Schema::new(vec![series()]);
    let mut groups = vec![vec![
        Input::Config(Box::new(config)),
        Input::Started(started),
        Input::Host(card),
        Input::Schema { host: HOST, schema },
        sample(1, 0),
    ]];
    groups.extend((1..7).map(|i| vec![Input::Tick, sample(1 + i, 10 * i.cast_signed())]));
    groups.extend((7..30).map(|_| vec![Input::Tick]));
    groups
}

/// The groups with stamps, the first of them after `before` others and the position given.
fn stamped(groups: Vec<Vec<Input>>, before: usize, mut position: u64) -> Vec<Group> {
    let mut out = Vec::new();
    for (i, inputs) in (before..).zip(groups) {
        let stamp = At {
            wall: at(10 * i64::try_from(i).unwrap()),
            boot_ms: 10_000 * i as u64,
            position: position + 1,
        };
        position += inputs.len() as u64;
        out.push(Group { at: stamp, inputs });
    }
    out
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        Stage { dir }
    }

    fn log(&self) -> Log {
        journal::open(&disk(), self.dir.path()).unwrap().0
    }

    /// Journals groups.
    fn journal(&self, groups: &[Group]) -> Vec<Written> {
        let mut log = self.log();
        let written = groups.iter().map(|group| {
            let mut payload = vec![1];
            payload.extend(crate::plain::bytes(group));
            let frame = log.append(&payload).unwrap();
            let (bytes, group) = (payload.len() as u64, group.clone());
            Written {
                frame,
                bytes,
                group,
            }
        });
        let written = written.collect();
        log.sync().unwrap();
        written
    }

    fn tools(&self, seen: &Seen, step: Step) -> Tools {
        let (history, _) = History::open(&disk(), self.dir.path()).unwrap();
        let (sent, notices) = (Arc::clone(&seen.sent), Arc::clone(&seen.notices));
        Tools {
            disk: disk(),
            data: self.dir.path().to_owned(),
            history: Arc::new(history),
            published: Arc::new(Published::new(
                Engine::new().view(at(0)),
                Vec::new(),
                Arc::new(Reserve::none()),
            )),
            notify: Box::new(move |n| sent.lock().unwrap().push(n.key)),
            notice: Box::new(move |notice| {
                notices.lock().unwrap().push(notice);
                true
            }),
            release: Release::default(),
            stopping: Arc::default(),
            poke: Arc::default(),
            step,
            gauges: Arc::new(crate::vitals::Gauges::new(self.dir.path())),
        }
    }

    fn recover(&self, seen: &Seen) -> Recovered {
        self.recover_with(seen, Engine::step)
    }

    fn recover_with(&self, seen: &Seen, step: Step) -> Recovered {
        recover(self.tools(seen, step), self.log().next_position()).unwrap()
    }

    /// Lets a watch run over these groups, to a clean stop.
    fn run(&self, recovered: Recovered, groups: Vec<Written>) {
        let (to, inbox) = sync_channel(groups.len());
        for written in groups {
            to.send(written).unwrap();
        }
        drop(to);
        recovered.watch.run(&inbox).unwrap();
    }

    /// The samples in history, and how many are held twice.
    fn samples(&self, watch: &Watch) -> (Vec<i64>, u64) {
        let points = watch
            .tools
            .history
            .read(HOST, &series(), at(-100), at(10_000));
        (
            points.raw.iter().map(|(_, value)| *value).collect(),
            points.repeated,
        )
    }

    fn checkpoints(&self) -> Vec<PathBuf> {
        let dir = std::fs::read_dir(self.dir.path().join("checkpoint")).unwrap();
        let mut paths: Vec<PathBuf> = dir.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

#[test]
fn replay_tells_the_ledger_once_and_sends_until_it_arrived() {
    let stage = Stage::new();
    let groups = stamped(story(), 0, 0);
    stage.journal(&groups);
    let seen = Seen::default();
    let first = stage.recover(&seen);
    assert_eq!(seen.sent(), [""; 0], "recovery itself sends nothing");
    let (position, head) = (first.watch.ledger.position(), first.watch.ledger.head());
    let saved = first.watch.engine.save();
    let inputs: usize = groups.iter().map(|group| group.inputs.len()).sum();
    assert!(position > 0 && first.replayed == inputs as u64);
    // A crash between the ledger's frame and the message: it goes out after the next start.
    drop(first);
    let second = stage.recover(&seen);
    assert_eq!(
        (second.watch.ledger.position(), second.watch.ledger.head()),
        (position, head)
    );
    assert_eq!(second.watch.engine.save(), saved);
    second.watch.send_pending();
    let sent = seen.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    // And again, with the same key, until something is known of it.
    drop(second);
    let third = stage.recover(&seen);
    third.watch.send_pending();
    assert_eq!(seen.sent(), [sent[0].as_str(), &sent[0]]);
    let delivered = Input::Delivered(Delivered {
        key: sent[0].clone(),
        outcome: Outcome::Arrived,
        answer: "ok".to_owned(),
    });
    let last = third.at.position;
    drop(third);
    stage.journal(&stamped(vec![vec![delivered]], groups.len(), last));
    stage.recover(&seen).watch.send_pending();
    assert_eq!(seen.sent().len(), 2, "it arrived");
}

#[test]
fn a_running_watch_sends_once_and_a_restart_does_not_repeat_the_ledger() {
    let stage = Stage::new();
    let seen = Seen::default();
    let recovered = stage.recover(&seen);
    let groups = stage.journal(&stamped(story(), 0, 0));
    stage.run(recovered, groups);
    assert_eq!(seen.sent().len(), 1);
    let frames = ledger::verify(&disk(), stage.dir.path()).unwrap();
    let again = stage.recover(&seen);
    assert_eq!(again.replayed, 0, "a clean stop leaves nothing to replay");
    assert_eq!(
        stage.samples(&again.watch),
        ((0..7).map(|i| 10 * i).collect(), 0)
    );
    drop(again);
    assert_eq!(ledger::verify(&disk(), stage.dir.path()).unwrap(), frames);
}

#[test]
fn checkpoint_and_tail_are_the_whole_replay_also_from_the_older_one() {
    let whole = Stage::new();
    let groups = stamped(story(), 0, 0);
    whole.journal(&groups);
    let want = whole.recover(&Seen::default());

    let stage = Stage::new();
    for part in [&groups[..BEFORE], &groups[BEFORE..12], &groups[12..]] {
        let before = stage.recover(&Seen::default());
        assert_eq!(before.damage, [""; 0]);
        let written = stage.journal(part);
        // The last part is never checkpointed: a crash.
        if part.len() != groups.len() - 12 {
            stage.run(before, written);
        }
    }
    let check = |damaged: usize| {
        let seen = Seen::default();
        let got = stage.recover(&seen);
        assert_eq!(got.damage.len(), damaged, "{:?}", got.damage);
        assert_eq!(got.watch.engine.save(), want.watch.engine.save());
        assert_eq!((got.at, &got.held), (want.at, &want.held));
        assert_eq!(got.watch.ledger.position(), want.watch.ledger.position());
        assert_eq!(stage.samples(&got.watch), whole.samples(&want.watch));
        got.replayed
    };
    let tail = check(0);
    let newest = stage.checkpoints().pop().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
    assert!(check(1) > tail, "more is replayed from the older one");
}

/// Keys sort as texts: the tenth message about an incident before the second.
#[test]
fn what_waits_is_sent_again_in_the_order_in_which_it_was_decided() {
    let stage = Stage::new();
    stage.journal(&stamped(story(), 0, 0));
    let recovered = stage.recover(&Seen::default());
    let mut saved = recovered.watch.snapshot();
    let mut one = saved.pending.remove(0);
    let keys = ["I-9/9/ops", "I-9/10/ops", "I-10/1/ops", "I-9/11/ops"];
    for key in keys {
        one.key = key.to_owned();
        saved.pending.push(one.clone());
    }
    checkpoint::write(stage.dir.path(), &saved).unwrap();
    drop(recovered);
    let seen = Seen::default();
    let again = stage.recover(&seen).watch;
    again.send_pending();
    assert_eq!(seen.sent(), keys);
    let kept = again.snapshot().pending.into_iter().map(|one| one.key);
    assert_eq!(kept.collect::<Vec<_>>(), keys, "also over the next restart");
}

/// Panics at one input.
fn panics(engine: &mut Engine, at: At, input: Input) -> Vec<Effect> {
    assert!(!matches!(&input, Input::Server(notice) if notice.subject == "boom"));
    engine.step(at, input)
}

fn boom() -> Input {
    Input::Server(Notice {
        subject: "boom".to_owned(),
        text: "x".to_owned(),
        critical: false,
    })
}

#[test]
fn poison_is_passed_over_now_and_after_a_restart() {
    let mut story = story();
    story[3].insert(1, boom());
    story.last_mut().unwrap().push(boom());
    let groups = stamped(story, 0, 0);
    let poisoned = [
        groups[3].at.position + 1,
        groups.last().unwrap().last_position(),
    ];
    let stage = Stage::new();
    let seen = Seen::default();
    let recovered = stage.recover_with(&seen, panics);
    let written = stage.journal(&groups);
    stage.run(recovered, written);
    let skip = checkpoint::read_summed(&stage.dir.path().join("journal/skip"));
    let skip = skip.unwrap().unwrap();
    assert_eq!(skip, format!("{}\n{}\n", poisoned[0], poisoned[1]));
    let told = seen.notices.lock().unwrap().clone();
    let told = told.iter().filter(|notice| notice.subject == "poison");
    assert_eq!(told.count(), 2);
    assert_eq!(seen.sent().len(), 1, "what comes of the others leaves once");

    for kept in [true, false] {
        if !kept {
            std::fs::remove_dir_all(stage.dir.path().join("checkpoint")).unwrap();
        }
        let again = stage.recover_with(&seen, panics);
        assert_eq!(
            stage.samples(&again.watch),
            ((0..7).map(|i| 10 * i).collect(), 0)
        );
        // The position of the one passed over is taken: the next input must not get it.
        assert_eq!(again.at.position, poisoned[1]);
        assert_eq!(again.damage, [""; 0]);
    }
    // A start that meets the poison itself: after a crash before the skip was written.
    std::fs::remove_file(stage.dir.path().join("journal/skip")).unwrap();
    let again = stage.recover_with(&seen, panics);
    assert_eq!(
        again.watch.skip.iter().copied().collect::<Vec<u64>>(),
        poisoned
    );
    assert_eq!(again.watch.notices.len(), 2, "told as soon as it runs");
}

#[test]
fn a_journal_that_lost_its_end_hides_nothing_that_comes_after() {
    let stage = Stage::new();
    let groups = stamped(story(), 0, 0);
    let recovered = stage.recover(&Seen::default());
    let written = stage.journal(&groups);
    stage.run(recovered, written);
    std::fs::remove_dir_all(stage.dir.path().join("journal")).unwrap();

    let seen = Seen::default();
    let recovered = stage.recover(&seen);
    assert!(recovered.damage[0].contains("the end of the journal is lost"));
    let last = recovered.at.position;
    let back = stamped(vec![vec![sample(8, 300)], vec![sample(9, 310)]], 30, last);
    let written = stage.journal(&back);
    assert_eq!(written[0].frame, 1, "frames begin anew");
    stage.run(recovered, written);
    let sent = seen.sent().len();
    assert!(sent > 0, "the host is back: somebody is told");
    let again = stage.recover(&seen);
    assert_eq!(again.damage, [""; 0]);
    assert_eq!(again.held.last(HOST, 5), 9);
    assert_eq!(stage.samples(&again.watch).0.len(), 9);
}

#[test]
fn a_schema_that_history_lost_is_asked_for_again() {
    let stage = Stage::new();
    stage.journal(&stamped(story(), 0, 0));
    let schema = Schema::new(vec![series()]).id();
    let recovered = stage.recover(&Seen::default());
    assert!(recovered.held.has_schema(HOST, schema));
    stage.run(recovered, Vec::new());
    std::fs::remove_dir_all(stage.dir.path().join("history/schemas")).unwrap();
    assert!(
        !stage
            .recover(&Seen::default())
            .held
            .has_schema(HOST, schema)
    );
}

/// A storm of log lines on a disk that takes no hour file: tried every 20 s, not with each group.
#[test]
fn a_heavy_head_that_cannot_be_sealed_is_not_written_again_and_again() {
    let (stage, seen) = (Stage::new(), Seen::default());
    let mut watch = stage.recover(&seen).watch;
    let groups = stamped(vec![vec![Input::Tick]; 37], 0, 0);
    let body = EventBody::Line(Line {
        text: "x".repeat(64 * 1024),
        ..Line::default()
    });
    let time = at(0);
    let event = Event { time, body };
    for position in 1.. {
        let row = EventRow::of(&event, time, position);
        watch.tools.history.push_event(HOST, row, 0);
        if watch.tools.history.is_heavy() {
            break;
        }
    }
    let [here, aside] = ["history", "aside"].map(|name| stage.dir.path().join(name));
    std::fs::rename(&here, &aside).unwrap();
    let mut turn = |written: Written| {
        watch.turn(&written).unwrap();
        watch.finish_seal().unwrap();
        watch.tools.history.is_heavy()
    };
    let mut groups = stage.journal(&groups);
    let last = groups.pop().unwrap();
    // Six minutes, a group every ten seconds.
    for written in groups {
        assert!(turn(written), "it cannot be sealed");
    }
    let told = seen.notices.lock().unwrap().clone();
    assert!(
        told.iter().all(|notice| notice.text.contains("history")),
        "{told:?}"
    );
    assert_eq!(told.len(), 18, "{told:?}");
    std::fs::rename(&aside, &here).unwrap();
    assert!(!turn(last), "it is, once it can be");
}

#[test]
fn a_later_version_is_refused() {
    let stage = Stage::new();
    let recovered = stage.recover(&Seen::default());
    let mut later = recovered.watch.snapshot();
    later.engine[4..6].copy_from_slice(&999u16.to_le_bytes());
    checkpoint::write(stage.dir.path(), &later).unwrap();
    drop(recovered);
    let tools = stage.tools(&Seen::default(), Engine::step);
    let error = recover(tools, stage.log().next_position()).unwrap_err();
    assert!(matches!(error, Error::Version(_)), "{error}");
}
