//! As much of D-Bus as is needed to ask systemd: calls of methods that take texts, and their answers.
//!
//! A message (D-Bus specification 1.0, "Message Format"), all little-endian as the sender says in its first byte:
//!
//! ```text
//! u8 'l' | u8 kind (1 call, 2 answer, 3 error, 4 signal) | u8 flags | u8 1 | u32 bytes of the body | u32 serial
//! u32 bytes of the fields | fields, each aligned to 8: u8 code, signature of one type, value | pad to 8 | body
//! ```
//! Fields: 1 path, 2 interface, 3 member, 4 name of the error, 5 serial answered to, 6 destination, 8 signature.
//!
//! Every call waits for its answer for a bounded time; every length is bounded.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for one piece of an answer: it is another process of this host.
const WAIT: Duration = Duration::from_secs(5);

/// Largest answer: ten thousand units.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Messages passed over while waiting for an answer: signals that nobody asked for.
const PASSED_MAX: usize = 64;

/// Longest line of the greeting.
const LINE_BYTES_MAX: usize = 512;

const HEADER_BYTES: usize = 16;
const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;

/// Why the bus gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// The socket failed, or waiting took too long.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// The bus ended the connection: that is how it turns a user away.
    #[error("it hung up: its policy may not let this user in")]
    HungUp,
    /// What came is no D-Bus.
    #[error("it answered what is no D-Bus: {0}")]
    Garbled(&'static str),
    /// The bus or the one asked said no.
    #[error("it refused: {0}")]
    Refused(String),
}

impl From<std::io::Error> for BusError {
    fn from(error: std::io::Error) -> BusError {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        if matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset) {
            return BusError::HungUp;
        }
        BusError::Io(error)
    }
}

/// What is asked of whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) texts: &'a [&'a str],
}

/// A connection to a message bus.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects to a bus at a socket and says hello.
    pub(crate) fn connect(socket: &Path) -> Result<Bus, BusError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let mut bus = Bus { stream, serial: 0 };
        bus.authenticate()?;
        bus.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            texts: &[],
        })?;
        Ok(bus)
    }

    /// The kernel tells the bus who asks; the text only says which way of asking is meant.
    fn authenticate(&mut self) -> Result<(), BusError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream
            .write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            if line.len() >= LINE_BYTES_MAX {
                return Err(BusError::Garbled("an endless greeting"));
            }
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK") {
            return Err(BusError::Refused("the login".to_owned()));
        }
        self.stream.write_all(b"BEGIN\r\n")?;
        Ok(())
    }

    /// Calls a method and waits for its answer: the body.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Result<Vec<u8>, BusError> {
        self.serial += 1;
        self.stream.write_all(&encode(call, self.serial))?;
        for _ in 0..PASSED_MAX {
            let message = self.receive()?;
            if message.answers != Some(self.serial) {
                continue;
            }
            return match message.kind {
                ANSWER => Ok(message.body),
                _ => Err(BusError::Refused(message.error.unwrap_or_default())),
            };
        }
        Err(BusError::Garbled("no answer among many messages"))
    }

    fn receive(&mut self) -> Result<Message, BusError> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        let lengths = Lengths::of(&header)?;
        let mut rest = vec![0; lengths.fields_padded + lengths.body];
        self.stream.read_exact(&mut rest)?;
        Message::of(header[1], &lengths, rest)
    }
}

/// The lengths that a header states.
struct Lengths {
    fields: usize,
    fields_padded: usize,
    body: usize,
}

impl Lengths {
    fn of(header: &[u8; HEADER_BYTES]) -> Result<Lengths, BusError> {
        if header[0] != b'l' || header[3] != 1 {
            return Err(BusError::Garbled("not little-endian version 1"));
        }
        let word = |at: usize| -> usize {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (body, fields) = (word(4), word(12));
        if body > MESSAGE_BYTES_MAX || fields > MESSAGE_BYTES_MAX {
            return Err(BusError::Garbled("over the limit of 4 MiB"));
        }
        Ok(Lengths {
            fields,
            fields_padded: fields.next_multiple_of(8),
            body,
        })
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    kind: u8,
    answers: Option<u32>,
    error: Option<String>,
    body: Vec<u8>,
}

impl Message {
    fn of(kind: u8, lengths: &Lengths, mut rest: Vec<u8>) -> Result<Message, BusError> {
        let garbled = BusError::Garbled("a broken header");
        let body = rest.split_off(lengths.fields_padded);
        rest.truncate(lengths.fields);
        let mut reader = Reader::new(&rest);
        let (mut answers, mut error) = (None, None);
        while !reader.is_at_end() {
            let Some((code, value)) = field(&mut reader) else {
                return Err(garbled);
            };
            match (code, value) {
                (5, Value::Number(serial)) => answers = Some(serial),
                (4, Value::Text(name)) => error = Some(name.to_owned()),
                _ => {}
            }
        }
        if kind == ERROR && error.is_none() {
            return Err(garbled);
        }
        Ok(Message {
            kind,
            answers,
            error,
            body,
        })
    }
}

/// One field of a header; they are of four types only.
fn field<'a>(reader: &mut Reader<'a>) -> Option<(u8, Value<'a>)> {
    reader.align(8)?;
    let code = reader.byte()?;
    Some((code, reader.variant()?))
}

/// A value of a type that is asked for here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A text, a path or a signature.
    Text(&'a str),
    /// An unsigned number, or yes (1) and no (0).
    Number(u32),
}

/// Reads a marshalled body.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// A text or a path: length, bytes, NUL.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let text = self.take(len)?;
        self.byte().filter(|end| *end == 0)?;
        std::str::from_utf8(text).ok()
    }

    fn signature(&mut self) -> Option<&'a str> {
        let len = usize::from(self.byte()?);
        let text = self.take(len)?;
        self.byte().filter(|end| *end == 0)?;
        std::str::from_utf8(text).ok()
    }

    /// A value that says its own type; none where that is another than the four asked for.
    pub(crate) fn variant(&mut self) -> Option<Value<'a>> {
        match self.signature()? {
            "s" | "o" => self.text().map(Value::Text),
            "g" => self.signature().map(Value::Text),
            "u" | "b" => self.number().map(Value::Number),
            _ => None,
        }
    }
}

/// The bytes of a call.
fn encode(call: &Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for text in call.texts {
        put_text(&mut body, text);
    }
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (1, b'o', call.path),
        (2, b's', call.interface),
        (3, b's', call.member),
        (6, b's', call.destination),
    ] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_text(&mut fields, text);
    }
    if !call.texts.is_empty() {
        pad(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, len_byte(call.texts.len())]);
        fields.extend(std::iter::repeat_n(b's', call.texts.len()));
        fields.push(0);
    }
    let mut out = vec![b'l', CALL, 0, 1];
    out.extend(len_word(body.len()));
    out.extend(serial.to_le_bytes());
    out.extend(len_word(fields.len()));
    out.extend(fields);
    pad(&mut out, 8);
    out.extend(body);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    pad(out, 4);
    out.extend(len_word(text.len()));
    out.extend(text.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn len_word(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("calls are short").to_le_bytes()
}

fn len_byte(len: usize) -> u8 {
    u8::try_from(len).expect("calls take a few texts")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let call = Call {
            destination: "a.b",
            path: "/p",
            interface: "i.j",
            member: "M",
            texts: &["x"],
        };
        let got = encode(&call, 7);
        let want: &[u8] = b"l\x01\x00\x01\x06\x00\x00\x00\x07\x00\x00\x00\x47\x00\x00\x00\
            \x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00\
            \x02\x01s\x00\x03\x00\x00\x00i.j\x00\x00\x00\x00\x00\
            \x03\x01s\x00\x01\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00\
            \x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00\
            \x08\x01g\x00\x01s\x00\x00\
            \x01\x00\x00\x00x\x00";
        assert_eq!(got, want);
        // Its own reader understands it: the fields are those of any message.
        let header: [u8; HEADER_BYTES] = got[..HEADER_BYTES].try_into().unwrap();
        let lengths = Lengths::of(&header).unwrap();
        let message = Message::of(1, &lengths, got[HEADER_BYTES..].to_vec()).unwrap();
        assert_eq!(Reader::new(&message.body).text(), Some("x"));
    }

    #[test]
    fn lengths_are_bounded() {
        let mut header = [0; HEADER_BYTES];
        (header[0], header[3]) = (b'l', 1);
        assert!(Lengths::of(&header).is_ok());
        header[7] = 1;
        assert!(Lengths::of(&header).is_err(), "16 MiB of body");
        header[0] = b'B';
        assert!(Lengths::of(&header).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_do(bytes in prop::collection::vec(any::<u8>(), 0..200), fields in 0_usize..300) {
            let mut reader = Reader::new(&bytes);
            while reader.variant().is_some() {}
            let padded = fields.next_multiple_of(8).min(bytes.len());
            let lengths = Lengths { fields, fields_padded: padded, body: 0 };
            let _ = Message::of(2, &lengths, bytes);
        }
    }
}
