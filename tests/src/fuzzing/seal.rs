//! Puts checksums right, so that noise reaches what is behind them. What has no room for one is left as it is.

use dawnwatch_server::history::hour::Footer;

/// The segment's header, and each frame that stands whole behind it.
pub fn segment(bytes: &mut [u8]) {
    const FIXED: usize = 22;
    let Some(covered) = bytes
        .get(20..FIXED)
        .map(|b| FIXED + usize::from(u16::from_le_bytes([b[0], b[1]])))
    else {
        return;
    };
    sum(bytes, 0..covered, covered);
    let Some(position) = long(bytes, 12) else {
        return;
    };
    let mut at = covered + 4;
    for position in position..=u64::MAX {
        let Some(length) = word(bytes, at).filter(|length| *length > 0) else {
            return;
        };
        let end = (at + 8).saturating_add(length as usize);
        let Some(payload) = bytes.get(at + 8..end) else {
            return;
        };
        let crc = crc32c::crc32c(&position.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, payload);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// The groups of a block of version 3.
pub fn block(bytes: &mut [u8]) {
    let mut at = 1;
    let mut groups = Vec::new();
    let head = (|| {
        if bytes.first() != Some(&3) {
            return None;
        }
        let (_ticks, _columns) = (number(bytes, &mut at)?, number(bytes, &mut at)?);
        for _ in 0..number(bytes, &mut at)? {
            let _columns = number(bytes, &mut at)?;
            let length = number(bytes, &mut at)?;
            groups.push((at, length));
            at += 4;
        }
        let times = number(bytes, &mut at)?;
        at.checked_add(times)
    })();
    let Some(mut from) = head else { return };
    for (at, length) in groups {
        let end = from.saturating_add(length);
        sum(bytes, from..end, at);
        from = end;
    }
}

/// The blocks of an hour file, their heads, its footer.
pub fn hour_file(bytes: &mut Vec<u8>) {
    const TRAILER: usize = 12;
    let Some(end) = bytes.len().checked_sub(TRAILER) else {
        return;
    };
    let Some(from) = word(bytes, end).and_then(|length| end.checked_sub(length as usize)) else {
        return;
    };
    if let Ok(mut footer) = postcard::from_bytes::<Footer>(&bytes[from..end]) {
        let place = |offset: u64, length: u32| {
            let offset = usize::try_from(offset).ok()?;
            Some(offset..offset.checked_add(length as usize)?)
        };
        for one in &mut footer.blocks {
            let Some(range) = place(one.offset, one.length).filter(|range| range.end <= from)
            else {
                continue;
            };
            block(&mut bytes[range.clone()]);
            let summed = if one.head == 0 { one.length } else { one.head };
            let summed = bytes[range].get(..summed as usize);
            one.crc = summed.map_or(one.crc, crc32c::crc32c);
        }
        for one in &mut footer.events {
            let range = place(one.offset, one.length).filter(|range| range.end <= from);
            one.crc = range.map_or(one.crc, |range| crc32c::crc32c(&bytes[range]));
        }
        let footer = postcard::to_stdvec(&footer).expect("a footer always serialises");
        bytes.truncate(from);
        bytes.extend_from_slice(&footer);
        let length = u32::try_from(footer.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"\0\0\0\0DWHF");
    }
    let end = bytes.len() - TRAILER;
    if let Some(from) = word(bytes, end).and_then(|length| end.checked_sub(length as usize)) {
        sum(bytes, from..end, end + 4);
    }
}

/// The pages of a summary file, the heads of its groups, its header and directory.
pub fn summary_file(bytes: &mut [u8]) {
    const HEADER: usize = 32;
    const ENTRY: usize = 28;
    let Some(end) = bytes.len().checked_sub(12).filter(|end| *end >= HEADER) else {
        return;
    };
    let count = word(bytes, end).unwrap_or(0) as usize;
    let size = count.checked_mul(ENTRY);
    let from = size.and_then(|size| end.checked_sub(size));
    let Some(from) = from.filter(|from| *from >= HEADER) else {
        return;
    };
    let mut group = HEADER;
    for at in (from..end).step_by(ENTRY) {
        let length = word(bytes, at + 16).unwrap_or(0) as usize;
        let head = word(bytes, at + 20).unwrap_or(0) as usize;
        let place = group..group.saturating_add(head);
        if place.end <= from {
            pages(bytes, place.clone());
        }
        sum(bytes, place, at + 24);
        group = group.saturating_add(length);
    }
    let crc = crc32c::crc32c(&bytes[..HEADER]);
    let crc = crc32c::crc32c_append(crc, &bytes[from..end]);
    bytes[end + 4..end + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The pages behind the head of a group of a summary file.
fn pages(bytes: &mut [u8], head: std::ops::Range<usize>) {
    let (mut at, mut page) = (head.start, head.end);
    for _ in 0..number(bytes, &mut at).unwrap_or(0) {
        at = at.saturating_add(8);
        let Some(length) = number(bytes, &mut at).filter(|_| at + 4 <= head.end) else {
            return;
        };
        let end = page.saturating_add(length);
        sum(bytes, page..end, at);
        (at, page) = (at + 4, end);
    }
}

/// A saved engine.
pub fn engine(bytes: &mut [u8]) {
    const HEADER: usize = 14;
    if bytes.len() >= HEADER {
        let hash = bytes[HEADER..]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        bytes[6..HEADER].copy_from_slice(&hash.to_le_bytes());
    }
}

/// A checkpoint.
pub fn checkpoint(bytes: &mut [u8]) {
    const HEADER: usize = 12;
    if bytes.len() >= HEADER {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), &bytes[HEADER..]);
        bytes[8..HEADER].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Writes the CRC32C of a part to a place, where both are there.
fn sum(bytes: &mut [u8], part: std::ops::Range<usize>, at: usize) {
    if let Some(crc) = bytes.get(part).map(crc32c::crc32c)
        && let Some(place) = at.checked_add(4).and_then(|end| bytes.get_mut(at..end))
    {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A LEB128 that is no larger than a length can be.
fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut v = 0usize;
    for shift in [0, 7, 14, 21] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        v |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(v);
        }
    }
    None
}
