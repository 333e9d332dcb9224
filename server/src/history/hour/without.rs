//! Writing an hour file anew without some hosts.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dawnwatch_proto::HostId;

use super::{BLOCK_MAX, END, HourFile, MAGIC, VERSION};
use crate::history::Error;
use crate::plain;

/// Writes a file anew without some hosts, in its place; who reads the old one reads on. What stays is copied as it is: damage
/// in it is found by whoever reads it, as before.
///
/// # Errors
/// [`Error::Damaged`] where the old one cannot be read: it stays, and no later try will do better. Else what the file system says: one
/// of the two is in place then.
pub fn write_without(old: &HourFile, gone: impl Fn(HostId) -> bool) -> Result<HourFile, Error> {
    let tmp = old.path.with_extension("tmp");
    let io = |what| {
        let path = old.path.clone();
        move |source| Error::Io { what, path, source }
    };
    let written =
        copy(old, &tmp, gone).and_then(|()| fs::rename(&tmp, &old.path).map_err(io("write anew")));
    if let Err(error) = written {
        let _ = fs::remove_file(&tmp);
        return Err(error);
    }
    let dir = old.path.parent().unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io("sync the directory of"))?;
    HourFile::open(&old.path)
}

fn copy(old: &HourFile, tmp: &Path, gone: impl Fn(HostId) -> bool) -> Result<(), Error> {
    let io = |source| Error::Io {
        what: "write anew",
        path: old.path.clone(),
        source,
    };
    let mut out = std::io::BufWriter::new(File::create(tmp).map_err(io)?);
    out.write_all(MAGIC).map_err(io)?;
    out.write_all(&VERSION.to_le_bytes()).map_err(io)?;
    let mut footer = old.footer.clone();
    footer.blocks.retain(|block| !gone(block.host));
    footer.events.retain(|chunk| !gone(chunk.host));
    let mut to = 8u64;
    let blocks = footer.blocks.iter_mut().map(|b| (&mut b.offset, b.length));
    let chunks = footer.events.iter_mut().map(|c| (&mut c.offset, c.length));
    for (offset, length) in blocks.chain(chunks) {
        if length > BLOCK_MAX {
            return Err(old.damaged("a block is too long"));
        }
        let mut bytes = vec![0; length as usize];
        let read = old.file.read_exact_at(&mut bytes, *offset);
        read.map_err(|error| old.damaged(&format!("a block cannot be read ({error})")))?;
        out.write_all(&bytes).map_err(io)?;
        *offset = to;
        to += u64::from(length);
    }
    let bytes = plain::bytes(&footer);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&bytes);
    for part in [&bytes[..], &length.to_le_bytes(), &crc.to_le_bytes(), END] {
        out.write_all(part).map_err(io)?;
    }
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}
