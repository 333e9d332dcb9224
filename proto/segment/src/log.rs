//! The writing side of a log.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::files::{self, Created, SegmentRef};
use crate::frame::{self, PAYLOAD_BYTES_MAX, wide};
use crate::header::NOTE_BYTES_MAX;
use crate::reader::Reader;
use crate::recover::{self, Recovery};

/// Room kept for encoding between appends; a rare large group gives the rest back.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// How a log is kept. All but `kind` may change from one opening to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Marks whose log it is; a log of another kind is refused.
    pub kind: [u8; 4],
    /// A segment that would grow beyond this is followed by the next; one group of frames is never split.
    pub segment_bytes: u64,
    /// Whether to reserve `segment_bytes` for the active segment, so that syncs need not update its length.
    pub preallocate: bool,
    /// Stands in the header of each segment that is begun, at most [`NOTE_BYTES_MAX`] bytes. A log opened with another
    /// note than its active segment's goes on in a new one, so every frame lies under the note it was written with.
    pub header_note: Vec<u8>,
}

/// One segment file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file's name in the log's directory.
    pub name: String,
    /// The position of its first frame.
    pub first_position: u64,
    /// The position of its last frame; one below `first_position` while it is empty.
    pub last_position: u64,
    /// Its size; of the active segment what is written, without reserved space.
    pub bytes: u64,
    /// The note in its header, unless the header is damaged.
    pub note: Option<Vec<u8>>,
}

/// Whether a log may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    /// Anything may stand behind the last good frame of the file; [`Log::heal`] cuts it off.
    WriteFailed,
    /// What was written before may be lost though it reads back; only opening anew tells.
    SyncFailed,
}

/// A log open for appending. It has one owner; readers need none of it.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    /// Never empty; the last one is active.
    segments: Vec<SegmentInfo>,
    file: Box<dyn DiskFile>,
    next_position: u64,
    durable_position: u64,
    health: Health,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens a log, or begins one, and makes durable all that it finds. Nothing is written if a segment is refused.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Log, Recovery), Error> {
        if options.header_note.len() > NOTE_BYTES_MAX {
            let (dir, bytes) = (dir.to_path_buf(), options.header_note.len());
            return Err(Error::NoteTooLong {
                dir,
                bytes,
                limit: NOTE_BYTES_MAX,
            });
        }
        let (opened, recovery) = recover::open(disk.as_ref(), dir, &options)?;
        let log = Log {
            disk,
            dir: dir.to_path_buf(),
            options,
            segments: opened.segments,
            file: opened.file,
            next_position: recovery.next_position,
            durable_position: recovery.next_position - 1,
            health: Health::Good,
            buffer: Vec::new(),
        };
        Ok((log, recovery))
    }

    /// Appends one frame and returns its position. It is with the operating system then, but not durable.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, Error> {
        Ok(self.append_many(&[payload])?.start)
    }

    /// Appends frames by one write and returns their positions: all of them or none, except that of a group not yet
    /// durable a crash may leave a part.
    pub fn append_many<P: AsRef<[u8]>>(&mut self, payloads: &[P]) -> Result<Range<u64>, Error> {
        self.check_health()?;
        for payload in payloads {
            self.check_size(payload.as_ref().len())?;
        }
        let first = self.next_position;
        let next = first + wide(payloads.len());
        self.buffer.clear();
        for (position, payload) in (first..next).zip(payloads) {
            frame::encode(position, payload.as_ref(), &mut self.buffer);
        }
        let bytes = wide(self.buffer.len());
        if bytes == 0 {
            return Ok(first..first);
        }
        if self.active().bytes + bytes > self.options.segment_bytes {
            self.rotate()?;
        }
        let offset = self.active().bytes;
        if let Err(error) = self.file.write_at(offset, &self.buffer) {
            self.health = Health::WriteFailed;
            return Err(Error::io("write", &self.active_path())(error));
        }
        self.next_position = next;
        let active = self.active_mut();
        active.bytes += bytes;
        active.last_position = next - 1;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(first..next)
    }

    /// Makes all that was appended durable and returns the highest durable position, 0 for none.
    pub fn sync(&mut self) -> Result<u64, Error> {
        self.check_health()?;
        if self.durable_position + 1 < self.next_position {
            if let Err(error) = self.file.sync_data() {
                self.health = Health::SyncFailed;
                return Err(Error::io("sync", &self.active_path())(error));
            }
            self.durable_position = self.next_position - 1;
        }
        Ok(self.durable_position)
    }

    /// Ends the active segment, durably, and begins the next. An empty one is kept.
    pub fn rotate(&mut self) -> Result<(), Error> {
        self.check_health()?;
        if self.active().last_position < self.active().first_position {
            return Ok(());
        }
        if self.options.preallocate
            && let Err(error) = self.file.set_len(self.active().bytes)
        {
            self.health = Health::WriteFailed;
            return Err(Error::io(
                "give back reserved space of",
                &self.active_path(),
            )(error));
        }
        self.sync()?;
        match files::create(
            self.disk.as_ref(),
            &self.dir,
            &self.options,
            self.next_position,
        ) {
            Ok(Created { file, info }) => {
                self.file = file;
                self.segments.push(info);
                Ok(())
            }
            Err(failed) => {
                self.health = failed.health;
                Err(failed.error)
            }
        }
    }

    /// Makes the log fit for use after a failed write (a full disk): cuts the file behind the last good frame, durably.
    /// After a failed sync it refuses, because what was written before may be lost: open the log anew.
    pub fn heal(&mut self) -> Result<(), Error> {
        match self.health {
            Health::Good => return Ok(()),
            Health::SyncFailed => return self.check_health(),
            Health::WriteFailed => {}
        }
        if self.active().first_position != self.next_position {
            files::remove_leftovers(self.disk.as_ref(), &self.dir, self.next_position)?;
        }
        let (path, written) = (self.active_path(), self.active().bytes);
        self.file
            .set_len(written)
            .map_err(Error::io("cut", &path))?;
        if self.options.preallocate {
            files::reserve(self.file.as_mut(), &path, self.options.segment_bytes)?;
        }
        // Synced, so that no part of what was refused comes back after a power cut.
        if let Err(error) = self.file.sync_data() {
            self.health = Health::SyncFailed;
            return Err(Error::io("sync", &path)(error));
        }
        self.durable_position = self.next_position - 1;
        self.health = Health::Good;
        Ok(())
    }

    /// Removes the segments whose frames are all below a position, never the active one, and tells how many.
    pub fn release(&mut self, below: u64) -> Result<usize, Error> {
        let mut released = 0;
        while self.segments.len() > 1 && self.segments[0].last_position < below {
            let path = self.dir.join(&self.segments[0].name);
            files::remove_if_there(self.disk.as_ref(), &path)?;
            self.segments.remove(0);
            released += 1;
            // Each removal for itself: in another order after a power cut they would leave a hole.
            self.disk
                .sync_dir(&self.dir)
                .map_err(Error::io("sync the directory", &self.dir))?;
        }
        Ok(released)
    }

    /// Reads what has been appended so far, from a position on. Also frames that are not durable yet.
    pub fn read(&self, from: u64) -> Reader {
        Reader::over(
            Arc::clone(&self.disk),
            &self.dir,
            self.options.kind,
            from,
            self.segment_refs(),
            Some(self.next_position),
        )
    }

    /// Lets a reader of this log go on to what was appended since it was made or last extended.
    pub fn read_on(&self, reader: &mut Reader) {
        reader.extend(self.segment_refs(), self.next_position);
    }

    /// Tells the position the next frame will get.
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Tells the first position that is kept; the next one if the log is empty.
    pub fn first_position(&self) -> u64 {
        self.segments
            .first()
            .map_or(self.next_position, |segment| segment.first_position)
    }

    /// Tells the highest durable position, 0 for none.
    pub fn durable_position(&self) -> u64 {
        self.durable_position
    }

    /// Tells the size of all segments, without reserved space.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Lists the segments in order; the last one is active.
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    fn check_health(&self) -> Result<(), Error> {
        let (failed, cure) = match self.health {
            Health::Good => return Ok(()),
            Health::WriteFailed => ("write", "heal the log, or open it anew"),
            Health::SyncFailed => ("sync", "open it anew to see what is on the disk"),
        };
        Err(Error::Poisoned {
            dir: self.dir.clone(),
            failed,
            cure,
        })
    }

    fn check_size(&self, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Err(Error::Empty {
                dir: self.dir.clone(),
            });
        }
        if bytes > PAYLOAD_BYTES_MAX {
            let dir = self.dir.clone();
            return Err(Error::TooLarge {
                dir,
                bytes,
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        Ok(())
    }

    fn segment_refs(&self) -> Vec<SegmentRef> {
        let refs = self.segments.iter().map(|segment| SegmentRef {
            name: segment.name.clone(),
            first_position: segment.first_position,
        });
        refs.collect()
    }

    fn active(&self) -> &SegmentInfo {
        self.segments
            .last()
            .expect("a log has an active segment from its opening on")
    }

    fn active_mut(&mut self) -> &mut SegmentInfo {
        self.segments
            .last_mut()
            .expect("a log has an active segment from its opening on")
    }

    fn active_path(&self) -> PathBuf {
        self.dir.join(&self.active().name)
    }
}
