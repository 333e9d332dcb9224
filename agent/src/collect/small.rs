//! Directories and files of one value that are looked at once a minute: opened, read and closed again.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::CollectError;
use super::file::WHOLE_BELOW;
use super::text::trimmed;

/// Largest file of a unit's control group or of one process: their `cgroup`, `stat` and `memory.events` stay far below.
const BYTES_MAX: usize = 4096;

/// Names in a directory, sorted, at most `most` of them; what is no UTF-8 is nothing of the kernel's.
pub(crate) fn entries(dir: &Path, most: usize) -> Result<Vec<String>, CollectError> {
    let read = |source| CollectError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)?.take(most) {
        let name = entry.map_err(read)?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// The start of a file into a buffer that is used again; none where it cannot be read.
pub(crate) fn read_small<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    read_again(&File::open(path).ok()?, buffer)
}

/// The same of a file that is open, whatever was read of it before. All that is read so is one record, so that a short read has
/// it whole (see `file`).
pub(crate) fn read_again<'a>(file: &File, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    buffer.resize(BYTES_MAX, 0);
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        }
        if len < WHOLE_BELOW {
            break;
        }
    }
    Some(&buffer[..len])
}

/// A file's whole number, with a sign or without.
pub(crate) fn number_in(path: &Path) -> Option<i64> {
    let mut buffer = Vec::new();
    let text = read_small(path, &mut buffer)?;
    std::str::from_utf8(trimmed(text)).ok()?.parse().ok()
}

/// A file's first word.
pub(crate) fn word_in(path: &Path) -> Option<String> {
    let mut buffer = Vec::new();
    let text = read_small(path, &mut buffer)?;
    let word = text.split(u8::is_ascii_whitespace).next()?;
    Some(String::from_utf8_lossy(word).into_owned())
}
