//! A message bus with a systemd on it whose units the test sets: it speaks D-Bus over a Unix socket to whoever connects.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A unit as the bus tells of it.
#[derive(Debug, Clone)]
struct Unit {
    active: String,
    restarts: u32,
}

/// The bus, while it is held.
#[derive(Debug, Clone)]
pub struct Bus {
    units: Arc<Mutex<BTreeMap<String, Unit>>>,
}

impl Bus {
    /// Listens at a socket, for ever.
    ///
    /// # Panics
    /// Where the socket cannot be made.
    #[must_use]
    pub fn start(socket: &Path) -> Bus {
        let listener = UnixListener::bind(socket).expect("the socket can be made");
        let bus = Bus {
            units: Arc::default(),
        };
        let answering = bus.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bus = answering.clone();
                // One that hangs up in the middle is done with.
                std::thread::spawn(move || bus.serve(stream));
            }
        });
        bus
    }

    /// Sets a unit's active state, and how often systemd restarted it.
    pub fn set(&self, name: &str, active: &str, restarts: u32) {
        let unit = Unit {
            active: active.to_owned(),
            restarts,
        };
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.insert(name.to_owned(), unit);
    }

    fn serve(&self, stream: UnixStream) -> Option<()> {
        let mut writer = stream.try_clone().ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if !line.starts_with("\0AUTH EXTERNAL ") {
            return None;
        }
        writer.write_all(b"OK 0123456789abcdef\r\n").ok()?;
        line.clear();
        reader.read_line(&mut line).ok()?;
        loop {
            let call = Call::read(&mut reader)?;
            let mut body = Vec::new();
            let error = self.answer(&call, &mut body).is_none();
            writer.write_all(&reply(call.serial, error, &body)).ok()?;
        }
    }

    /// The body of the answer; none where the bus refuses.
    fn answer(&self, call: &Call, body: &mut Vec<u8>) -> Option<()> {
        let units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        match call.member.as_str() {
            "Hello" => text(body, ":1.7"),
            "ListUnits" => {
                let mut list = Vec::new();
                for (name, unit) in units.iter() {
                    align(&mut list, 8);
                    for word in [name, "a description", "loaded", &unit.active, "sub", ""] {
                        text(&mut list, word);
                    }
                    text(&mut list, &path(name));
                    number(&mut list, 0);
                    text(&mut list, "");
                    text(&mut list, "/");
                }
                number(body, u32::try_from(list.len()).ok()?);
                align(body, 8);
                body.extend(list);
            }
            "Get" => {
                let unit = units.iter().find(|(name, _)| path(name) == call.path)?;
                body.extend(b"\x01u\0");
                number(body, unit.1.restarts);
            }
            _ => return None,
        }
        Some(())
    }
}

/// A call that came.
#[derive(Debug)]
struct Call {
    serial: u32,
    path: String,
    member: String,
}

impl Call {
    fn read(reader: &mut impl Read) -> Option<Call> {
        let mut header = [0; 16];
        reader.read_exact(&mut header).ok()?;
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?))
        };
        let (body, serial, fields) = (word(4)?, word(8)?, word(12)?);
        let fields = usize::try_from(fields).ok()?;
        let mut rest = vec![0; fields.next_multiple_of(8) + usize::try_from(body).ok()?];
        reader.read_exact(&mut rest).ok()?;
        let mut call = Call {
            serial,
            path: String::new(),
            member: String::new(),
        };
        let mut at = 0_usize;
        // Fields: code, signature of one letter, value.
        while at < fields {
            at = at.next_multiple_of(8);
            let (code, kind) = (rest[at], rest[at + 2]);
            at += 4;
            if kind == b'g' {
                at += usize::from(rest[at]) + 2;
                continue;
            }
            let len = u32::from_le_bytes(rest[at..at + 4].try_into().ok()?);
            let end = at + 4 + usize::try_from(len).ok()?;
            let value = String::from_utf8(rest[at + 4..end].to_vec()).ok()?;
            match code {
                1 => call.path = value,
                3 => call.member = value,
                _ => {}
            }
            at = end + 1;
        }
        Some(call)
    }
}

/// A unit's path: systemd escapes what is no letter or digit.
fn path(name: &str) -> String {
    let escaped = name.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("_{byte:02x}")
        }
    });
    let escaped: String = escaped.collect();
    format!("/org/freedesktop/systemd1/unit/{escaped}")
}

fn reply(to: u32, error: bool, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    number(&mut fields, to);
    if error {
        fields.extend([4, 1, b's', 0]);
        text(&mut fields, "org.freedesktop.DBus.Error.UnknownMethod");
    }
    let mut out = vec![b'l', if error { 3 } else { 2 }, 1, 1];
    number(&mut out, u32::try_from(body.len()).unwrap_or(0));
    number(&mut out, 1);
    number(&mut out, u32::try_from(fields.len()).unwrap_or(0));
    out.extend(fields);
    align(&mut out, 8);
    out.extend(body);
    out
}

fn number(out: &mut Vec<u8>, number: u32) {
    align(out, 4);
    out.extend(number.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, u32::try_from(text.len()).unwrap_or(0));
    out.extend(text.as_bytes());
    out.push(0);
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}
