//! What a simulated disk remembers, and how it forgets.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Call, Failure};
use crate::frame::wide;

/// Disks write whole sectors.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) chance: u64,
    pub(super) boot: u64,
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) capacity: Option<u64>,
    pub(super) calls: BTreeMap<Call, u64>,
    pub(super) faults: Vec<(Call, u64, Failure)>,
    pub(super) fired: BTreeMap<Call, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What reads show.
    pub(super) cached: Vec<u8>,
    /// What a power cut leaves for certain.
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Put {
        path: PathBuf,
        inode: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: usize,
    },
    Remove {
        path: PathBuf,
    },
}

impl State {
    /// Keeps what is durable and any part of the rest.
    pub(super) fn power_cut(&mut self) {
        self.boot += 1;
        for change in std::mem::take(&mut self.unsynced_names) {
            if dice(&mut self.chance, 2) == 0 {
                apply_name(&mut self.durable_names, &change);
            }
        }
        self.names.clone_from(&self.durable_names);
        for inode in &mut self.inodes {
            for change in std::mem::take(&mut inode.unsynced) {
                apply_part(&mut inode.durable, &change, &mut self.chance);
            }
            inode.cached.clone_from(&inode.durable);
        }
    }

    /// Counts a call and fails it if its turn has come.
    pub(super) fn count(&mut self, call: Call) -> io::Result<()> {
        let calls = self.calls.entry(call).or_default();
        *calls += 1;
        let now = *calls;
        let Some(index) = self
            .faults
            .iter()
            .position(|(c, nth, _)| (*c, *nth) == (call, now))
        else {
            return Ok(());
        };
        let (_, _, failure) = self.faults.swap_remove(index);
        *self.fired.entry(call).or_default() += 1;
        Err(failure.error())
    }

    pub(super) fn inode_of(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    /// Tells how many bytes the capacity leaves for a file from an offset on.
    pub(super) fn room(&self, inode: usize, offset: usize) -> usize {
        let Some(capacity) = self.capacity else {
            return usize::MAX;
        };
        let others = self.names.values().filter(|other| **other != inode);
        let used: u64 = others
            .map(|other| wide(self.inodes[*other].cached.len()))
            .sum();
        let mine = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
        mine.max(self.inodes[inode].cached.len())
            .saturating_sub(offset)
    }

    pub(super) fn reserve(&mut self, inode: usize, end: usize) -> io::Result<()> {
        if end <= self.room(inode, 0) {
            return Ok(());
        }
        *self.fired.entry(Call::Write).or_default() += 1;
        Err(Failure::Enospc.error())
    }
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }
}

impl NameChange {
    pub(super) fn path(&self) -> &Path {
        match self {
            NameChange::Put { path, .. } | NameChange::Remove { path } => path,
            NameChange::Rename { to, .. } => to,
        }
    }
}

impl Failure {
    pub(super) fn error(self) -> io::Error {
        let errno = match self {
            Failure::Eio => rustix::io::Errno::IO,
            Failure::Enospc => rustix::io::Errno::NOSPC,
        };
        errno.into()
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Put { path, inode } => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename { from, to, inode } => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        NameChange::Remove { path } => {
            names.remove(path);
        }
    }
}

pub(super) fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if !bytes.is_empty() && content.len() < end {
                content.resize(end, 0);
            }
            if !bytes.is_empty() {
                content[*offset..end].copy_from_slice(bytes);
            }
        }
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

/// Applies a change wholly, in part, or not at all.
pub(super) fn apply_part(content: &mut Vec<u8>, change: &Change, chance: &mut u64) {
    let fate = dice(chance, 5);
    match change {
        Change::SetLen(_) if fate < 3 => apply(content, change),
        Change::SetLen(_) => {}
        Change::Write { .. } if fate == 0 => {}
        Change::Write { .. } if fate == 1 => apply(content, change),
        Change::Write { offset, bytes } if fate < 4 => {
            let cut = dice(chance, bytes.len() + 1);
            let cut = if fate == 2 {
                cut
            } else {
                cut / SECTOR_BYTES * SECTOR_BYTES
            };
            let bytes = bytes[..cut].to_vec();
            apply(
                content,
                &Change::Write {
                    offset: *offset,
                    bytes,
                },
            );
        }
        Change::Write { offset, bytes } => {
            for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if dice(chance, 2) == 0 {
                    let offset = offset + index * SECTOR_BYTES;
                    apply(
                        content,
                        &Change::Write {
                            offset,
                            bytes: sector.to_vec(),
                        },
                    );
                }
            }
        }
    }
}

pub(super) fn to_memory(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| Failure::Enospc.error())
}

/// Draws a number below `sides` (0 if there are none), by splitmix64.
pub(super) fn dice(chance: &mut u64, sides: usize) -> usize {
    *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *chance;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let below = z % wide(sides).max(1);
    usize::try_from(below).expect("a remainder is below its divisor, which was a usize")
}
