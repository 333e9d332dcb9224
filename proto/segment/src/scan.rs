//! Walks the frames of one segment, around what is damaged.

use std::path::Path;

use crate::disk::Disk;
use crate::error::Error;
use crate::files::SegmentRef;
use crate::frame::{FRAME_HEADER_BYTES, wide};
use crate::header::{HEADER_BYTES_MAX, HEADER_BYTES_MIN, Header, VERSION};
use crate::resync::{self, Lost};
use crate::window::Window;

/// What a step met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Frame {
        position: u64,
        payload: Vec<u8>,
    },
    /// Positions `from..to` cannot be read; none if only the header is damaged.
    Damage {
        from: u64,
        to: u64,
        bytes: u64,
    },
    /// The end of the segment, or of what is written to it.
    End,
}

/// A walk through one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segment: SegmentRef,
    window: Window,
    /// The note, if the header is sound.
    pub(crate) note: Option<Vec<u8>>,
    /// Where the next frame is expected: behind the last good one.
    pub(crate) offset: u64,
    /// Which one is expected there.
    pub(crate) position: u64,
    /// The position from which on frames are elsewhere or not to be read; without it the last frame found ends the walk.
    pub(crate) end: Option<u64>,
    /// Whether the place of the next frame is known; it is not behind a damaged header or a damaged end.
    on_the_way: bool,
}

impl Scan {
    /// Opens a segment for reading and looks at its header.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        segment: SegmentRef,
        kind: [u8; 4],
        end: Option<u64>,
    ) -> Result<Scan, Error> {
        let path = dir.join(&segment.name);
        let file = disk.open_read(&path).map_err(Error::io("open", &path))?;
        let mut window = Window::new(file, path);
        let header = Header::parse(window.get(0, HEADER_BYTES_MAX)?);
        // A sound header under a strange name proves nothing about the frames: they are looked for by the name.
        let header = header.filter(|(header, _)| header.first_position == segment.first_position);
        if let Some((header, _)) = &header {
            check(header, window.path(), kind)?;
        }
        let position = segment.first_position;
        let on_the_way = header.is_some();
        let (note, offset) = match header {
            Some((header, bytes)) => (Some(header.note), wide(bytes)),
            None => (None, wide(HEADER_BYTES_MIN)),
        };
        Ok(Scan {
            segment,
            window,
            note,
            offset,
            position,
            end,
            on_the_way,
        })
    }

    /// Goes on to the next frame, damage, or the end. After the end it may be called again: a writer may have gone on.
    pub(crate) fn step(&mut self) -> Result<Step, Error> {
        if self.end.is_some_and(|end| self.position >= end) {
            return Ok(Step::End);
        }
        if !self.on_the_way {
            return self.find_the_way();
        }
        if let Some(step) = self.frame()? {
            return Ok(step);
        }
        self.window.forget();
        if let Some(step) = self.frame()? {
            return Ok(step);
        }
        self.find_the_way()
    }

    /// Counts what stands behind the last good frame, without the zeros of reserved space.
    pub(crate) fn tail_bytes(&self) -> Result<u64, Error> {
        self.window.bytes_before_zeros(self.offset)
    }

    /// Tells the length of the file.
    pub(crate) fn file_len(&self) -> Result<u64, Error> {
        self.window.file_len()
    }

    fn frame(&mut self) -> Result<Option<Step>, Error> {
        let Some(payload) = self.window.frame(self.offset, self.position)? else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        let position = self.position;
        self.offset = self
            .offset
            .saturating_add(wide(FRAME_HEADER_BYTES + payload.len()));
        self.position = position.saturating_add(1);
        Ok(Some(Step::Frame { position, payload }))
    }

    fn find_the_way(&mut self) -> Result<Step, Error> {
        let (from, offset) = (self.position, self.offset);
        let lost = Lost {
            offset,
            position: from,
            frame: self.on_the_way,
            end: self.end,
        };
        let found = resync::find(&mut self.window, lost)?;
        self.window.forget();
        // What looked damaged may be a frame that a writer was still writing when it was read first.
        if self.on_the_way
            && let Some(step) = self.frame()?
        {
            return Ok(step);
        }
        let untouched = self.note.is_none() && from == self.segment.first_position;
        let damaged_from = if untouched { 0 } else { offset };
        if let Some(found) = found {
            (self.position, self.offset, self.on_the_way) = (found.position, found.offset, true);
            return Ok(Step::Damage {
                from,
                to: found.position,
                bytes: found.offset - damaged_from,
            });
        }
        let Some(end) = self.end else {
            return Ok(Step::End);
        };
        let bytes = self.tail_bytes()?;
        // Should the writer go on behind this, the next frame is the one of `end`, at a place not known.
        (self.position, self.on_the_way) = (end, false);
        Ok(Step::Damage {
            from,
            to: end,
            bytes,
        })
    }
}

fn check(header: &Header, path: &Path, kind: [u8; 4]) -> Result<(), Error> {
    if header.version > VERSION {
        let path = path.to_path_buf();
        return Err(Error::NewerVersion {
            path,
            found: header.version,
            known: VERSION,
        });
    }
    if header.kind != kind {
        return Err(Error::WrongKind {
            path: path.to_path_buf(),
            found: header.kind,
            wanted: kind,
        });
    }
    Ok(())
}
