//! Bytes to lines: however the bytes are cut into reads, the same lines come out.
//!
//! A line ends at `\n`; a `\r` before it goes too. What is longer than [`LINE_BYTES_MAX`] is cut there and says how long it
//! was. A line that is longer than [`GIVE_UP_BYTES`] is handed out before its end, and the rest of it is passed over, so that
//! a file without any newline costs neither memory nor, after a restart, the reading of all of it again.

use dawnwatch_proto::event::LINE_BYTES_MAX;
use memchr::memchr;

/// A line is not waited for beyond this: nobody writes lines of a megabyte that end.
const GIVE_UP_BYTES: u64 = 1 << 20;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// Its bytes without the newline, at most [`LINE_BYTES_MAX`].
    pub(crate) bytes: &'a [u8],
    /// How long it was, where it was cut (for one that was not waited for: so far); else 0.
    pub(crate) cut_from: u32,
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// The beginning of the line under way.
    part: Vec<u8>,
    /// All bytes of the line under way.
    length: u64,
    /// The line under way was handed out: its rest is passed over.
    given_up: bool,
}

impl Framer {
    /// A framer that begins within a line that was handed out before.
    pub(crate) fn within(given_up: bool) -> Framer {
        Framer {
            given_up,
            ..Framer::default()
        }
    }

    /// Whether the line under way was handed out already.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Bytes at the end of what came that are not handed out: a cursor stands before them.
    pub(crate) fn pending(&self) -> u64 {
        if self.given_up { 0 } else { self.length }
    }

    /// Takes bytes; hands out each line that ends in them.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Raw<'_>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.given_up {
                *self = Framer::default();
            } else if self.length == 0 {
                each(cut(line, len(line)));
            } else {
                self.add(line);
                self.finish(&mut each);
            }
        }
        if self.given_up {
            return;
        }
        self.add(bytes);
        if self.length >= GIVE_UP_BYTES {
            self.finish(&mut each);
            self.given_up = true;
        }
    }

    /// Nothing more will come: hands out the line under way.
    pub(crate) fn end(&mut self, mut each: impl FnMut(Raw<'_>)) {
        if self.length > 0 && !self.given_up {
            self.finish(&mut each);
        }
        *self = Framer::default();
    }

    fn add(&mut self, bytes: &[u8]) {
        // One byte more than a line may have: it may be the `\r` that goes.
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.part.len());
        self.part.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += len(bytes);
    }

    fn finish(&mut self, each: &mut impl FnMut(Raw<'_>)) {
        each(cut(&self.part, self.length));
        // The memory goes too: most files end with a whole line most of the time.
        *self = Framer::default();
    }
}

/// A line of `length` bytes that begins with `head`.
fn cut(head: &[u8], length: u64) -> Raw<'_> {
    let whole = len(head) == length;
    let head = match head {
        [line @ .., b'\r'] if whole => line,
        line => line,
    };
    if whole && head.len() <= LINE_BYTES_MAX {
        let bytes = head;
        return Raw { bytes, cut_from: 0 };
    }
    Raw {
        bytes: &head[..head.len().min(LINE_BYTES_MAX)],
        cut_from: u32::try_from(length).unwrap_or(u32::MAX),
    }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of a stream that is read in pieces of these sizes, then ended.
    fn lines(bytes: &[u8], pieces: &[usize]) -> Vec<(Vec<u8>, u32)> {
        let (mut framer, mut out, mut at) = (Framer::default(), Vec::new(), 0);
        for size in pieces.iter().copied().chain([bytes.len()]) {
            let end = (at + size).min(bytes.len());
            framer.push(&bytes[at..end], |raw| {
                out.push((raw.bytes.to_vec(), raw.cut_from));
            });
            at = end;
        }
        framer.end(|raw| out.push((raw.bytes.to_vec(), raw.cut_from)));
        out
    }

    #[test]
    fn lines_end_where_they_end() {
        for (bytes, want) in [
            (&b""[..], &[][..]),
            (b"\n", &[&b""[..]]),
            (b"a\nb", &[b"a", b"b"]),
            (b"a\r\nb\r\n", &[b"a", b"b"]),
            (b"a\rb\n", &[b"a\rb"]),
            (b"\0\xff\n", &[b"\0\xff"]),
            (b"\r\n\r\n", &[b"", b""]),
        ] {
            let found: Vec<_> = lines(bytes, &[]).into_iter().map(|(l, _)| l).collect();
            assert_eq!(found, want, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_says_how_long_it_was() {
        let exact = [vec![b'x'; LINE_BYTES_MAX], b"\n".to_vec()].concat();
        assert_eq!(lines(&exact, &[100])[0], (vec![b'x'; LINE_BYTES_MAX], 0));
        let mut long = vec![b'x'; LINE_BYTES_MAX + 1];
        long.extend_from_slice(b"\nnext\n");
        let found = lines(&long, &[7, LINE_BYTES_MAX]);
        assert_eq!(found[0].0.len(), LINE_BYTES_MAX);
        assert_eq!(found[0].1, 65_537);
        assert_eq!(found[1], (b"next".to_vec(), 0));
    }

    #[test]
    fn ten_megabytes_without_an_end_are_one_line_and_no_memory() {
        let (mut framer, mut out) = (Framer::default(), Vec::new());
        for _ in 0..160 {
            framer.push(&[b'x'; LINE_BYTES_MAX], |raw| out.push(raw.cut_from));
            assert!(framer.part.capacity() <= 4 * LINE_BYTES_MAX);
        }
        assert!(framer.is_given_up());
        assert_eq!((framer.pending(), out.as_slice()), (0, &[1 << 20][..]));
        // After a restart the rest is passed over too.
        let mut framer = Framer::within(framer.is_given_up());
        let mut next = Vec::new();
        framer.push(b"xxx\nshort\n", |raw| next.push(raw.bytes.to_vec()));
        assert_eq!(next, [b"short".to_vec()]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..400),
            pieces in proptest::collection::vec(0usize..50, 0..40),
        ) {
            prop_assert_eq!(lines(&bytes, &pieces), lines(&bytes, &[]));
            let plain: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            let found = lines(&bytes, &pieces).len();
            prop_assert_eq!(found, plain.len() - usize::from(plain.last().is_some_and(|l| l.is_empty())));
        }

        #[test]
        fn what_is_pending_is_what_was_not_handed_out(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'x')], 0..200),
            at in 0usize..200,
        ) {
            let at = at.min(bytes.len());
            let (mut whole, mut framer) = (Vec::new(), Framer::default());
            framer.push(&bytes[..at], |raw| whole.push(raw.bytes.to_vec()));
            // Killed here: the next one begins before what is pending.
            let from = at - usize::try_from(framer.pending()).unwrap();
            let mut again = Framer::default();
            again.push(&bytes[from..], |raw| whole.push(raw.bytes.to_vec()));
            again.end(|raw| whole.push(raw.bytes.to_vec()));
            let want: Vec<_> = lines(&bytes, &[]).into_iter().map(|(l, _)| l).collect();
            prop_assert_eq!(whole, want);
        }
    }
}
