//! A window over a segment file: frames are read through it with few system calls and bounded memory.

use std::path::{Path, PathBuf};

use crate::disk::DiskFile;
use crate::error::Error;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, checksum, wide};

/// One read from the disk: large enough that small frames cost few system calls, small enough for an agent's memory.
pub(crate) const WINDOW_BYTES: usize = 64 << 10;

/// Holds a stretch of a file; it grows beyond [`WINDOW_BYTES`] only for a frame that is larger.
#[derive(Debug)]
pub(crate) struct Window {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    start: u64,
    bytes: Vec<u8>,
    /// How many of the bytes were read: the rest of them stays as it is, for clearing it would cost more than the read.
    held: usize,
}

impl Window {
    pub(crate) fn new(file: Box<dyn DiskFile>, path: PathBuf) -> Window {
        Window {
            file,
            path,
            start: 0,
            bytes: Vec::new(),
            held: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the length of the file at this moment.
    pub(crate) fn file_len(&self) -> Result<u64, Error> {
        self.file.len().map_err(Error::io("measure", &self.path))
    }

    /// Gives `len` bytes at an offset, fewer at the end of the file.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let end = self.start.saturating_add(wide(self.held));
        let held = offset >= self.start && offset.saturating_add(wide(len)) <= end;
        if !held {
            let most = len.max(WINDOW_BYTES);
            self.bytes.resize(most, 0);
            self.bytes.shrink_to(most);
            self.start = offset;
            self.held = 0;
            let read = self.file.read_at(offset, &mut self.bytes);
            self.held = read.map_err(Error::io("read", &self.path))?;
        }
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let held = self.bytes.get(from..self.held).unwrap_or(&[]);
        Ok(&held[..held.len().min(len)])
    }

    /// Drops what is held: the file may have changed under it.
    pub(crate) fn forget(&mut self) {
        self.held = 0;
    }

    /// Gives the payload of the frame at an offset if it is whole and proves to be the one of this position.
    pub(crate) fn frame(&mut self, offset: u64, position: u64) -> Result<Option<&[u8]>, Error> {
        let Some(header) = FrameHeader::parse(self.get(offset, FRAME_HEADER_BYTES)?) else {
            return Ok(None);
        };
        // A damaged length must not make the window grow past the end of the file.
        let frame_bytes = header.frame_bytes();
        if frame_bytes > WINDOW_BYTES
            && offset.saturating_add(wide(frame_bytes)) > self.file_len()?
        {
            return Ok(None);
        }
        let frame = self.get(offset, frame_bytes)?;
        let whole = frame.len() == frame_bytes;
        let payload = frame.get(FRAME_HEADER_BYTES..).unwrap_or(&[]);
        let sound = whole && checksum(position, header.len, payload) == header.crc;
        Ok(sound.then_some(payload))
    }

    /// Reads past the window into the caller's buffer.
    pub(crate) fn read_past(&self, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        self.file
            .read_at(offset, into)
            .map_err(Error::io("read", &self.path))
    }

    /// Counts the bytes from an offset on, without the zeros at the end of the file.
    pub(crate) fn bytes_before_zeros(&self, offset: u64) -> Result<u64, Error> {
        let mut chunk = vec![0; WINDOW_BYTES];
        let mut at = offset;
        let mut end = offset;
        loop {
            let n = self.read_past(at, &mut chunk)?;
            if n == 0 {
                return Ok(end - offset);
            }
            if let Some(last) = chunk[..n].iter().rposition(|b| *b != 0) {
                end = at.saturating_add(wide(last)).saturating_add(1);
            }
            at = at.saturating_add(wide(n));
        }
    }
}
