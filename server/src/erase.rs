//! Takes erased hosts out of what is on disk, in the background: hour files and summaries, the index, the evidence of sealed
//! nights. Identity, the engine and what is read have forgotten them before this begins.
//!
//! Ledger and sealed reviews stay as they are: their hashes are what makes them proof. The names of before are read out of the
//! ledger, for they are nowhere else any more; so this can be done anew from the start after a crash at any point, and a file
//! that is done already is passed over. What the ledger says of evidence that was written anew is journalled before the file
//! is replaced.
//!
//! At the end the journal begins a segment and the watch writes two checkpoints, so that neither holds anything of before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::effect::{ERASED, Effect, Entry};
use dawnwatch_engine::input::{Act, Input, Order};
use dawnwatch_engine::scrub::Scrub;
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::Evidence;
use dawnwatch_segment::Disk;
use tokio::sync::{mpsc, oneshot};

use crate::history::erased::Holding;
use crate::history::{self, History};
use crate::index::Index;
use crate::journal::Submit;
use crate::ledger;
use crate::nights::{self, evidence};

/// Somebody who erases a host waits no longer than this for the work to begin.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What failed is tried again after this: a full disk, as a rule.
const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// So often the ledger is asked anew at once whether it tells of the host yet; it is read from its start each time.
const SOON_TIMES: u32 = 20;

/// A pause after each file that was written anew: nobody waits for this work, and others wait for the disk.
const PAUSE: Duration = Duration::from_millis(20);

/// Files that stay as they are and are named; the rest is counted, `verify` names all.
const LEFT_TOLD: usize = 8;

/// Why the work cannot go on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Night(#[from] nights::Error),
    #[error("the index was not put away in time")]
    Index,
    /// The ledger does not say yet that the host was erased, or the server stops.
    #[error("not yet")]
    NotYet,
}

/// What is worked with.
pub(crate) struct Eraser {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) data: PathBuf,
    pub(crate) history: Arc<History>,
    pub(crate) index: Arc<Index>,
    pub(crate) journal: mpsc::Sender<Submit>,
    pub(crate) stopping: Arc<AtomicBool>,
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    raw: usize,
    summaries: usize,
    nights: usize,
    /// Files that could not be read and stay as they are.
    left: Vec<String>,
}

impl Eraser {
    /// Starts the thread; it ends soon after the server is told to stop.
    pub(crate) fn start(self) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("erase".to_owned());
        thread.spawn(move || self.run())
    }

    fn run(&self) {
        let (mut told, mut waited) = (String::new(), 0);
        while !self.stops() {
            let hosts = self.history.erasing();
            let pause = match self.work(&hosts) {
                Ok(()) => {
                    waited = 0;
                    LOOK_EVERY
                }
                Err(Error::NotYet) if waited < SOON_TIMES => {
                    waited += 1;
                    LOOK_EVERY
                }
                Err(Error::NotYet) => AGAIN_EVERY,
                Err(error) => {
                    let error = error.to_string();
                    if told != error {
                        tracing::warn!(error, "erasing hosts goes on later");
                        told = error;
                    }
                    AGAIN_EVERY
                }
            };
            let mut left = pause;
            while !self.stops() && left > Duration::ZERO {
                std::thread::sleep(left.min(LOOK_EVERY));
                left = left.saturating_sub(LOOK_EVERY);
            }
        }
    }

    fn stops(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn work(&self, hosts: &BTreeSet<HostId>) -> Result<(), Error> {
        if hosts.is_empty() {
            return Ok(());
        }
        let scrub = scrub(&self.disk, &self.data, hosts)?.ok_or(Error::NotYet)?;
        let mut done = Done::default();
        for holding in self.history.holding(hosts) {
            if self.stops() {
                return Err(Error::NotYet);
            }
            self.write_without(holding, hosts, &mut done)?;
        }
        for night in evidence::list(&self.data)? {
            if self.stops() {
                return Err(Error::NotYet);
            }
            self.evidence_without(&night, &scrub, &mut done)?;
        }
        if !self.index.anew(|| self.stops()) {
            return Err(Error::Index);
        }
        let what = done.told(hosts.len());
        tracing::info!(what, "erased");
        self.submit(Act::Noted {
            about: String::new(),
            what,
        })?;
        // What came in before goes with the journal's segments, once two checkpoints are later.
        let (reply, rotated) = oneshot::channel();
        let sent = self.journal.blocking_send(Submit::Rotate(reply));
        sent.map_err(|_| Error::NotYet)?;
        rotated.blocking_recv().map_err(|_| Error::NotYet)?;
        Ok(self.history.erase_done(hosts)?)
    }

    fn write_without(
        &self,
        holding: Holding,
        hosts: &BTreeSet<HostId>,
        done: &mut Done,
    ) -> Result<(), Error> {
        match self.history.write_without(holding, hosts) {
            Ok(false) => return Ok(()),
            Ok(true) => match holding {
                Holding::Raw(_) => done.raw += 1,
                Holding::Summary(_) => done.summaries += 1,
            },
            // Nobody reads out of it any more, and no later try will.
            Err(error @ history::Error::Damaged { .. }) => done.left.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// The ledger is told the new hash before the file has it: a crash in between leaves the work to be done again, and the
    /// entry before the last is that of nothing.
    fn evidence_without(&self, night: &str, scrub: &Scrub, done: &mut Done) -> Result<(), Error> {
        let read = match evidence::read(&self.data, night) {
            Err(error) if is_damaged(&error) => {
                done.left.push(error.to_string());
                return Ok(());
            }
            read => read?,
        };
        let Some(mut kept) = read else {
            return Ok(());
        };
        let before = kept.clone();
        without(&mut kept, scrub);
        if kept == before {
            return Ok(());
        }
        let (bytes, hash) = nights::canonical(&kept);
        let night = night.to_owned();
        self.submit(Act::Rewritten {
            night: night.clone(),
            hash,
        })?;
        evidence::write(&self.data, &night, &bytes)?;
        done.nights += 1;
        Ok(())
    }

    /// Journals what was done, durably.
    fn submit(&self, act: Act) -> Result<(), Error> {
        let by = "server".to_owned();
        let input = Input::Order(Order { by, act });
        let (reply, durable) = oneshot::channel();
        let sent = self
            .journal
            .blocking_send(Submit::Input(Box::new(input), Some(reply)));
        sent.map_err(|_| Error::NotYet)?;
        match durable.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            // A full disk, or the server stops: all of it again, later.
            Ok(Err(_)) | Err(_) => Err(Error::NotYet),
        }
    }
}

/// Whether no later try will read it.
fn is_damaged(error: &nights::Error) -> bool {
    match error {
        nights::Error::Damaged { .. } => true,
        nights::Error::Io { source, .. } => {
            source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
    }
}

impl Done {
    fn told(&self, hosts: usize) -> String {
        let Done {
            raw,
            summaries,
            nights,
            left,
        } = self;
        let mut text = format!(
            "hosts erased from the files: {hosts}; written anew: {raw} hour files, {summaries} summary files, evidence of {nights} nights; index made anew"
        );
        if !left.is_empty() {
            let told = left.get(..LEFT_TOLD).unwrap_or(left);
            text.push_str(&format!("; left as they are: {}", told.join("; ")));
            if left.len() > told.len() {
                text.push_str(&format!("; and {} more", left.len() - told.len()));
            }
        }
        text
    }
}

/// Takes the hosts out of what a night kept of its findings.
fn without(kept: &mut Evidence, scrub: &Scrub) {
    for finding in &mut kept.findings {
        if scrub.has(finding.incident.host) {
            finding.series.clear();
            finding.lines.clear();
        }
        scrub.incident(&mut finding.incident);
        scrub.lines(&mut finding.lines);
        scrub.texts(finding.series.iter_mut().map(|series| &mut series.series));
    }
}

/// The names that these hosts went by, out of the ledger; none where it does not say of all of them that they were erased.
pub(crate) fn scrub(
    disk: &Arc<dyn Disk>,
    data: &Path,
    hosts: &BTreeSet<HostId>,
) -> Result<Option<Scrub>, ledger::Error> {
    let mut names: Vec<(HostId, String)> = Vec::new();
    let mut scrub = Scrub::default();
    ledger::walk_from(disk, data, 1, u64::MAX, |seen| {
        for effect in seen.of.effects {
            let Effect::Record(Entry::Host { id, name, what }) = effect else {
                continue;
            };
            if !hosts.contains(&id) {
                continue;
            }
            if what == ERASED {
                scrub.host(id, &name);
            } else if names.last().is_none_or(|last| *last != (id, name.clone())) {
                names.push((id, name));
            }
        }
        Ok::<(), ledger::Error>(())
    })?;
    for (id, name) in &names {
        scrub.name(*id, name);
    }
    Ok(hosts.iter().all(|id| scrub.has(*id)).then_some(scrub))
}
