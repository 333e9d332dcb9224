//! One request and its answer. Our API is asked over its Unix socket, the peers over TCP.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// Nothing that is asked here takes longer.
const WITHIN: Duration = Duration::from_secs(120);

/// Room for what came: an answer of some hundred KB is read in few calls.
const READ_BYTES: usize = 64 * 1024;

/// Who is asked.
#[derive(Debug, Clone)]
pub enum To {
    /// A port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl To {
    /// Asks by GET, over a connection of its own; status and body.
    ///
    /// # Errors
    /// Where there is no answer.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        match self {
            To::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(WITHIN))?;
                whole(stream, path)
            }
            To::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(WITHIN))?;
                whole(stream, path)
            }
        }
    }

    /// The body of an answer that is 200.
    ///
    /// # Errors
    /// Where there is none.
    pub fn body(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (status, body) = self.get(path)?;
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        anyhow::ensure!(status == 200, "{path}: {status} {text}");
        Ok(body)
    }
}

fn whole(mut stream: impl Read + Write, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let head = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.context("an answer has a head")?;
    let status = status(&String::from_utf8_lossy(&answer[..end]))?;
    Ok((status, answer.split_off(end + 4)))
}

fn status(head: &str) -> anyhow::Result<u16> {
    let word = head.split(' ').nth(1).context("an answer has a status")?;
    Ok(word.parse()?)
}

/// A stream of either kind.
trait Stream: Read + Write + Send + std::fmt::Debug {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A connection that is kept, for one GET after the other, as programs and browsers do.
#[derive(Debug)]
pub struct Open {
    stream: BufReader<Box<dyn Stream>>,
    body: Vec<u8>,
}

impl Open {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn new(to: &To) -> anyhow::Result<Open> {
        let stream: Box<dyn Stream> = match to {
            To::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(WITHIN))?;
                Box::new(stream)
            }
            To::Unix(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(WITHIN))?;
                Box::new(stream)
            }
        };
        Ok(Open {
            stream: BufReader::with_capacity(READ_BYTES, stream),
            body: Vec::new(),
        })
    }

    /// The body of an answer that is 200.
    ///
    /// # Errors
    /// Where there is none.
    pub fn body(&mut self, path: &str) -> anyhow::Result<&[u8]> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        let status = status(&self.line()?)?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let field = self.line()?.to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= field.starts_with("transfer-encoding:") && field.contains("chunked");
        }
        self.body.clear();
        if chunked {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16)?;
                self.take(size)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length)?;
        }
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        anyhow::ensure!(status == 200, "{path}: {status} {text}");
        Ok(&self.body)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line)?;
        anyhow::ensure!(read > 0, "the server hung up");
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Adds so many bytes to the body.
    fn take(&mut self, length: usize) -> anyhow::Result<()> {
        let from = self.body.len();
        self.body.resize(from + length, 0);
        Ok(self.stream.read_exact(&mut self.body[from..])?)
    }
}

/// A connection that is kept, for one POST after the other.
#[derive(Debug)]
pub struct Kept {
    to: SocketAddr,
    stream: Option<(TcpStream, BufReader<TcpStream>)>,
    buffer: Vec<u8>,
}

impl Kept {
    /// Connects at the first request.
    #[must_use]
    pub fn new(to: SocketAddr) -> Kept {
        Kept {
            to,
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// Posts a body; the status. A connection that the server ended meanwhile is made anew, once.
    ///
    /// # Errors
    /// Where there is no answer.
    pub fn post(&mut self, head: &str, body: &[u8]) -> anyhow::Result<u16> {
        let fresh = self.stream.is_none();
        match self.try_post(head, body) {
            Err(_) if !fresh => {
                self.stream = None;
                self.try_post(head, body)
            }
            done => done,
        }
    }

    fn try_post(&mut self, head: &str, body: &[u8]) -> anyhow::Result<u16> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.to)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(WITHIN))?;
            self.stream = Some((stream.try_clone()?, BufReader::new(stream)));
        }
        let (out, back) = self.stream.as_mut().context("it was made just now")?;
        self.buffer.clear();
        write!(self.buffer, "{head}Content-Length: {}\r\n\r\n", body.len())?;
        self.buffer.extend_from_slice(body);
        out.write_all(&self.buffer)?;
        let mut line = String::new();
        anyhow::ensure!(back.read_line(&mut line)? > 0, "the server hung up");
        let (status, mut length, mut ends) = (status(&line)?, 0, false);
        loop {
            line.clear();
            anyhow::ensure!(back.read_line(&mut line)? > 0, "the server hung up");
            let field = line.trim_end().to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            ends |= field.starts_with("connection:") && field.contains("close");
        }
        let mut said = vec![0; length];
        back.read_exact(&mut said)?;
        if ends {
            self.stream = None;
        }
        let text = String::from_utf8_lossy(&said);
        anyhow::ensure!(status / 100 == 2, "{status} {text}");
        Ok(status)
    }
}
