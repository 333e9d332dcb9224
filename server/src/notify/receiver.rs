//! Far ends for tests: a web server and a mail server on loopback that follow a script, one entry a connection, and hand
//! on what they were told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Nothing on loopback takes this long: a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a far end was told, in one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Commands of a mail client, in order.
    pub(crate) commands: Vec<String>,
    /// Body of a request, or mail with its headers.
    pub(crate) body: String,
}

/// A far end that follows a script.
pub(crate) struct FarEnd {
    pub(crate) addr: SocketAddr,
    heard: Receiver<Heard>,
}

impl FarEnd {
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/hook", self.addr.port())
    }

    /// The next connection's words.
    pub(crate) fn heard(&self) -> Heard {
        self.heard_within(PATIENCE).expect("nobody called")
    }

    /// The same, if it comes in time.
    pub(crate) fn heard_within(&self, time: Duration) -> Option<Heard> {
        self.heard.recv_timeout(time).ok()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a web server answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// These bytes.
    Raw(&'static str),
    /// 200 and a body without end.
    Endless,
    /// Nothing, and the connection stays open.
    Hang,
    /// Nothing, and the connection is closed.
    Close,
}

/// A web server that answers one request a connection.
pub(crate) fn web(script: Vec<Answer>, tls: Option<Arc<ServerConfig>>) -> FarEnd {
    serve(script, tls, |answer, stream, heard| {
        let mut reader = BufReader::new(stream);
        let request = read_request(&mut reader)?;
        heard.send(request).ok()?;
        let stream = reader.get_mut();
        match answer {
            Answer::Raw(text) => stream.write_all(text.as_bytes()).ok()?,
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }
            Answer::Hang => drop(stream.read(&mut [0])),
            Answer::Close => {}
        }
        Some(())
    })
}

fn read_request(reader: &mut impl BufRead) -> Option<Heard> {
    let mut out = Heard::default();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    out.commands.push(line.trim().to_owned());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        out.headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length: usize = out.headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    out.body = String::from_utf8(body).ok()?;
    Some(out)
}

/// What a mail server says other than usual in one connection: the start of a command, and the answer. `.` is the end of
/// the mail; an empty answer closes the connection.
pub(crate) type Oddities = Vec<(&'static str, &'static str)>;

/// A mail server that takes everything, apart from oddities.
pub(crate) fn post_office(script: Vec<Oddities>, tls: Option<Arc<ServerConfig>>) -> FarEnd {
    serve(script, tls, |oddities, stream, heard| {
        let mut reader = BufReader::new(stream);
        let mut told = Heard::default();
        reader.get_mut().write_all(GREETING).ok()?;
        converse(&oddities, &mut reader, &mut told);
        heard.send(told).ok()
    })
}

const GREETING: &[u8] = b"220 test ESMTP\r\n";

/// A mail server that takes one mail after STARTTLS. What it heard before that stands first among the commands.
pub(crate) fn starttls_office(tls: Arc<ServerConfig>) -> FarEnd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut told = Heard::default();
        stream.write_all(GREETING).unwrap();
        for answer in ["250-test\r\n250 STARTTLS\r\n", "220 go on\r\n"] {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            told.commands.push(line.trim_end().to_owned());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
        let stream: &mut dyn Stream = &mut stream;
        converse(&Vec::new(), &mut BufReader::new(stream), &mut told);
        let _ = sender.send(told);
    });
    FarEnd { addr, heard }
}

fn converse(
    oddities: &Oddities,
    reader: &mut BufReader<&mut dyn Stream>,
    told: &mut Heard,
) -> Option<()> {
    let odd = |command: &str| {
        oddities
            .iter()
            .find(|(start, _)| command.starts_with(start))
    };
    let mut in_mail = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if in_mail && line != ".\r\n" {
            told.body.push_str(&line);
            continue;
        }
        let command = line.trim_end();
        told.commands.push(command.to_owned());
        let usual = match command.split([' ', ':']).next()? {
            "EHLO" => "250-test\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "DATA" => "354 go on",
            "." => "250 2.0.0 queued as 4711",
            "QUIT" => "221 bye",
            "AUTH" => "235 welcome",
            _ => "250 ok",
        };
        let answer = odd(command).map_or(usual, |(_, answer)| answer);
        in_mail = command == "DATA" && answer.starts_with('3');
        if answer.is_empty() {
            return None;
        }
        reader
            .get_mut()
            .write_all(format!("{answer}\r\n").as_bytes())
            .ok()?;
        if command == "QUIT" {
            return None;
        }
    }
}

/// Takes one connection for each entry of the script, one after the other.
fn serve<T: Send + 'static>(
    script: Vec<T>,
    tls: Option<Arc<ServerConfig>>,
    talk: impl Fn(T, &mut dyn Stream, &Sender<Heard>) -> Option<()> + Send + 'static,
) -> FarEnd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for entry in script {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            match &tls {
                Some(tls) => {
                    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    talk(entry, &mut stream, &sender);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
                None => drop(talk(entry, &mut { stream }, &sender)),
            }
        }
    });
    FarEnd { addr, heard }
}

/// A certificate for `localhost` that signs itself: as PEM to trust, and a server that shows it.
pub(crate) fn identity() -> (String, Arc<ServerConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (certificate.pem(), Arc::new(config))
}
