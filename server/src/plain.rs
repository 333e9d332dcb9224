//! The postcard form of plain values: numbers, texts, lists and enums of such, which always serialises.

use std::io::{self, Write};

use postcard::ser_flavors::Size;
use serde::{Serialize, Serializer};

/// The bytes of a plain value.
pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    bytes_after(Vec::new(), value)
}

/// The bytes of a plain value behind a prefix.
pub(crate) fn bytes_after<T: Serialize>(prefix: Vec<u8>, value: &T) -> Vec<u8> {
    postcard::to_extend(value, prefix).expect("a plain value always serialises")
}

/// How many bytes a plain value takes.
pub(crate) fn size<T: Serialize>(value: &T) -> u64 {
    let size = postcard::serialize_with_flavor(value, Size::default());
    size.expect("a plain value always serialises") as u64
}

/// Writes the bytes of a plain value piece by piece, so that they never lie in memory together.
///
/// # Errors
/// What the writer says.
pub(crate) fn write<T: Serialize>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer { out, error: None };
    match postcard::to_io(value, &mut writer) {
        Ok(_) => Ok(()),
        Err(error) => Err(writer.error.unwrap_or_else(|| io::Error::other(error))),
    }
}

/// Bytes at once: the same form as one after the other, and a hundred times as quick.
pub(crate) fn at_once<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

/// Keeps what the writer said, of which postcard passes on nothing.
struct Writer<'a> {
    out: &'a mut dyn Write,
    error: Option<io::Error>,
}

impl Writer<'_> {
    fn keep<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.out.write_all(bytes).map(|()| bytes.len());
        self.keep(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.out.flush();
        self.keep(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Plain {
        number: u64,
        list: Vec<String>,
        #[serde(serialize_with = "at_once")]
        bytes: Vec<u8>,
    }

    #[test]
    fn what_is_written_piece_by_piece_is_the_same_and_its_size_is_known() {
        let value = Plain {
            number: 300,
            list: vec![String::new(), "web01".to_owned()],
            bytes: (0..=255).collect(),
        };
        let whole = bytes(&value);
        let list: Vec<u8> = (0..=255).collect();
        assert_eq!(whole, bytes(&(value.number, &value.list, list)));
        assert_eq!(size(&value), whole.len() as u64);
        let mut pieces = Vec::new();
        write(&value, &mut pieces).unwrap();
        assert_eq!(pieces, whole);
        for room in 0..whole.len() {
            let mut short = &mut vec![0; room][..];
            let error = write(&value, &mut short).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WriteZero, "room for {room}");
        }
    }
}
