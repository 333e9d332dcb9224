//! Hosts that were erased: nothing of them is shown from the moment on when [`History::erase`] returns, and their rows and
//! events leave the files file by file, each written anew without them and put in place of the old one.
//!
//! `history/erased` holds one line a host: its id, and `open` or `done`; then a checksum. It is written before anything is removed, so a crash
//! at any point is gone on from; a host that is done stays in it, for a checkpoint of before may hold its rows.
//!
//! Caveats: a file that cannot be opened is left as it is, and named. `pre-upgrade/` and `after-upgrade/` are left alone: they are
//! the state of before, as a backup is; a rollback that keeps hosts and people erases them anew, from identity. The names of series (`schemas/`) are everybody's: a host
//! that its neighbours pinged stands there as the target of their pings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dawnwatch_proto::HostId;

use super::head::HostRows;
use super::summary::file::{self, SummaryAt};
use super::{Error, History, hour};

/// The list of them.
pub(crate) const FILE: &str = "erased";

/// Reads the list of erased hosts, and whether the files of each are done.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<HostId, bool>, String> {
    let text = crate::checkpoint::read_summed(path)?.unwrap_or_default();
    let mut hosts = BTreeMap::new();
    for line in text.lines() {
        let known = line.split_once(' ').and_then(|(id, state)| {
            let done = ["open", "done"].iter().position(|word| *word == state)? == 1;
            Some((id.parse().ok()?, done))
        });
        let (id, done) = known.ok_or_else(|| format!("{line:?} is no line of it"))?;
        hosts.insert(id, done);
    }
    Ok(hosts)
}

/// Erased hosts, and how far their files are.
#[derive(Debug, Default)]
pub(super) struct Erased {
    /// Whether a host's files are done.
    hosts: RwLock<BTreeMap<HostId, bool>>,
    /// Whoever writes, replaces or removes files holds it: an hour that is being sealed is then seen by who looks for a host.
    work: Mutex<()>,
    done: AtomicU64,
    total: AtomicU64,
    /// Checkpoints that are to be written soon.
    checkpoints: AtomicU8,
}

impl Erased {
    /// Reads the list; where there is none, nobody was erased.
    pub(super) fn open(dir: &Path) -> Result<Erased, String> {
        Ok(Erased {
            hosts: RwLock::new(read(&dir.join(FILE))?),
            ..Erased::default()
        })
    }

    pub(super) fn work(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> BTreeMap<HostId, bool> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.clone()
    }

    fn change(&self, dir: &Path, hosts: BTreeMap<HostId, bool>) -> Result<(), Error> {
        let word = |done: &bool| if *done { "done" } else { "open" };
        let lines = hosts
            .iter()
            .map(|(id, done)| format!("{id} {}\n", word(done)));
        let (path, text) = (
            dir.join(FILE),
            crate::checkpoint::summed(&lines.collect::<String>()),
        );
        crate::checkpoint::replace(&path, text.as_bytes()).map_err(|source| {
            let what = "write";
            Error::Io { what, path, source }
        })?;
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
        Ok(())
    }
}

/// A file that a host may be in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holding {
    /// The hour file up to this journal position.
    Raw(u64),
    /// A summary file.
    Summary(SummaryAt),
}

impl History {
    /// Forgets a host: durably noted, then gone from everything that is read. Its files follow.
    ///
    /// # Errors
    /// Where that cannot be noted.
    pub fn erase(&self, host: HostId) -> Result<(), Error> {
        if !self.is_erased(host) {
            let mut hosts = self.erased.all();
            hosts.insert(host, false);
            self.erased.change(&self.dir, hosts)?;
        }
        self.head().erase(host);
        Ok(())
    }

    /// Whether a host was erased.
    #[must_use]
    pub fn is_erased(&self, host: HostId) -> bool {
        let hosts = self.erased.hosts.read();
        let hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        hosts.contains_key(&host)
    }

    /// All hosts that were erased.
    #[must_use]
    pub fn erased(&self) -> BTreeSet<HostId> {
        self.erased.all().into_keys().collect()
    }

    /// Those whose files are not done.
    #[must_use]
    pub fn erasing(&self) -> BTreeSet<HostId> {
        let all = self.erased.all().into_iter();
        all.filter(|(_, done)| !done).map(|(id, _)| id).collect()
    }

    /// How far it is, in words; none where nothing is to be done.
    #[must_use]
    pub fn erasing_told(&self) -> Option<String> {
        let hosts = self.erasing().len();
        let (done, total) = (&self.erased.done, &self.erased.total);
        let (done, total) = (done.load(Ordering::Relaxed), total.load(Ordering::Relaxed));
        (hosts > 0).then(|| {
            format!("erasing {hosts} of the hosts: {done} of {total} files looked through")
        })
    }

    /// Notes that hosts are in no file any more.
    ///
    /// # Errors
    /// Where that cannot be noted: they are looked for again after the next start.
    pub(crate) fn erase_done(&self, hosts: &BTreeSet<HostId>) -> Result<(), Error> {
        let mut all = self.erased.all();
        for (id, done) in &mut all {
            *done = *done || hosts.contains(id);
        }
        self.erased.change(&self.dir, all)?;
        self.erased.checkpoints.store(2, Ordering::Release);
        Ok(())
    }

    /// Whether a checkpoint is to be written, so that those of before go.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let less = |left: u8| left.checked_sub(1);
        let left = &self.erased.checkpoints;
        left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
    }

    /// The files that these hosts may be in: hour files that hold them, and all summaries, which are looked at one by one.
    pub(crate) fn holding(&self, hosts: &BTreeSet<HostId>) -> Vec<Holding> {
        let holds = |file: &hour::HourFile| {
            let hosts = hosts.iter();
            let mut held = hosts.filter(|id| {
                !file.blocks_of(**id).is_empty() || !file.events_of(Some(**id)).is_empty()
            });
            held.next().is_some()
        };
        let _work = self.erased.work();
        let files = self.files();
        let raw = files.iter().filter(|file| holds(file));
        let mut out: Vec<Holding> = raw.map(|file| Holding::Raw(file.footer.through)).collect();
        out.extend(self.summaries().values().copied().map(Holding::Summary));
        self.erased.done.store(0, Ordering::Relaxed);
        self.erased.total.store(out.len() as u64, Ordering::Relaxed);
        out
    }

    /// Writes a file anew without these hosts, if they are in it. Says whether they were.
    ///
    /// # Errors
    /// Where it cannot be read or written: the old one stays.
    pub(crate) fn write_without(
        &self,
        holding: Holding,
        hosts: &BTreeSet<HostId>,
    ) -> Result<bool, Error> {
        self.erased.done.fetch_add(1, Ordering::Relaxed);
        let _work = self.erased.work();
        match holding {
            Holding::Raw(through) => {
                let files = self.files();
                // Gone: its time was over meanwhile.
                let Some(old) = files.iter().find(|file| file.footer.through == through) else {
                    return Ok(false);
                };
                let new = Arc::new(hour::write_without(old, |host| hosts.contains(&host))?);
                let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
                for file in Arc::make_mut(&mut files) {
                    if file.footer.through == through {
                        *file = Arc::clone(&new);
                    }
                }
                Ok(true)
            }
            Holding::Summary(at) => {
                let made = file::write_without(&self.dir, &at, |host| hosts.contains(&host));
                let raw = |file: &Arc<hour::HourFile>| file.footer.through == at.through;
                match made {
                    // Its hour, which was written anew before it, makes it anew after the next sealing, maybe under another name.
                    Err(Error::Damaged { .. }) if self.files().iter().any(raw) => {
                        self.forget(&at);
                        file::remove(&self.dir, &at)?;
                        Ok(true)
                    }
                    made => made,
                }
            }
        }
    }

    /// What is to be sealed, without hosts that were erased since it was put aside.
    pub(super) fn sealable(&self, sealing: &super::Sealing) -> super::Sealing {
        if !sealing.keys().any(|host| self.is_erased(*host)) {
            return Arc::clone(sealing);
        }
        let kept = sealing.iter().filter(|(host, _)| !self.is_erased(**host));
        let kept: BTreeMap<HostId, HostRows> =
            kept.map(|(host, rows)| (*host, rows.clone())).collect();
        Arc::new(kept)
    }
}
