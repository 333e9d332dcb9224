//! Where messages arrive: a webhook receiver, and a real SMTP server with STARTTLS. Both keep what they get.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

/// Debian's Python: the one that Debian's python3-aiosmtpd belongs to.
pub const PYTHON: &str = "/usr/bin/python3";

/// The SMTP server.
const SMTP_SERVER: &str = include_str!("smtp_server.py");

/// A sender that stops in the middle of a request is let go after this.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: serde_json::Value,
}

impl Posted {
    /// A value in the body; `/alerts/0/status`. Null where there is none.
    #[must_use]
    pub fn at(&self, pointer: &str) -> &serde_json::Value {
        self.body
            .pointer(pointer)
            .unwrap_or(&serde_json::Value::Null)
    }
}

impl Posted {
    /// The key by which a receiver knows a message that came before.
    #[must_use]
    pub fn key(&self) -> &str {
        self.headers
            .get("idempotency-key")
            .map_or("", String::as_str)
    }
}

/// An HTTP server that keeps what is posted to it.
#[derive(Debug)]
pub struct Webhook {
    /// Where it listens.
    pub address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    refused: Arc<Mutex<Vec<Posted>>>,
    down: Arc<AtomicBool>,
}

impl Webhook {
    /// Starts one. Its thread ends with the test's process.
    ///
    /// # Panics
    /// Where no port is to be had.
    #[must_use]
    pub fn start() -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let webhook = Webhook {
            address: listener.local_addr().expect("a bound port has an address"),
            posted: Arc::default(),
            refused: Arc::default(),
            down: Arc::default(),
        };
        let (posted, refused) = (Arc::clone(&webhook.posted), Arc::clone(&webhook.refused));
        let down = Arc::clone(&webhook.down);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let ok = !down.load(Ordering::SeqCst);
                let Some(request) = answer(stream, ok) else {
                    continue;
                };
                let kept = if ok { &posted } else { &refused };
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(request);
            }
        });
        webhook
    }

    /// While down it answers 503.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// What it accepted, in order.
    #[must_use]
    pub fn posted(&self) -> Vec<Posted> {
        self.posted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What came while it was down.
    #[must_use]
    pub fn refused(&self) -> Vec<Posted> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Reads one request and answers it; none where it is no request.
fn answer(stream: TcpStream, ok: bool) -> Option<Posted> {
    stream.set_read_timeout(Some(REQUEST_WITHIN)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let status = if ok {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(reply.as_bytes()).ok()?;
    Some(Posted {
        headers,
        body: serde_json::from_slice(&body).ok()?,
    })
}

/// A mail as it was kept.
#[derive(Debug, Clone, Deserialize)]
pub struct Mail {
    /// Whether it came over TLS.
    pub tls: bool,
    /// The envelope's sender.
    pub sender: String,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// Its headers, names in lower case, decoded.
    pub headers: BTreeMap<String, String>,
    /// Its text.
    pub body: String,
}

impl Mail {
    /// A header; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A real SMTP server (aiosmtpd) that takes mail only after STARTTLS.
#[derive(Debug)]
pub struct Smtp {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The certificate to trust.
    pub ca_file: PathBuf,
    kept: PathBuf,
    child: Child,
}

impl Smtp {
    /// Starts one with a CA and a certificate of its own; its files lie in `dir`.
    ///
    /// # Panics
    /// Where it does not start: [`crate::needs`] says whether it can.
    #[must_use]
    pub fn start(dir: &Path) -> Smtp {
        let file = |name: &str| dir.join(name);
        let (ca_file, kept) = (file("smtp-ca.pem"), file("mails.jsonl"));
        let (certificate, key) = (file("smtp.pem"), file("smtp.key"));
        certify(&ca_file, &certificate, &key).expect("a certificate");
        let script = file("smtp_server.py");
        fs::write(&script, SMTP_SERVER).expect("the server's script");
        let mut command = Command::new(PYTHON);
        command
            .arg(script)
            .args([&certificate, &key, &kept])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // It tells of every connection that a killed server leaves behind.
        command.stderr(fs::File::create(file("smtp.log")).expect("its log"));
        let mut child = command.spawn().expect("python starts");
        let mut port = String::new();
        let out = child.stdout.take().expect("its output is a pipe");
        BufReader::new(out)
            .read_line(&mut port)
            .expect("it says its port");
        Smtp {
            port: port.trim().parse().expect("a port"),
            ca_file,
            kept,
            child,
        }
    }

    /// The mails that came, in order.
    ///
    /// # Panics
    /// Where one cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let text = fs::read_to_string(&self.kept).unwrap_or_default();
        // A line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("a kept mail"))
            .collect()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a CA, and a certificate of it for 127.0.0.1.
fn certify(ca_file: &Path, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(ca_file, ca.self_signed(&ca_key)?.pem())?;
    let own_key = rcgen::KeyPair::generate()?;
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    fs::write(certificate, own.signed_by(&own_key, &issuer)?.pem())?;
    fs::write(key, own_key.serialize_pem())?;
    Ok(())
}
