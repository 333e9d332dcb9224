//! The three logs: journal, ledger, schemas.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use dawnwatch_engine::effect::{Effect, Entry};
use dawnwatch_segment::{Disk, FRAME_HEADER_BYTES, Read, Reader, RealDisk};
use jiff::Timestamp;

use super::Look;
use super::report::{Cost, Damage, FROM_BACKUP, of_room};
use super::small::Checkpoints;
use crate::history::schemas::Known;
use crate::{journal, ledger};

/// Length of a segment's header in our logs, which have no note.
const SEGMENT_HEADER_BYTES: u64 = 26;

/// While a server runs, segments are released under the reader's feet: what looks like a hole is looked at this often.
const TRIES: usize = 3;

/// A log as it was read.
#[derive(Debug, Default)]
struct Walked {
    /// Frames that were read.
    frames: u64,
    /// The first position that there is, and the one behind the last.
    first: Option<u64>,
    next: u64,
    /// Damages.
    damages: Vec<Hole>,
    /// The server's clock at the first frame and at the last.
    span: Option<(Timestamp, Timestamp)>,
    /// The position behind the last frame of the last segment, in bytes; none where that cannot be reckoned.
    end: Option<u64>,
    failed: Option<String>,
}

/// A damage of a log, between the times of its neighbours.
#[derive(Debug)]
struct Hole {
    before: Option<Timestamp>,
    after: Option<Timestamp>,
    damage: Read,
}

/// Reads a log; `see` says what the server's clock showed at a frame.
fn walk(
    dir: &Path,
    kind: [u8; 4],
    from: u64,
    see: &mut dyn FnMut(u64, &[u8]) -> Option<Timestamp>,
) -> Walked {
    let mut walked = Walked::default();
    let segments = segments(dir);
    walked.first = segments.first().copied();
    let last = segments.last().copied().unwrap_or(1);
    walked.next = last;
    let mut end = Some(SEGMENT_HEADER_BYTES);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let reader = match Reader::open(disk, dir, kind, from) {
        Ok(reader) => reader,
        Err(error) => {
            walked.failed = Some(error.to_string());
            return walked;
        }
    };
    for read in reader {
        match read {
            Ok(Read::Frame { position, payload }) => {
                walked.frames += 1;
                walked.next = position + 1;
                if position >= last {
                    let frame = (FRAME_HEADER_BYTES + payload.len()) as u64;
                    end = end.map(|end| end + frame);
                }
                if let Some(at) = see(position, &payload) {
                    walked.span = Some((walked.span.map_or(at, |span| span.0), at));
                    let open = walked.damages.iter_mut().rev();
                    for hole in open.take_while(|hole| hole.after.is_none()) {
                        hole.after = Some(at);
                    }
                }
            }
            Ok(damage) => {
                if let Read::Damage { to_position, .. } = &damage {
                    walked.next = *to_position;
                    if *to_position > last || (*to_position == last && is_in(&damage, last)) {
                        end = None;
                    }
                }
                walked.damages.push(Hole {
                    before: walked.span.map(|span| span.1),
                    after: None,
                    damage,
                });
            }
            Err(error) => {
                walked.failed = Some(error.to_string());
                break;
            }
        }
    }
    walked.end = end;
    walked
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The first position of its last segment; 0 where it has none.
    pub(crate) last: u64,
    /// The bytes of that one up to the end of its last whole frame; none where damage hides it.
    pub(crate) bytes: Option<u64>,
    /// The server's clock at the last group, of a journal.
    pub(crate) until: Option<Timestamp>,
}

/// Looks where a log ends, reading it from its last segments on.
pub(crate) fn end_of(dir: &Path, kind: [u8; 4]) -> End {
    let segments = segments(dir);
    let last = segments.last().copied().unwrap_or(0);
    // An empty last segment says nothing of the last group.
    let from = segments.iter().rev().nth(1).copied().unwrap_or(1);
    let walked = walk(dir, kind, from, &mut |position, payload| {
        let group = (kind == JOURNAL.kind).then(|| journal::decode(position, payload));
        group.and_then(Result::ok).map(|group| group.at.wall)
    });
    End {
        last,
        bytes: walked.end.filter(|_| walked.failed.is_none()),
        until: walked.span.map(|span| span.1),
    }
}

/// The first position of a log, by the names of its segments.
pub(crate) fn first_of(dir: &Path) -> Option<u64> {
    segments(dir).first().copied()
}

/// Whether a damage lies in the segment that begins at a position.
fn is_in(damage: &Read, first: u64) -> bool {
    matches!(damage, Read::Damage { segment, bytes, .. }
        if *bytes > 0 && segment.strip_suffix(".seg").and_then(|n| n.parse().ok()) == Some(first))
}

/// The first positions of the segments, by their names.
fn segments(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut first: Vec<u64> = names
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .collect();
    first.sort_unstable();
    first
}

/// How many bytes stand in a file from an offset on up to its last byte that is not zero.
fn bytes_from(path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let (mut at, mut end) = (0u64, 0u64);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(end);
        }
        if let Some(last) = buffer[..read].iter().rposition(|b| *b != 0) {
            end = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

/// A log and what is known of it.
struct Of {
    room: &'static str,
    kind: [u8; 4],
    /// The length that is reserved for the segment in use, where it is.
    reserved: Option<u64>,
}

const JOURNAL: Of = Of {
    room: "journal",
    kind: *b"JRNL",
    reserved: Some(journal::SEGMENT_BYTES),
};
const LEDGER: Of = Of {
    room: "ledger",
    kind: *b"LEDG",
    reserved: Some(ledger::SEGMENT_BYTES),
};
const SCHEMAS: Of = Of {
    room: "history/schemas",
    kind: *b"SCHM",
    reserved: None,
};

impl Look<'_> {
    /// Reads the ledger and returns the hash of each sealed night's files, by their names.
    pub(super) fn ledger(&mut self) -> BTreeMap<String, String> {
        let mut hashes = BTreeMap::new();
        let mut head = None;
        let mut broken = Vec::new();
        let mut position_of = 0;
        let mut last = None;
        let walked = self.log(&LEDGER, &mut |position, payload| {
            let gap = position != position_of + 1;
            position_of = position;
            match ledger::open_frame(position, payload) {
                Ok(opened) => {
                    // Behind a hole nothing is known of the frame before.
                    let follows = gap || head.is_none_or(|head| head == opened.before);
                    if !follows || (position == 1 && opened.before != ledger::START) {
                        let what = "the hash chain is broken before it".to_owned();
                        broken.push((position, last, what));
                    }
                    head = Some(opened.head);
                    last = Some(opened.frame.wall);
                    note_nights(&mut hashes, opened.frame.effects);
                    last
                }
                Err(error) => {
                    head = None;
                    broken.push((position, last, error.to_string()));
                    None
                }
            }
        });
        for (position, since, what) in broken {
            let cure = "somebody changed the ledger, or another version wrote it: compare it with a backup";
            let place = format!("frame {position}");
            let damage = Damage::of("ledger", &place, what, Cost::Records, cure);
            self.report.damage(damage.within(since, None));
        }
        self.tell_log(&LEDGER, &walked, "entries");
        if walked.first.is_some_and(|first| first != 1) {
            self.begins_late(&LEDGER, 1, &walked);
        }
        hashes
    }

    /// Reads the schema log and returns the schemas that it knows.
    pub(super) fn schemas(&mut self) -> Known {
        let mut known = Known::default();
        let mut broken = Vec::new();
        let walked = self.log(&SCHEMAS, &mut |position, payload| {
            if let Err(error) = known.take(payload) {
                broken.push((position, error.to_string()));
            }
            None
        });
        for (position, what) in broken {
            let place = format!("schema {position}");
            self.report.damage(Damage::of(
                SCHEMAS.room,
                &place,
                what,
                Cost::Samples,
                FROM_BACKUP,
            ));
        }
        self.tell_log(&SCHEMAS, &walked, "schemas");
        if walked.first.is_some_and(|first| first != 1) {
            self.begins_late(&SCHEMAS, 1, &walked);
        }
        known
    }

    /// Reads the journal, which must reach from the checkpoints on.
    pub(super) fn journal(&mut self, checkpoints: &Checkpoints) {
        let mut broken = Vec::new();
        let walked = self.log(&JOURNAL, &mut |position, payload| match journal::decode(
            position, payload,
        ) {
            Ok(group) => Some(group.at.wall),
            Err(error) => {
                broken.push((position, error.to_string()));
                None
            }
        });
        for (position, what) in broken {
            let place = format!("frame {position}");
            self.report.damage(Damage::of(
                "journal",
                &place,
                what,
                Cost::Samples,
                FROM_BACKUP,
            ));
        }
        self.tell_log(&JOURNAL, &walked, "groups");
        let needed = checkpoints.oldest.unwrap_or(1);
        if walked.first.is_some_and(|first| first > needed) && !self.is_live {
            self.begins_late(&JOURNAL, needed, &walked);
        }
        if let Some((frame, at)) = checkpoints.newest.filter(|(frame, _)| *frame > walked.next) {
            let what = format!(
                "it ends before group {}, and a checkpoint knows all before group {frame}",
                walked.next
            );
            let cure = "nothing is lost that the checkpoint knows; what came after it, if anything, is: agents count it as a gap";
            let damage = Damage::of("journal", "its end", what, Cost::Samples, cure);
            self.report.damage(damage.within(Some(at), None));
        }
    }

    fn log(&mut self, log: &Of, see: &mut dyn FnMut(u64, &[u8]) -> Option<Timestamp>) -> Walked {
        let dir = self.data.join(log.room);
        let mut walked = walk(&dir, log.kind, 1, see);
        for _ in 1..TRIES {
            if !self.is_live || (walked.damages.is_empty() && walked.failed.is_none()) {
                break;
            }
            walked = walk(&dir, log.kind, 1, see);
        }
        let held = self.list(log.room);
        for held in held.iter().filter(|held| held.name.ends_with(".seg")) {
            self.done(held.bytes);
        }
        walked
    }

    /// Tells what a log holds and what is wrong with it.
    fn tell_log(&mut self, log: &Of, walked: &Walked, what: &str) {
        let span = walked.span.map_or(String::new(), |(from, to)| {
            format!(", {from:.0} to {to:.0}")
        });
        let kind = format!("{:<16} {} {what}{span}", log.room, walked.frames);
        self.report.kinds.push(kind);
        let (costs, cure) = of_room(log.room);
        if let Some(why) = &walked.failed {
            let damage = Damage::of(log.room, "", why.clone(), costs, cure);
            self.report.damage(damage);
        }
        for hole in &walked.damages {
            let Read::Damage {
                segment,
                from_position,
                to_position,
                bytes,
            } = &hole.damage
            else {
                continue;
            };
            let file = format!("{}/{segment}", log.room);
            let lost = to_position - from_position;
            let (what, costs) = match (*bytes, lost) {
                (0, lost) => (
                    format!("{lost} {what} before it are gone with a segment"),
                    costs,
                ),
                (bytes, 0) => (
                    format!(
                        "its header is damaged ({bytes} bytes); its frames are read all the same"
                    ),
                    Cost::Nothing,
                ),
                (bytes, lost) => (
                    format!("{bytes} bytes cannot be read: {lost} {what} from {from_position} on"),
                    costs,
                ),
            };
            let damage = Damage::of(&file, &format!("frame {from_position}"), what, costs, cure);
            self.report.damage(damage.within(hole.before, hole.after));
        }
        self.end_of_log(log, walked);
    }

    /// Looks at where a log ends: there a damage looks like a write that did not finish.
    fn end_of_log(&mut self, log: &Of, walked: &Walked) {
        let Some(last) = segments(&self.data.join(log.room)).last().copied() else {
            if walked.failed.is_none() && !self.is_live {
                let (costs, cure) = of_room(log.room);
                let what = "there is not one segment of it".to_owned();
                self.report
                    .damage(Damage::of(log.room, "", what, costs, cure));
            }
            return;
        };
        if self.is_live {
            return;
        }
        let name = format!("{}/{last:020}.seg", log.room);
        let (costs, cure) = of_room(log.room);
        let since = walked.span.map(|span| span.1);
        let ends = self
            .clean
            .as_ref()
            .and_then(|clean| clean.ends.get(log.room));
        let lost = ends.map_or(0, |end| end.saturating_sub(walked.next));
        if lost > 0 {
            let what = format!("its last {lost} frames are gone since the server stopped");
            let damage = Damage::of(&name, "its end", what, costs, cure);
            self.report.damage(damage.within(since, None));
        }
        let path = self.data.join(&name);
        let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        if self.clean.is_none() && log.reserved.is_some_and(|reserved| length < reserved) {
            let what = format!(
                "its space is not reserved ({length} bytes): a later segment is gone, it was cut, or the disk was full"
            );
            let damage = Damage::of(&name, "its end", what, costs, cure);
            self.report.damage(damage.within(since, None));
        }
        let Some(end) = walked.end else { return };
        let tail = bytes_from(&path, end).unwrap_or(0);
        if tail == 0 {
            return;
        }
        let text = format!("{tail} bytes behind its last frame are none");
        if self.clean.is_some() {
            let costs = if lost > 0 { costs } else { Cost::Nothing };
            let place = format!("byte {end}");
            self.report
                .damage(Damage::of(&name, &place, text, costs, cure));
        } else {
            self.report.note(format!(
                "{name}, byte {end}: {text}; a crash leaves that, and the next start cuts it off: nothing of it was acknowledged, unless the disk damaged it later"
            ));
        }
    }

    fn begins_late(&mut self, log: &Of, needed: u64, walked: &Walked) {
        let first = walked.first.unwrap_or(needed);
        let name = format!("{}/{first:020}.seg", log.room);
        let what = format!("the segments before it are gone, from frame {needed} on");
        let (costs, cure) = of_room(log.room);
        let damage = Damage::of(&name, "", what, costs, cure);
        let to = walked.span.map(|span| span.0);
        self.report.damage(damage.within(None, to));
    }
}

fn note_nights(hashes: &mut BTreeMap<String, String>, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Record(Entry::Sealed { night, hash }) if !hash.is_empty() => {
                hashes.insert(format!("{night}.json"), hash);
            }
            Effect::Record(Entry::Evidence { night, hash }) if !hash.is_empty() => {
                hashes.insert(format!("{night}.evidence.json"), hash);
            }
            Effect::Record(_) | Effect::Notify(_) | Effect::SealNight(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_names_are_no_segments() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00000000000000000007.seg"), "").unwrap();
        std::fs::write(dir.path().join("00000000000000000009.new"), "").unwrap();
        assert_eq!(segments(dir.path()), [7]);
    }

    #[test]
    fn what_stands_behind_the_last_frame_is_counted_to_its_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut bytes = vec![1; 26];
        bytes.extend([0; 200_000]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(bytes_from(&path, 26).unwrap(), 0);
        bytes[150_000] = 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(bytes_from(&path, 26).unwrap(), 150_000 - 26 + 1);
    }
}
