//! Names and makes segment files: `{first_position:020}.seg`, built under a name ending in `.new` and renamed when whole.

use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, is_full};
use crate::frame::wide;
use crate::header::{Header, VERSION};
use crate::log::{Health, Options, SegmentInfo};

const SEGMENT_SUFFIX: &str = ".seg";
const UNFINISHED_SUFFIX: &str = ".new";

/// The digits of the largest position, so that names sort like positions.
const NAME_DIGITS: usize = 20;

/// One segment file as its name tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRef {
    pub(crate) name: String,
    pub(crate) first_position: u64,
}

/// What a log's directory holds; foreign names are left alone.
#[derive(Debug)]
pub(crate) struct Listing {
    /// By first position.
    pub(crate) segments: Vec<SegmentRef>,
    pub(crate) unfinished: Vec<String>,
}

/// Lists a log's directory.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, Error> {
    let mut listing = Listing {
        segments: Vec::new(),
        unfinished: Vec::new(),
    };
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        if let Some(first_position) = position_in(&name, SEGMENT_SUFFIX) {
            listing.segments.push(SegmentRef {
                name,
                first_position,
            });
        } else if position_in(&name, UNFINISHED_SUFFIX).is_some() {
            listing.unfinished.push(name);
        }
    }
    listing
        .segments
        .sort_by_key(|segment| segment.first_position);
    Ok(listing)
}

/// A segment that is durable under its name and empty.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) info: SegmentInfo,
}

/// Why a segment could not be made, and what that means for the log.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) health: Health,
    pub(crate) error: Error,
}

/// Creates a segment: whole and synced under its unfinished name first, so that a segment's header is never torn.
/// A file that has the segment's name already is replaced.
pub(crate) fn create(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
    first_position: u64,
) -> Result<Created, Failed> {
    let path = dir.join(segment_name(first_position));
    let unfinished = dir.join(unfinished_name(first_position));
    let header = Header {
        kind: options.kind,
        version: VERSION,
        first_position,
        note: options.header_note.clone(),
    };
    let bytes = header.encode();
    let write_failed = |error| Failed {
        health: Health::WriteFailed,
        error,
    };
    let sync_failed = |error| Failed {
        health: Health::SyncFailed,
        error,
    };

    remove_if_there(disk, &unfinished).map_err(write_failed)?;
    let mut file = disk
        .create(&unfinished)
        .map_err(Error::io("create", &unfinished))
        .map_err(write_failed)?;
    if options.preallocate {
        file.preallocate(options.segment_bytes)
            .map_err(Error::io("reserve space for", &unfinished))
            .map_err(write_failed)?;
    }
    file.write_at(0, &bytes)
        .map_err(Error::io("write", &unfinished))
        .map_err(write_failed)?;
    file.sync_data()
        .map_err(Error::io("sync", &unfinished))
        .map_err(sync_failed)?;
    disk.rename(&unfinished, &path)
        .map_err(Error::io("rename to its final name", &unfinished))
        .map_err(write_failed)?;
    disk.sync_dir(dir)
        .map_err(Error::io("sync the directory", dir))
        .map_err(sync_failed)?;
    let info = SegmentInfo {
        name: segment_name(first_position),
        first_position,
        last_position: first_position.saturating_sub(1),
        bytes: wide(bytes.len()),
        note: Some(header.note),
    };
    Ok(Created { file, info })
}

/// Removes what a failed [`create`] may have left. The caller knows that no frame lies in it.
pub(crate) fn remove_leftovers(
    disk: &dyn Disk,
    dir: &Path,
    first_position: u64,
) -> Result<(), Error> {
    remove_if_there(disk, &dir.join(unfinished_name(first_position)))?;
    remove_if_there(disk, &dir.join(segment_name(first_position)))
}

/// Removes a file unless it is gone already.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reserves space again; that it is not there any more is met when it is needed.
pub(crate) fn reserve(file: &mut dyn DiskFile, path: &Path, bytes: u64) -> Result<(), Error> {
    match file.preallocate(bytes) {
        Err(error) if !is_full(&error) => Err(Error::io("reserve space for", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn segment_name(first_position: u64) -> String {
    format!("{first_position:020}{SEGMENT_SUFFIX}")
}

fn unfinished_name(first_position: u64) -> String {
    format!("{first_position:020}{UNFINISHED_SUFFIX}")
}

fn position_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != NAME_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|position| *position > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_segments() {
        for (name, position) in [
            ("00000000000000000001.seg", Some(1)),
            ("18446744073709551615.seg", Some(u64::MAX)),
            ("18446744073709551616.seg", None),
            ("00000000000000000000.seg", None),
            ("0000000000000000001.seg", None),
            ("+0000000000000000001.seg", None),
            ("00000000000000000001.new", None),
            ("00000000000000000001", None),
        ] {
            assert_eq!(position_in(name, SEGMENT_SUFFIX), position, "{name}");
        }
        assert_eq!(position_in(&segment_name(77), SEGMENT_SUFFIX), Some(77));
    }
}
