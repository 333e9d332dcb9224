//! A summary file read as a whole: to look for damage, and to write it anew without some hosts.

use std::fs::File;
use std::path::Path;

use dawnwatch_proto::HostId;

use super::Why;
use super::chunk;
use super::file::{Contents, GroupAt, SummaryAt, exact};
use super::group::{Group, Whole};
use super::make::assemble;
use crate::history::Error;

/// Reads a whole group and gives it to `act`.
fn whole<T>(
    file: &File,
    at: &GroupAt,
    act: impl FnOnce(&Whole<'_>) -> Result<T, Why>,
) -> Result<T, Why> {
    let head = at.head(file)?;
    let length = usize::try_from(head.end()).unwrap_or(0);
    let pages = exact(file, at.pages(), length)?;
    act(&Whole::of(head, &pages)?)
}

/// Writes a file anew without some hosts, in its place, if they are in it. Says whether they were.
///
/// # Errors
/// Where it cannot be read or written: the old one stays.
pub fn write_without(
    dir: &Path,
    at: &SummaryAt,
    gone: impl Fn(HostId) -> bool,
) -> Result<bool, Error> {
    let path = dir.join(at.name());
    let damaged = |why: &str| Error::Damaged {
        path: path.clone(),
        why: why.to_owned(),
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(|source| Error::Io {
            what: "open",
            path: path.clone(),
            source,
        })?,
    };
    let made = Contents::read(&file, at).and_then(|contents| without(&file, &contents, &gone));
    let Some(bytes) = made.map_err(damaged)? else {
        return Ok(false);
    };
    crate::checkpoint::replace(&path, &bytes).map_err(|source| Error::Io {
        what: "write",
        path: path.clone(),
        source,
    })?;
    Ok(true)
}

fn without(
    file: &File,
    contents: &Contents,
    gone: &impl Fn(HostId) -> bool,
) -> Result<Option<Vec<u8>>, Why> {
    let (mut kept, mut changed) = (Vec::new(), false);
    for at in &contents.groups {
        let has = at.head(file)?.hosts.any(gone);
        if !has {
            let head = exact(file, at.offset, at.head_length())?;
            let pages = exact(file, at.pages(), at.length - head.len())?;
            kept.push((at.first, head, pages));
            continue;
        }
        changed = true;
        let group = whole(file, at, |group| Group::without(group, gone))?;
        if let Some(first) = group.first() {
            let (head, pages) = group.encode();
            kept.push((first, head, pages));
        }
    }
    Ok(changed.then(|| assemble(contents.header.clone(), &kept)))
}

/// Reads a whole summary file; returns how many raw blocks were left out of it.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path, at: &SummaryAt) -> Result<u32, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let contents = Contents::read(&file, at)?;
    for group in &contents.groups {
        whole(&file, group, |group| {
            let mut chunks = group.chunks.iter();
            chunks.try_for_each(|(_, chunk)| chunk::decode(chunk, &group.hosts, None, |_, _, _| {}))
        })?;
    }
    Ok(contents.left_out())
}
