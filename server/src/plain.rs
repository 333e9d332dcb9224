//! The postcard form of plain values: numbers, texts, lists and enums of such, which always serialises.

use serde::Serialize;

/// The bytes of a plain value.
pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    bytes_after(Vec::new(), value)
}

/// The bytes of a plain value behind a prefix.
pub(crate) fn bytes_after<T: Serialize>(prefix: Vec<u8>, value: &T) -> Vec<u8> {
    postcard::to_extend(value, prefix).expect("a plain value always serialises")
}
