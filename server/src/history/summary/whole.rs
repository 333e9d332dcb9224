//! A summary file read as a whole: to look for damage, and to write it anew without some hosts.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use dawnwatch_proto::HostId;

use super::bytes::{Usual, Why};
use super::columns::{self, Group};
use super::file::{Contents, ENTRY, GROUPS_MAX, HEADER, Region, SummaryAt, TRAILER, long, word};
use super::make::assemble;
use super::old;
use crate::history::Error;

/// All groups of a file: the hosts of each, and its chunk of every series. Says too where the last region ends.
fn groups(file: &File, directory: &[u8]) -> Result<(Vec<Whole>, u64), Why> {
    let entries = directory.as_chunks::<ENTRY>().0;
    let (times, all) = entries.split_first().ok_or("it has no times")?;
    let count = usize::try_from(long(times, 0).min(GROUPS_MAX + 1)).unwrap_or(0);
    if count as u64 > GROUPS_MAX {
        return Err("more groups of hosts than there can be");
    }
    let mut end = HEADER as u64;
    let mut open = |entry, wide| {
        let region = Region::open(file, entry, count, wide)?;
        if region.offset != end {
            return Err("its directory skips bytes");
        }
        end += region.length as u64;
        region.chunks(0..count, true)
    };
    let mut out = Vec::new();
    for chunk in open(times, 24)? {
        out.push((columns::hosts(&chunk)?, BTreeMap::new()));
    }
    for entry in all {
        let chunks = open(entry, 8)?;
        for (group, chunk) in out.iter_mut().zip(chunks) {
            if !chunk.is_empty() {
                group.1.insert(long(entry, 0), chunk);
            }
        }
    }
    Ok((out, end))
}

/// The hosts of a group with the times of their steps, and its chunk of each series by its key.
type Whole = (Vec<(HostId, Vec<Usual>)>, BTreeMap<u64, Vec<u8>>);

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
    let made = Contents::read(&file, at).and_then(|contents| match contents.version() {
        old::VERSION => old::without(&file, &contents.directory, &contents.header, &gone),
        _ => without(&file, &contents, &gone),
    });
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
    let (groups, _) = groups(file, &contents.directory)?;
    let has = |(hosts, _): &Whole| hosts.iter().any(|(host, _)| gone(*host));
    if !groups.iter().any(has) {
        return Ok(None);
    }
    let mut kept = Vec::new();
    for (hosts, series) in &groups {
        let group = Group::without(hosts, series, gone)?;
        if group.len() > 0 {
            kept.push((group.first(), group.encode()));
        }
    }
    Ok(Some(assemble(contents.header.clone(), &kept)))
}

/// Reads a whole summary file; returns how many raw blocks were left out of it.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path, at: &SummaryAt) -> Result<u32, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let contents = Contents::read(&file, at)?;
    let end = match contents.version() {
        old::VERSION => old::check(&file, &contents.directory)?,
        _ => {
            let (groups, end) = groups(&file, &contents.directory)?;
            for (hosts, series) in &groups {
                for chunk in series.values() {
                    columns::parts(chunk, hosts, None, |_, _| {})?;
                }
            }
            end
        }
    };
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length != end + (contents.directory.len() + TRAILER) as u64 {
        return Err("bytes between its parts and its directory".to_owned());
    }
    Ok(word(&contents.header, 12))
}
