//! The shapes on disk, so that their numbers outlive restarts: a segment log in `logs/shapes`, one frame for each shape that
//! came or changed. It grows by a handful of frames for each of at most five thousand shapes, and is never rewritten.
//!
//! | bytes of a frame | meaning |
//! |---|---|
//! | 1 | version, [`VERSION`] |
//! | rest | protobuf: [`Record`] |
//!
//! A frame is synced before its shape is told, so that no number is given out twice.

use std::path::Path;
use std::sync::Arc;

use dawnwatch_segment::{Disk, Error, Log, Options, Read};
use prost::Message;

use super::mask::{Masked, SHAPING_BYTES_MAX};
use super::miner::Shape;
use super::shaper::Known;

const KIND: [u8; 4] = *b"LOGS";
const VERSION: u8 = 1;

/// Longest text of a record: what is longer was not written by this code.
const TEXT_BYTES_MAX: usize = 4 * SHAPING_BYTES_MAX;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    text: String,
    /// Start and end of each word.
    #[prost(uint32, repeated, tag = "3")]
    words: Vec<u32>,
    #[prost(uint32, tag = "4")]
    into: u32,
    #[prost(string, tag = "5")]
    source: String,
    #[prost(string, tag = "6")]
    example: String,
    #[prost(uint32, tag = "7")]
    severity: u32,
    #[prost(bool, tag = "8")]
    old: bool,
}

/// The log of shapes.
#[derive(Debug)]
pub(crate) struct Shapes {
    log: Log,
}

impl Shapes {
    /// Opens the log; all that is in it, in order.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Shapes, Vec<Known>), Error> {
        let options = Options {
            kind: KIND,
            segment_bytes: u64::MAX / 2,
            preallocate: false,
            header_note: Vec::new(),
        };
        let (log, _) = Log::open(disk, dir, options)?;
        let mut known = Vec::new();
        for read in log.read(log.first_position()) {
            match read? {
                Read::Frame { payload, position } => match parse(&payload) {
                    Some(one) => known.push(one),
                    None => tracing::warn!(position, "a shape of log lines cannot be read"),
                },
                Read::Damage { .. } => tracing::warn!("the shapes of log lines are damaged"),
            }
        }
        Ok((Shapes { log }, known))
    }

    /// Records so far.
    pub(crate) fn records(&self) -> u64 {
        self.log.next_position() - 1
    }

    /// Keeps shapes, durably.
    pub(crate) fn keep(&mut self, known: &[Known]) -> Result<(), Error> {
        if known.is_empty() {
            return Ok(());
        }
        let frames: Vec<_> = known.iter().map(frame).collect();
        self.log.append_many(&frames)?;
        self.log.sync().map(|_| ())
    }
}

fn frame(known: &Known) -> Vec<u8> {
    let shape = &known.shape;
    let record = Record {
        id: shape.id,
        text: shape.masked.text.clone(),
        words: shape
            .masked
            .words
            .iter()
            .flat_map(|(a, b)| [*a, *b])
            .collect(),
        into: shape.into,
        source: known.source.to_string(),
        example: known.example.to_string(),
        severity: known.severity.into(),
        old: known.old,
    };
    let mut out = vec![VERSION];
    out.extend_from_slice(&record.encode_to_vec());
    out
}

fn parse(frame: &[u8]) -> Option<Known> {
    let record = Record::decode(frame.strip_prefix(&[VERSION])?).ok()?;
    let text = record.text;
    if text.len() > TEXT_BYTES_MAX || record.words.len() > text.len() * 2 {
        return None;
    }
    let mut words = Vec::with_capacity(record.words.len() / 2);
    let mut last = 0;
    for pair in record.words.chunks_exact(2) {
        let (from, to) = (pair[0], pair[1]);
        // Each word is a part of the text, behind the one before.
        if from < last || to <= from || text.get(from as usize..to as usize).is_none() {
            return None;
        }
        last = to;
        words.push((from, to));
    }
    Some(Known {
        shape: Shape {
            id: record.id,
            masked: Masked { text, words },
            into: record.into,
        },
        source: record.source.into(),
        example: record.example.into(),
        severity: u8::try_from(record.severity).ok().filter(|s| *s < 8)?,
        old: record.old,
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use dawnwatch_segment::RealDisk;

    use super::*;

    fn known(id: u32, line: &str) -> Known {
        let mut masked = Masked::default();
        masked.set(line);
        Known {
            shape: Shape {
                id,
                masked,
                into: 0,
            },
            source: "sshd".into(),
            example: line.into(),
            severity: 4,
            old: true,
        }
    }

    #[test]
    fn shapes_outlive_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shapes");
        let all = [
            known(1, "peer 10.0.0.1 gone"),
            known(2, "ä = ö 7"),
            known(1, "x"),
        ];
        let (mut shapes, none) = Shapes::open(Arc::new(RealDisk), &path).unwrap();
        assert!(none.is_empty());
        shapes.keep(&all[..2]).unwrap();
        drop(shapes);
        let (mut shapes, found) = Shapes::open(Arc::new(RealDisk), &path).unwrap();
        assert_eq!((found.as_slice(), shapes.records()), (&all[..2], 2));
        shapes.keep(&all[2..]).unwrap();
        assert_eq!(Shapes::open(Arc::new(RealDisk), &path).unwrap().1, all);
    }

    #[test]
    fn odd_records_are_refused() {
        let good = frame(&known(1, "a b"));
        assert!(parse(&good).is_some());
        assert!(parse(&[]).is_none());
        assert!(parse(&[2]).is_none());
        let odd = |change: fn(&mut Record)| {
            let mut record = Record::decode(&good[1..]).unwrap();
            change(&mut record);
            let bytes = [vec![VERSION], record.encode_to_vec()].concat();
            parse(&bytes).is_none()
        };
        assert!(odd(|r| r.words = vec![0, 9]));
        assert!(odd(|r| r.words = vec![2, 3, 0, 1]));
        assert!(odd(|r| r.text = "x".repeat(1 << 16)));
        assert!(odd(|r| r.severity = 8));
    }

    #[test]
    fn the_form_on_disk_stays() {
        let known = known(300, "peer 10.0.0.1 gone");
        let golden = "0108ac02120e70656572203c69703e20676f6e651a06000405090a0e2a04737368643212706565722031302e302e302e3120676f6e6538044001";
        assert_eq!(HEXLOWER.encode(&frame(&known)), golden);
        let bytes = HEXLOWER.decode(golden.as_bytes()).unwrap();
        assert_eq!(parse(&bytes).unwrap(), known);
    }
}
