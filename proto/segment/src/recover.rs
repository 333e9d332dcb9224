//! Opens a log after whatever happened to it.
//!
//! Only the last segment can have a torn tail: all others were synced before their successors began. Frames behind
//! damage are kept, never cut: they may have been acknowledged, and the damage may be the disk's.

use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::files::{self, SegmentRef};
use crate::log::{Options, SegmentInfo};
use crate::scan::{Scan, Step};

/// What [`crate::Log::open`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The position the next frame will get.
    pub next_position: u64,
    /// What was cut from the end of the last segment.
    pub cut: Option<Cut>,
    /// Damage in the last segment with good frames behind it, as half-open ranges of positions. Older segments are not
    /// read at opening: a [`crate::Reader`] reports theirs.
    pub damage: Vec<(u64, u64)>,
    /// Segments whose header is damaged; their frames are read all the same.
    pub damaged_headers: Vec<String>,
    /// A last segment without sound header and frames, which was made anew.
    pub replaced: Option<String>,
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment file.
    pub segment: String,
    /// The position the first torn frame would have had.
    pub from_position: u64,
    /// The bytes cut, without zeros at the end.
    pub bytes: u64,
}

/// The parts of an open log.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The last one is active.
    pub(crate) segments: Vec<SegmentInfo>,
    pub(crate) file: Box<dyn DiskFile>,
}

/// The last segment as it was found.
struct Last {
    info: SegmentInfo,
    next_position: u64,
    tail_bytes: u64,
    damage: Vec<(u64, u64)>,
}

pub(crate) fn open(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
) -> Result<(Opened, Recovery), Error> {
    disk.create_dir_all(dir)
        .map_err(Error::io("create the directory", dir))?;
    let listing = files::list(disk, dir)?;
    // Every header is looked at before anything is written: data of a newer program must stay untouched.
    let mut segments = Vec::new();
    let mut last = None;
    for (index, segment) in listing.segments.iter().enumerate() {
        match listing.segments.get(index + 1) {
            Some(next) => segments.push(look_at(disk, dir, segment, options, next.first_position)?),
            None => last = Some(go_through(disk, dir, segment, options)?),
        }
    }
    for name in &listing.unfinished {
        files::remove_if_there(disk, &dir.join(name))?;
    }
    // After a kill in the middle of a rotation the last name may be in the cache only.
    disk.sync_dir(dir)
        .map_err(Error::io("sync the directory", dir))?;

    let mut recovery = Recovery {
        next_position: last.as_ref().map_or(1, |last| last.next_position),
        cut: None,
        damage: Vec::new(),
        damaged_headers: Vec::new(),
        replaced: None,
    };
    let mut file = None;
    if let Some(last) = last {
        recovery.damage.clone_from(&last.damage);
        file = take_up(disk, dir, options, last, &mut segments, &mut recovery)?;
    }
    let damaged = segments.iter().filter(|segment| segment.note.is_none());
    recovery.damaged_headers = damaged.map(|segment| segment.name.clone()).collect();
    let file = match file {
        Some(file) => file,
        None => {
            let created = files::create(disk, dir, options, recovery.next_position)
                .map_err(|failed| failed.error)?;
            segments.push(created.info);
            created.file
        }
    };
    Ok((Opened { segments, file }, recovery))
}

/// Looks at the header of a segment that has a successor.
fn look_at(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentRef,
    options: &Options,
    end: u64,
) -> Result<SegmentInfo, Error> {
    let scan = Scan::open(disk, dir, segment.clone(), options.kind, Some(end))?;
    Ok(SegmentInfo {
        name: segment.name.clone(),
        first_position: segment.first_position,
        last_position: end - 1,
        bytes: scan.file_len()?,
        note: scan.note,
    })
}

/// Reads the last segment to its end.
fn go_through(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentRef,
    options: &Options,
) -> Result<Last, Error> {
    // After a kill frames may be in the cache only: what is reported as found must be durable. And after a failed
    // sync the cache can hold frames that are not on the disk and that no later sync writes: what counts
    // is what the disk gives.
    let path = dir.join(&segment.name);
    let mut file = disk.open_read(&path).map_err(Error::io("open", &path))?;
    file.sync_data().map_err(Error::io("sync", &path))?;
    file.drop_cache().map_err(Error::io("read anew", &path))?;

    let mut scan = Scan::open(disk, dir, segment.clone(), options.kind, None)?;
    let mut damage = Vec::new();
    loop {
        match scan.step()? {
            Step::Frame { .. } => {}
            Step::Damage { from, to, .. } if from == to => {}
            Step::Damage { from, to, .. } => damage.push((from, to)),
            Step::End => break,
        }
    }
    let tail_bytes = scan.tail_bytes()?;
    let info = SegmentInfo {
        name: segment.name.clone(),
        first_position: segment.first_position,
        last_position: scan.position - 1,
        bytes: scan.offset,
        note: scan.note,
    };
    Ok(Last {
        info,
        next_position: scan.position,
        tail_bytes,
        damage,
    })
}

/// Makes the last segment active again and returns its file, or puts it behind a new one and returns none.
fn take_up(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
    last: Last,
    segments: &mut Vec<SegmentInfo>,
    recovery: &mut Recovery,
) -> Result<Option<Box<dyn DiskFile>>, Error> {
    let path = dir.join(&last.info.name);
    let empty = last.next_position == last.info.first_position;
    let same_note = last.info.note.as_ref() == Some(&options.header_note);
    if last.info.note.is_some() && last.tail_bytes > 0 {
        recovery.cut = Some(Cut {
            segment: last.info.name.clone(),
            from_position: last.next_position,
            bytes: last.tail_bytes,
        });
    }
    if empty && !same_note {
        // The new one is renamed over it: at no moment is the position forgotten.
        recovery.replaced = last.info.note.is_none().then_some(last.info.name);
        return Ok(None);
    }
    let mut file = disk.open(&path).map_err(Error::io("open", &path))?;
    // Without a sound header nothing is known of the owner: such a file is kept as it is.
    if last.info.note.is_some() {
        if last.tail_bytes > 0 || !same_note {
            file.set_len(last.info.bytes)
                .map_err(Error::io("cut", &path))?;
        }
        if same_note && options.preallocate {
            files::reserve(file.as_mut(), &path, options.segment_bytes)?;
        }
    }
    // So that a tail is cut, and reported, once.
    file.sync_data().map_err(Error::io("sync", &path))?;
    segments.push(last.info);
    Ok(same_note.then_some(file))
}
