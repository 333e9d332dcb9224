//! Reads a log's frames in order, with its damage between them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::Error;
use crate::files::{self, SegmentRef};
use crate::scan::{Scan, Step};

/// What a reader meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A frame, as it was appended.
    Frame {
        /// Its position in the log.
        position: u64,
        /// What was appended.
        payload: Vec<u8>,
    },
    /// A stretch that cannot be read; reading goes on behind it.
    Damage {
        /// The segment file it was met in; for a missing segment, the one before or after it.
        segment: String,
        /// The first position that is lost.
        from_position: u64,
        /// The first position behind the damage; equal to `from_position` if no frame is lost (a damaged header).
        to_position: u64,
        /// Bytes passed over, without zeros at the end of the file; 0 for a missing segment.
        bytes: u64,
    },
}

/// Iterates over a log from a position on, one segment and one frame in memory at a time, without a lock on its writer.
///
/// It ends where the log ends, also in reserved space. A frame torn at the very end of the log counts as its end.
/// After an error it ends. Segments released before `from` is reached are no damage; released later they are.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    kind: [u8; 4],
    from: u64,
    /// Segments not yet opened.
    queue: VecDeque<SegmentRef>,
    scan: Option<Scan>,
    /// The position behind the segment read last.
    reached: Option<u64>,
    /// The position to stop before, for a reader that a [`crate::Log`] gave out.
    until: Option<u64>,
    failed: bool,
}

impl Reader {
    /// Opens a log for reading from a position on, or from its first if that is later.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        kind: [u8; 4],
        from: u64,
    ) -> Result<Reader, Error> {
        let segments = files::list(disk.as_ref(), dir)?.segments;
        Ok(Reader::over(disk, dir, kind, from, segments, None))
    }

    /// Builds a reader over known segments.
    pub(crate) fn over(
        disk: Arc<dyn Disk>,
        dir: &Path,
        kind: [u8; 4],
        from: u64,
        segments: Vec<SegmentRef>,
        until: Option<u64>,
    ) -> Reader {
        let mut queue = VecDeque::from(segments);
        while queue
            .get(1)
            .is_some_and(|second| second.first_position <= from)
        {
            queue.pop_front();
        }
        let dir = dir.to_path_buf();
        Reader {
            disk,
            dir,
            kind,
            from,
            queue,
            scan: None,
            reached: None,
            until,
            failed: false,
        }
    }

    /// Lets the reader go on to what was appended since.
    pub(crate) fn extend(&mut self, segments: Vec<SegmentRef>, until: u64) {
        let opened = self.scan.as_ref().map(|scan| scan.segment.first_position);
        self.queue = segments
            .into_iter()
            .filter(|segment| opened.is_none_or(|opened| segment.first_position > opened))
            .collect();
        self.until = Some(until);
        let end = self.end_of_opened();
        if let Some(scan) = &mut self.scan {
            scan.end = end;
        }
    }

    fn end_of_opened(&self) -> Option<u64> {
        self.queue
            .front()
            .map(|next| next.first_position)
            .or(self.until)
    }

    fn advance(&mut self) -> Result<Option<Read>, Error> {
        loop {
            let Some(scan) = &mut self.scan else {
                if !self.open_next()? {
                    return Ok(None);
                }
                if let Some(gap) = self.gap() {
                    return Ok(Some(gap));
                }
                continue;
            };
            match scan.step()? {
                Step::Frame { position, .. } if position < self.from => {}
                Step::Frame { position, payload } => {
                    self.from = position.saturating_add(1);
                    return Ok(Some(Read::Frame { position, payload }));
                }
                Step::Damage { from, to, bytes } => {
                    let segment = scan.segment.name.clone();
                    if let Some(damage) = self.damage(segment, from, to, bytes) {
                        return Ok(Some(damage));
                    }
                }
                // The last segment stays open: its writer may go on.
                Step::End if self.queue.is_empty() => return Ok(None),
                Step::End => {
                    self.reached = Some(scan.position);
                    self.scan = None;
                }
            }
        }
    }

    /// Opens the next segment that is still there.
    fn open_next(&mut self) -> Result<bool, Error> {
        while let Some(next) = self.queue.pop_front() {
            let end = self.end_of_opened();
            match Scan::open(self.disk.as_ref(), &self.dir, next, self.kind, end) {
                Ok(scan) => {
                    self.scan = Some(scan);
                    return Ok(true);
                }
                // The writer released it since the directory was listed.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Tells what is missing between the segment read last and the one just opened.
    fn gap(&mut self) -> Option<Read> {
        let opened = self.scan.as_ref()?.segment.clone();
        let reached = self
            .reached
            .filter(|reached| *reached < opened.first_position)?;
        self.damage(opened.name, reached, opened.first_position, 0)
    }

    /// Reports damage as far as it concerns this reader.
    fn damage(&mut self, segment: String, from: u64, to: u64, bytes: u64) -> Option<Read> {
        if to < self.from || (to == self.from && from < to) {
            return None;
        }
        let from_position = from.max(self.from);
        self.from = to;
        Some(Read::Damage {
            segment,
            from_position,
            to_position: to,
            bytes,
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Read, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.advance();
        self.failed = result.is_err();
        result.transpose()
    }
}
