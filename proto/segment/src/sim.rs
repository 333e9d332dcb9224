//! A disk in memory that can lose power and fail, for tests of everything that writes through [`Disk`].
//!
//! It is harsher than most file systems: names are durable only by [`Disk::sync_dir`], never by syncing the file; of
//! what is not synced any part may survive a power cut, in any order, torn at a sector or at a byte; a failed sync
//! forgets some of what it should have written while reads go on showing it, as Linux does. Directories themselves are
//! durable at once. The seed decides everything; same seed and same calls, same fate.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::frame::wide;

mod state;

use state::{Change, Inode, NameChange, State, apply, apply_name, apply_part, dice, to_memory};

/// A call of the [`Disk`] wall that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`DiskFile::write_at`], [`DiskFile::set_len`] and [`DiskFile::preallocate`].
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Input/output error.
    Eio,
    /// No space left on device.
    Enospc,
}

/// The simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    /// The boot in which the file was opened: a power cut ends its handles.
    boot: u64,
}

impl SimDisk {
    /// Makes an empty disk whose fate follows from the seed.
    pub fn new(seed: u64) -> SimDisk {
        let state = State {
            chance: seed,
            ..State::default()
        };
        SimDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Cuts the power and gives it back: keeps what was synced and any part of what was not; open files are dead.
    pub fn power_cut(&self) {
        self.lock().power_cut();
    }

    /// Makes the nth call of a kind from here on fail, counting from 1.
    pub fn fail_nth(&self, call: Call, nth: u64, failure: Failure) {
        let mut state = self.lock();
        let at = state.calls.get(&call).copied().unwrap_or(0) + nth;
        state.faults.push((call, at, failure));
    }

    /// Forgets faults that have not fired.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Limits the bytes of all files together; none lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Tells how often a kind of call was made to fail, by a fault or by the capacity.
    pub fn fired(&self, call: Call) -> u64 {
        self.lock().fired.get(&call).copied().unwrap_or(0)
    }

    /// Tells how often a kind of call was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Gives the content of a file as reads show it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state
            .names
            .get(path)
            .map(|inode| state.inodes[*inode].cached.clone())
    }

    /// Puts a file there, durably, over an existing one: a state to start a test from.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let (cached, durable) = (bytes.to_vec(), bytes.to_vec());
        state.inodes.push(Inode {
            cached,
            durable,
            unsynced: Vec::new(),
        });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_path_buf(), inode);
        state.durable_names.insert(path.to_path_buf(), inode);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: usize, boot: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            state: Arc::clone(&self.state),
            inode,
            boot,
        })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.count(Call::Create)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.change_name(NameChange::Put {
            path: path.to_path_buf(),
            inode,
        });
        Ok(self.handle(inode, state.boot))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock();
        let inode = state.inode_of(path)?;
        Ok(self.handle(inode, state.boot))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = here.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.count(Call::Rename)?;
        let inode = state.inode_of(from)?;
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        state.change_name(NameChange::Rename { from, to, inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.count(Call::Remove)?;
        state.inode_of(path)?;
        state.change_name(NameChange::Remove {
            path: path.to_path_buf(),
        });
        Ok(())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.count(Call::SyncDir)?;
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if change.path().parent() == Some(dir) {
                apply_name(&mut state.durable_names, &change);
            } else {
                state.unsynced_names.push(change);
            }
        }
        Ok(())
    }
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(Failure::Eio.error())
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(wide(self.lock()?.inodes[self.inode].cached.len()))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.lock()?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = state.inodes[self.inode].cached.get(from..).unwrap_or(&[]);
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock()?;
        let offset = to_memory(offset)?;
        let failed = state.count(Call::Write).and_then(|()| {
            let end = offset.saturating_add(bytes.len());
            state.reserve(self.inode, end)
        });
        // A write that fails may have written any part from its start.
        let written = match &failed {
            Ok(()) => bytes.len(),
            Err(_) => dice(&mut state.chance, bytes.len()),
        };
        let room = state.room(self.inode, offset);
        let bytes = bytes[..written.min(room)].to_vec();
        state.inodes[self.inode].change(Change::Write { offset, bytes });
        failed
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.lock()?;
        let failed = state.count(Call::Sync);
        let state = &mut *state;
        let inode = &mut state.inodes[self.inode];
        for change in std::mem::take(&mut inode.unsynced) {
            match &failed {
                Ok(()) => apply(&mut inode.durable, &change),
                Err(_) => apply_part(&mut inode.durable, &change, &mut state.chance),
            }
        }
        failed
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        state.count(Call::Write)?;
        let len = to_memory(len)?;
        state.reserve(self.inode, len)?;
        state.inodes[self.inode].change(Change::SetLen(len));
        Ok(())
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        if len <= self.len()? {
            return Ok(());
        }
        self.set_len(len)
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        let mut state = self.lock()?;
        let inode = &mut state.inodes[self.inode];
        inode.cached.clone_from(&inode.durable);
        for change in &inode.unsynced {
            apply(&mut inode.cached, change);
        }
        Ok(())
    }
}
