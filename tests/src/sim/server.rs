//! The server: the product's journal, watch and the sans-IO half of its streams, on a simulated disk.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use dawnwatch_engine::effect::Notification;
use dawnwatch_engine::input::{Delivered, HostCard, Input, Notice, Outcome, Started};
use dawnwatch_engine::{Config, Engine};
use dawnwatch_proto::{HostId, Item, pb};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, Log, Options};
use dawnwatch_server::clock::{Clock, Stamper};
use dawnwatch_server::history::History;
use dawnwatch_server::ingest::{Talk, Took};
use dawnwatch_server::journal::{self, Heard, Journal, Release, Submit, Written};
use dawnwatch_server::published::Published;
use dawnwatch_server::reserve::Reserve;
use dawnwatch_server::vitals::Gauges;
use dawnwatch_server::watch::{Recovered, Tools, Watch, recover};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::agent::Agent;
use super::lying::lying;
use super::oracle::Oracle;
use super::{Lie, Trace};
use crate::chance::Chance;

/// Small segments, so that a run has many.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// Acknowledgements that wait for their minute are looked at this often.
const CHECKS_MS: u64 = 4_000;

/// What the server's clocks say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// True time since the run began.
    pub(super) ms: u64,
    pub(super) wall: Timestamp,
    pub(super) boot_ms: u64,
}

/// One stream at the server's end.
struct Session {
    host: HostId,
    talk: Option<Talk>,
    /// The hello, and what is held of it, once the journal says so.
    asked: Option<(pb::Hello, oneshot::Receiver<Vec<u64>>)>,
    stream: Arc<journal::Stream>,
    durable: mpsc::UnboundedReceiver<Heard>,
    checks_ms: u64,
}

/// A server that runs.
struct Life {
    journal: Journal,
    groups: Receiver<Written>,
    release: Release,
    watch: Watch,
    history: Arc<History>,
    /// Durable, and not judged yet.
    behind: VecDeque<Written>,
    inbox: Vec<Submit>,
    sessions: BTreeMap<u64, Session>,
    /// Messages that a receiver will confirm.
    confirms: Vec<(u64, String)>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

/// The server's machine.
pub(super) struct Server {
    pub(super) disk: SimDisk,
    lie: Lie,
    dir: tempfile::TempDir,
    cards: Vec<HostCard>,
    life: Option<Life>,
    pub(super) up_ms: u64,
    pub(super) room_ms: u64,
    /// Its wall clock minus the true one, milliseconds.
    pub(super) off_ms: i64,
    /// `CLOCK_BOOTTIME` minus the true time, milliseconds.
    pub(super) boot_ms: i64,
    sent: Arc<Mutex<Vec<Notification>>>,
    pub(super) oracle: Oracle,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(super) fn new(lie: Lie, cards: Vec<HostCard>, chance: &mut Chance) -> Server {
        Server {
            disk: SimDisk::new(chance.below(u64::MAX)),
            lie,
            dir: tempfile::tempdir().expect("a temporary directory"),
            cards,
            life: None,
            up_ms: 0,
            room_ms: 0,
            off_ms: 0,
            boot_ms: 5_000_000,
            sent: Arc::default(),
            oracle: Oracle::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    fn wall_disk(&self) -> Arc<dyn Disk> {
        if self.lie == Lie::SyncDoesNothing {
            lying(self.disk.clone())
        } else {
            Arc::new(self.disk.clone())
        }
    }

    /// Starts it: recovery, and the check of what it recovered. A disk that fails just then is tried again later.
    pub(super) fn start(&mut self, now: Now, config: &Config, trace: &mut Trace) {
        match self.try_start(now, config) {
            Ok((life, recovered)) => {
                self.oracle
                    .recovered(&self.disk, self.dir.path(), &recovered, trace);
                let Recovered { watch, at, .. } = &recovered;
                watch.send_pending();
                trace.note(&format!("{} server up at {}", now.ms, at.position));
                self.life = Some(life(recovered));
                self.heed(now, trace);
            }
            Err(why) => {
                trace.note(&format!("{} server does not start: {why}", now.ms));
                if self.disk_is_sound() {
                    trace.wrong(format!("the server does not start: {why}"));
                }
                self.up_ms = now.ms + 3_000;
            }
        }
    }

    fn disk_is_sound(&self) -> bool {
        self.room_ms == 0 && self.oracle.fired(&self.disk) == 0
    }

    #[allow(
        clippy::type_complexity,
        reason = "the rest of a start, once recovery is checked"
    )]
    fn try_start(
        &mut self,
        now: Now,
        config: &Config,
    ) -> Result<(impl FnOnce(Recovered) -> Life + use<>, Recovered), String> {
        let (disk, data) = (self.wall_disk(), self.dir.path());
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            ..journal::options()
        };
        let said = |error: &dyn std::fmt::Display| without(data, error);
        let opened = Log::open(Arc::clone(&disk), &data.join("journal"), options);
        let (log, _) = opened.map_err(|error| said(&error))?;
        let (history, _) = History::open(&disk, data).map_err(|error| said(&error))?;
        let history = Arc::new(history);
        let (release, notices) = (Release::default(), Arc::<Mutex<Vec<Notice>>>::default());
        let (sent, told) = (Arc::clone(&self.sent), Arc::clone(&notices));
        let gauges = Arc::new(Gauges::new(data));
        // The real one gives room on a real disk.
        let reserve = Arc::new(Reserve::none());
        let tools = Tools {
            disk,
            data: data.to_owned(),
            history: Arc::clone(&history),
            published: Arc::new(Published::new(
                Engine::new().view(now.wall),
                Vec::new(),
                Arc::clone(&reserve),
            )),
            notify: Box::new(move |one| lock(&sent).push(one)),
            notice: Box::new(move |notice| {
                lock(&told).push(notice);
                true
            }),
            release: Arc::clone(&release),
            // A full disk is an error that ends the process, for nobody else gives room while this thread waits.
            stopping: Arc::new(true.into()),
            poke: Arc::default(),
            step: Engine::step,
            gauges: Arc::clone(&gauges),
        };
        let recovered = recover(tools, log.next_position()).map_err(|error| said(&error))?;
        let inbox = introduce(config, &self.cards, &recovered);
        let life = move |recovered: Recovered| {
            let (to, groups) = sync_channel(journal::GROUPS);
            let journal = Journal {
                log,
                stamper: Stamper::after(recovered.at, now.wall, now.boot_ms),
                held: recovered.held,
                clock: Clock,
                groups: to,
                refusing: false,
                gauges,
                reserve,
            };
            Life {
                journal,
                groups,
                release,
                watch: recovered.watch,
                history,
                behind: VecDeque::new(),
                inbox,
                sessions: BTreeMap::new(),
                confirms: Vec::new(),
                notices,
            }
        };
        Ok((life, recovered))
    }

    /// A new stream of a host.
    pub(super) fn connected(&mut self, link: u64, host: HostId) {
        let Some(life) = &mut self.life else { return };
        let (stream, durable) = journal::Stream::new();
        let session = Session {
            host,
            talk: None,
            asked: None,
            stream,
            durable,
            checks_ms: 0,
        };
        life.sessions.insert(link, session);
    }

    /// A stream is over at this end.
    pub(super) fn disconnected(&mut self, link: u64) {
        if let Some(life) = &mut self.life {
            life.sessions.remove(&link);
        }
    }

    /// Whether this end knows the stream.
    pub(super) fn knows(&self, link: u64) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| life.sessions.contains_key(&link))
    }

    /// Takes a message of a stream; an acknowledgement where the server lies, or why the stream ends.
    pub(super) fn take(
        &mut self,
        link: u64,
        message: pb::FromAgent,
        now: Now,
    ) -> Result<Option<pb::Ack>, String> {
        let Some(life) = &mut self.life else {
            return Err("nobody is there".to_owned());
        };
        let Some(session) = life.sessions.get_mut(&link) else {
            return Err("no such stream".to_owned());
        };
        let Some(talk) = &mut session.talk else {
            let hello = Talk::hello(Some(message)).map_err(|status| status.to_string())?;
            let epochs = hello.epochs.iter().map(|epoch| epoch.id).collect();
            let (reply, held) = oneshot::channel();
            life.inbox.push(Submit::Held(session.host, epochs, reply));
            session.asked = Some((hello, held));
            return Ok(None);
        };
        let mut lied = None;
        if self.lie == Lie::AckBeforeSync
            && let Some(pb::from_agent::Body::Batch(batch)) = &message.body
        {
            let seq = batch.first_seq + u64::try_from(batch.items.len()).unwrap_or(0) - 1;
            lied = Some(pb::Ack {
                epoch: batch.epoch,
                seq,
                server_wall_ms: 0,
                least_ms: None,
            });
        }
        match talk
            .take(message, now.wall)
            .map_err(|status| status.to_string())?
        {
            Some(Took::Ordered(mut input)) => {
                if self.lie == Lie::GapForgotten {
                    forget_gaps(&mut input);
                }
                let submit = Submit::Stream(Box::new(input), Arc::clone(&session.stream), None);
                life.inbox.push(submit);
            }
            Some(Took::Beside(input)) => life.inbox.push(Submit::Input(Box::new(input), None)),
            None => {}
        }
        Ok(lied)
    }

    /// The journal takes what has come as one group. What each stream is told then; none where its process ended.
    pub(super) fn commit(&mut self, now: Now, trace: &mut Trace) -> Vec<(u64, Told)> {
        let Some(life) = &mut self.life else {
            return Vec::new();
        };
        for notice in lock(&life.notices).drain(..) {
            life.inbox
                .push(Submit::Input(Box::new(Input::Server(notice)), None));
        }
        life.confirms.retain(|(due_ms, key)| {
            let is_due = *due_ms <= now.ms;
            if is_due {
                let delivered = Delivered {
                    key: key.clone(),
                    outcome: Outcome::Arrived,
                    answer: "ok".to_owned(),
                };
                let input = Box::new(Input::Delivered(delivered));
                life.inbox.push(Submit::Input(input, None));
            }
            !is_due
        });
        life.inbox.push(Submit::Input(Box::new(Input::Tick), None));
        if self.lie == Lie::NoDedupe {
            life.journal.held = journal::Held::default();
        }
        let submits = std::mem::take(&mut life.inbox);
        let below = life.release.load(std::sync::atomic::Ordering::Acquire);
        let done = life.journal.turn(submits, now.wall, now.boot_ms);
        let done = done.and_then(|()| Ok(life.journal.log.release(below)?));
        while let Ok(written) = life.groups.try_recv() {
            self.oracle.journalled(&written, trace);
            life.behind.push_back(written);
        }
        if let Err(error) = done {
            let why = without(self.dir.path(), &error);
            trace.note(&format!("{} the journal ended: {why}", now.ms));
            self.kill(now.ms + 2_000);
            return Vec::new();
        }
        let sessions = life.sessions.iter_mut();
        sessions
            .flat_map(|(link, session)| session.hears(*link, now))
            .collect()
    }

    /// The watch judges one group that waits, or all; its process ends where a disk fails.
    pub(super) fn judge(&mut self, all: bool, now: Now, chance: &mut Chance, trace: &mut Trace) {
        while let Some(life) = &mut self.life {
            let Some(written) = life.behind.pop_front() else {
                return;
            };
            let judged = life.watch.turn(&written);
            // The thread that seals an hour is waited for: which of the two is first would be chance of another kind.
            let judged = judged.and_then(|()| life.watch.finish_seal());
            for key in self.heed(now, trace) {
                if let Some(life) = &mut self.life
                    && chance.one_in(2)
                {
                    life.confirms.push((now.ms + chance.below(30_000), key));
                }
            }
            if let Err(error) = judged {
                let why = without(self.dir.path(), &error);
                trace.note(&format!("{} the watch ended: {why}", now.ms));
                self.kill(now.ms + 2_000);
            }
            if !all {
                return;
            }
        }
    }

    /// The oracle hears of what was sent.
    fn heed(&mut self, now: Now, trace: &mut Trace) -> Vec<String> {
        let sent = std::mem::take(&mut *lock(&self.sent));
        let mut keys = Vec::new();
        for one in sent {
            trace.note(&format!("{} sent {}", now.ms, one.key));
            if self.lie == Lie::MessageForgotten && self.oracle.is_first(&one.key) {
                continue;
            }
            keys.push(one.key.clone());
            self.oracle.sent(&one, trace);
        }
        keys
    }

    /// Killed: what waits in memory is gone.
    pub(super) fn kill(&mut self, up_ms: u64) {
        self.life = None;
        self.up_ms = up_ms;
    }

    /// Stopped on purpose: everything is judged, and a checkpoint written.
    pub(super) fn stop(&mut self, now: Now, chance: &mut Chance, trace: &mut Trace) {
        self.commit(now, trace);
        self.judge(true, now, chance, trace);
        if let Some(life) = &mut self.life
            && let Err(error) = life.watch.end()
        {
            let why = without(self.dir.path(), &error);
            trace.note(&format!("{} the watch did not end well: {why}", now.ms));
        }
        self.heed(now, trace);
        self.kill(now.ms + 2_000);
    }

    /// The power of its machine is cut.
    pub(super) fn power_cut(&mut self, now_ms: u64) {
        self.kill(now_ms + 5_000);
        self.disk.power_cut();
        self.boot_ms = 20_000 - now_ms.cast_signed();
    }

    /// The run is over: everything is compared.
    pub(super) fn end(&mut self, agents: &[Agent], trace: &mut Trace) {
        let Some(life) = &self.life else {
            trace.wrong("the server did not come up in the end".to_owned());
            return;
        };
        let (disk, data) = (&self.disk, self.dir.path());
        self.oracle.end(agents, disk, data, &life.history, trace);
    }
}

/// What a stream hears of the journal.
#[derive(Debug)]
pub(super) enum Told {
    Welcome(pb::Welcome),
    Ack(pb::Ack),
    /// It ends.
    End,
}

impl Session {
    fn hears(&mut self, link: u64, now: Now) -> Vec<(u64, Told)> {
        let mut told = Vec::new();
        if let Some((hello, held)) = &mut self.asked
            && let Ok(held) = held.try_recv()
        {
            self.talk = Some(Talk::new(self.host, hello, &held, now.wall));
            let welcome = pb::Welcome {
                server_wall_ms: now.wall.as_millisecond(),
                held,
                ..pb::Welcome::default()
            };
            told.push((link, Told::Welcome(welcome)));
            self.asked = None;
        }
        let Some(talk) = &mut self.talk else {
            return told;
        };
        while let Ok(heard) = self.durable.try_recv() {
            match talk.durable(heard, now.boot_ms, now.wall) {
                Ok(acks) => told.extend(acks.into_iter().map(|ack| (link, Told::Ack(ack)))),
                Err(_) => told.push((link, Told::End)),
            }
        }
        if now.ms >= self.checks_ms {
            self.checks_ms = now.ms + CHECKS_MS;
            let ack = talk.ack(false, now.boot_ms, now.wall);
            told.extend(ack.map(|ack| (link, Told::Ack(ack))));
        }
        told
    }
}

fn introduce(config: &Config, cards: &[HostCard], recovered: &Recovered) -> Vec<Submit> {
    let started = Started {
        version: "0".to_owned(),
        clean: false,
        last_up: (recovered.at.position > 0).then_some(recovered.at.wall),
    };
    let mut inputs = vec![
        Input::Config(Box::new(config.clone())),
        Input::Started(started),
    ];
    inputs.extend(cards.iter().cloned().map(Input::Host));
    let submits = inputs.into_iter();
    submits
        .map(|input| Submit::Input(Box::new(input), None))
        .collect()
}

/// What an error says, without the name of a directory that is another one in each run.
fn without(dir: &Path, error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(&dir.display().to_string(), "")
}

/// The lie of a spool that forgets how much it dropped.
fn forget_gaps(input: &mut Input) {
    let Input::Batch(batch) = input else { return };
    for item in &mut batch.items {
        if let Item::Gap(gap) = item {
            (gap.ticks, gap.events) = (0, 0);
        }
    }
}
