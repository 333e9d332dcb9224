//! Writing an hour file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use dawnwatch_engine::block::Head;
use dawnwatch_proto::HostId;
use jiff::Timestamp;

use super::join::join;
use super::{BlockAt, END, EventsAt, Footer, HourFile, MAGIC, VERSION};
use crate::history::head::HostRows;
use crate::history::schemas::Schemas;
use crate::history::{Error, events};
use crate::plain;

/// Bytes before the first block.
const HEADER: u64 = 8;

/// Writes an hour file; it is open for reading then.
///
/// # Errors
/// What the file system says; nothing is left then, but where the last step failed ([`Error::InDoubt`]).
pub fn write(
    dir: &Path,
    hosts: &BTreeMap<HostId, HostRows>,
    schemas: &Schemas,
    (through, now): (u64, Timestamp),
) -> Result<HourFile, Error> {
    let path = dir.join(format!("{through:020}.dwh"));
    let tmp = path.with_extension("tmp");
    let written = fill(&tmp, hosts, schemas, (through, now)).and_then(|(file, footer)| {
        // Series that blocks refer to are known before the blocks are.
        schemas.sync()?;
        let io = |source| Error::Io {
            what: "rename",
            path: tmp.clone(),
            source,
        };
        fs::rename(&tmp, &path).map_err(io)?;
        Ok((file, footer))
    });
    let (file, footer) = match written {
        Ok(written) => written,
        Err(error) => {
            // On a full disk what is left of it would take the room that is missing.
            let _ = fs::remove_file(&tmp);
            return Err(error);
        }
    };
    // From here on the file counts, and nothing may fail but what ends the process.
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        Ok(()) => Ok(HourFile::of(path, footer, file)),
        Err(source) => Err(Error::InDoubt { path, source }),
    }
}

fn fill(
    tmp: &Path,
    hosts: &BTreeMap<HostId, HostRows>,
    schemas: &Schemas,
    (through, now): (u64, Timestamp),
) -> Result<(File, Footer), Error> {
    let io = |what| {
        let path = tmp.to_owned();
        move |source| Error::Io { what, path, source }
    };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut out = std::io::BufWriter::new(options.open(tmp).map_err(io("create"))?);
    out.write_all(MAGIC).map_err(io("write"))?;
    out.write_all(&VERSION.to_le_bytes()).map_err(io("write"))?;
    let mut footer = Footer {
        through,
        sealed_s: now.as_second(),
        blocks: Vec::new(),
        events: Vec::new(),
    };
    write_blocks(&mut out, hosts, schemas, &mut footer)?.map_err(io("write"))?;
    write_events(&mut out, hosts, &mut footer).map_err(io("write"))?;
    let bytes = plain::bytes(&footer);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&bytes);
    for part in [&bytes[..], &length.to_le_bytes(), &crc.to_le_bytes(), END] {
        out.write_all(part).map_err(io("write"))?;
    }
    let file = out.into_inner().map_err(|e| io("write")(e.into_error()))?;
    file.sync_all().map_err(io("sync"))?;
    Ok((file, footer))
}

/// Writes the blocks behind the header, and where they are into the footer.
fn write_blocks(
    out: &mut impl Write,
    hosts: &BTreeMap<HostId, HostRows>,
    schemas: &Schemas,
    footer: &mut Footer,
) -> Result<std::io::Result<()>, Error> {
    let mut offset = HEADER;
    for (host, rows) in hosts {
        for mini in join(rows, schemas)? {
            if let Err(error) = out.write_all(&mini.bytes) {
                return Ok(Err(error));
            }
            // A mini block that nobody could read is kept as it is, with one checksum.
            let head = Head::open(&mini.bytes).map_or(0, |head| head.length());
            let checked = if head == 0 {
                &mini.bytes[..]
            } else {
                &mini.bytes[..head]
            };
            let length = u32::try_from(mini.bytes.len()).unwrap_or(u32::MAX);
            footer.blocks.push(BlockAt {
                host: *host,
                schema: mini.schema,
                min_ms: mini.min_ms,
                max_ms: mini.max_ms,
                offset,
                length,
                crc: crc32c::crc32c(checked),
                head: u32::try_from(head).unwrap_or(u32::MAX),
            });
            offset += u64::from(length);
        }
    }
    Ok(Ok(()))
}

/// Writes the events behind the blocks, and where they are into the footer.
fn write_events(
    out: &mut impl Write,
    hosts: &BTreeMap<HostId, HostRows>,
    footer: &mut Footer,
) -> std::io::Result<()> {
    let last = footer.blocks.last();
    let mut offset = last.map_or(HEADER, |block| block.offset + u64::from(block.length));
    for (host, rows) in hosts {
        for chunk in events::chunks(&rows.events) {
            out.write_all(&chunk.bytes)?;
            let length = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            footer.events.push(EventsAt {
                host: *host,
                min_ms: chunk.min_ms,
                max_ms: chunk.max_ms,
                count: chunk.count,
                offset,
                length,
                crc: crc32c::crc32c(&chunk.bytes),
            });
            offset += u64::from(length);
        }
    }
    Ok(())
}
