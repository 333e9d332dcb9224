//! Joining: a join line becomes an identity.
//!
//! 1. The key is made, and stored as pending.
//! 2. The server proves that it holds the CA of the line. Only then does the secret leave the host.
//! 3. The answer is checked and stored; then the pending key is forgotten.
//!
//! A kill between any two steps leaves either the old identity or the new one, and the next `join` with the same line goes on
//! with the same key, which the server answers with the same host and without a further use of the token.

use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use dawnwatch_proto::joinline::BadJoinLine;
use dawnwatch_proto::pb::enrolment_client::EnrolmentClient;
use dawnwatch_proto::{HostId, JoinLine, MESSAGE_BYTES_MAX, pb};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use ring::digest::{Context as Digest, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::store::{self, Document, Pin, Purpose, StoreError};
use super::{Address, BadAddress, ConnectError, connect, trust};

/// How long connecting may take: a person is waiting for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to answer: it waits for its disk, and for hosts that join at the same time.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the id of a machine stands; the second is the older place.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Stands in for the machine-id where the system has none, so that joining again finds the same host.
const OWN_MACHINE_ID: &str = "machine-id";

/// A host that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub host_id: HostId,
    /// The name the server knows it by.
    pub host_name: String,
    /// The server's clock minus this host's.
    pub offset_ms: i64,
}

/// Joining came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The line is none.
    #[error(transparent)]
    Line(#[from] BadJoinLine),
    /// The identity cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(ConnectError),
    /// The server is another one.
    #[error(
        "the server at {0} is not the one that made this join line: its CA is another. Nothing was sent to it. Check the address, and copy the line from that server: dawnwatch token create"
    )]
    WrongServer(String),
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// The server cannot at the moment.
    #[error("the server at {server} did not finish joining: {why}; run the same command again")]
    Failed {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The server's answer does not fit the question.
    #[error(
        "the server at {server} gave an answer that cannot be right ({why}): are its version and this one's the same?"
    )]
    Answer {
        /// The server.
        server: String,
        /// What is wrong with it.
        why: String,
    },
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(#[source] rcgen::Error),
}

impl JoinError {
    /// The exit code of the command.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            JoinError::Address(_) => 64,
            JoinError::Line(_) => 65,
            JoinError::Connect(_) | JoinError::Failed { .. } => 69,
            JoinError::Answer { .. } | JoinError::Key(_) => 70,
            JoinError::Store(_) => 73,
            JoinError::WrongServer(_) | JoinError::Refused(_) => 77,
        }
    }
}

/// Joins the server that made this line, and stores the identity. Running it again is always safe.
///
/// # Errors
/// What stands in the way, and what to do.
pub async fn join(
    server: &str,
    line: &str,
    state: &Path,
    hostname: Option<String>,
    now_wall: Timestamp,
) -> Result<Joined, JoinError> {
    let began = Instant::now();
    let server: Address = server.parse()?;
    let line: JoinLine = line.parse()?;
    let pin = Pin(line.pin);
    store::make_dir(state)?;
    // One that cannot be read is replaced: joining again is the remedy for it.
    let old = store::load(state).ok();
    let mut key = key_for(state, &line, old.as_ref())?;

    let config = trust::client_config(vec![pin], None, None).map_err(ConnectError::Setup);
    let config = config.map_err(JoinError::Connect)?;
    let channel = connect::channel_with(config, &server, CONNECT_TIMEOUT).await;
    let channel = channel.map_err(|error| connect_error(error, &server))?;
    let mut ask = Ask {
        client: EnrolmentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        server: server.to_string(),
        line: &line,
        hostname: hostname.unwrap_or_else(node_name),
        machine: machine(state)?,
        began,
        now_wall,
    };
    let (reply, offset_ms) = match ask.ask(&key).await? {
        Some(answer) => answer,
        // The host was retired or shut out since this key was certified.
        None => {
            key = fresh_key(state, &line)?;
            let again = ask.ask(&key).await?;
            again.ok_or_else(|| ask.odd("it refuses every key"))?
        }
    };
    let host_id = check_reply(&reply, pin, &key).map_err(|why| ask.odd(&why))?;
    let mut document = Document::new(host_id, reply.host_name, pin, line.id.clone());
    document.offset_ms = offset_ms;
    if let Some(old) = old.filter(|old| old.pins.contains(&pin)) {
        document.servers = old.servers;
    }
    document.prefer(&server.to_string());
    document.leaf = reply.chain.into_iter().next().unwrap_or_default();
    document.key = key.serialize_der();
    store::save(state, &document)?;
    store::forget_pending(state)?;
    Ok(Joined {
        host_id,
        host_name: document.host_name,
        offset_ms,
    })
}

/// What is asked of a server that proved to be the right one.
struct Ask<'a> {
    client: EnrolmentClient<Channel>,
    server: String,
    line: &'a JoinLine,
    hostname: String,
    machine: String,
    began: Instant,
    now_wall: Timestamp,
}

impl Ask<'_> {
    /// The answer, and the server's clock minus this host's; none where the server wants a fresh key.
    async fn ask(&mut self, key: &KeyPair) -> Result<Option<(pb::JoinReply, i64)>, JoinError> {
        let asked = Instant::now();
        let request = pb::JoinRequest {
            token_id: self.line.id.clone(),
            secret: self.line.secret.clone(),
            csr: csr(key).map_err(JoinError::Key)?,
            hostname: self.hostname.clone(),
            machine: self.machine.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wall_ms: self.wall_ms(asked),
        };
        let reply = timeout(CALL_TIMEOUT, self.client.join(request)).await;
        let seconds = CALL_TIMEOUT.as_secs();
        let reply = reply.map_err(|_| self.failed(format!("no answer within {seconds} s")))?;
        match reply {
            Ok(reply) => {
                let reply = reply.into_inner();
                // The server looked at its clock between question and answer.
                let middle = asked + asked.elapsed() / 2;
                let offset_ms = reply.server_wall_ms.saturating_sub(self.wall_ms(middle));
                Ok(Some((reply, offset_ms)))
            }
            Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
            Err(status) if is_no(&status) => Err(JoinError::Refused(status.message().to_owned())),
            Err(status) => Err(self.failed(status.message().to_owned())),
        }
    }

    /// This host's wall clock at a moment of the call.
    fn wall_ms(&self, at: Instant) -> i64 {
        let passed = i64::try_from((at - self.began).as_millis()).unwrap_or(0);
        self.now_wall.as_millisecond().saturating_add(passed)
    }

    fn failed(&self, why: String) -> JoinError {
        JoinError::Failed {
            server: self.server.clone(),
            why,
        }
    }

    fn odd(&self, why: &str) -> JoinError {
        JoinError::Answer {
            server: self.server.clone(),
            why: why.to_owned(),
        }
    }
}

/// Whether a server's answer is a no that asking again does not change.
pub(super) fn is_no(status: &Status) -> bool {
    let no = [
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::InvalidArgument,
    ];
    no.contains(&status.code())
}

/// The key to ask a certificate for: the one this very line was used with before, in force or pending, else a fresh one,
/// which is stored before the server hears of it.
fn key_for(state: &Path, line: &JoinLine, old: Option<&Document>) -> Result<KeyPair, JoinError> {
    let pin = Pin(line.pin);
    let in_force = old.filter(|old| old.token == line.id && old.pins.contains(&pin));
    let purpose = Purpose::Join {
        pin,
        token: line.id.clone(),
    };
    let known = store::pending(state, &purpose).or_else(|| in_force.map(|old| old.key.clone()));
    if let Some(key) = known.and_then(|key| KeyPair::try_from(key).ok()) {
        return Ok(key);
    }
    fresh_key(state, line)
}

fn fresh_key(state: &Path, line: &JoinLine) -> Result<KeyPair, JoinError> {
    let key = KeyPair::generate().map_err(JoinError::Key)?;
    let purpose = Purpose::Join {
        pin: Pin(line.pin),
        token: line.id.clone(),
    };
    store::save_pending(state, purpose, key.serialized_der())?;
    Ok(key)
}

/// A request over this key. The server takes nothing from it but the key.
pub(super) fn csr(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn check_reply(reply: &pb::JoinReply, pin: Pin, key: &KeyPair) -> Result<HostId, String> {
    let host_id: HostId = reply.host_id.parse().map_err(|_| "no host id".to_owned())?;
    check_chain(&reply.chain, &[pin], key, host_id)?;
    Ok(host_id)
}

/// Whether the chain is one that our CA made for this host and this key.
pub(super) fn check_chain(
    chain: &[Vec<u8>],
    pins: &[Pin],
    key: &KeyPair,
    host_id: HostId,
) -> Result<(), String> {
    let leaf = chain.first().ok_or("no certificate")?;
    let facts = trust::facts(leaf)?;
    if facts.key != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err("the certificate is over another key".to_owned());
    }
    let uri = facts.uri.unwrap_or_default();
    if !uri.starts_with(&format!("dawnwatch://host/{host_id}/")) {
        return Err("the certificate is another host's".to_owned());
    }
    if !trust::is_host_of(pins, leaf, &chain[1..]) {
        return Err("the certificate is not the CA's".to_owned());
    }
    Ok(())
}

fn connect_error(error: ConnectError, server: &Address) -> JoinError {
    if matches!(error, ConnectError::WrongServer { .. }) {
        return JoinError::WrongServer(server.to_string());
    }
    JoinError::Connect(error)
}

fn node_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// A hash that tells this machine from others. The machine-id itself is confidential (machine-id(5)), so it never leaves.
fn machine(state: &Path) -> Result<String, StoreError> {
    for path in MACHINE_IDS {
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        if !text.trim().is_empty() {
            return Ok(machine_hash(text.trim()));
        }
    }
    let path = state.join(OWN_MACHINE_ID);
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(machine_hash(text.trim()));
    }
    let mut bytes = [0; 16];
    // Without random bytes the host has no machine of its own, and is a new one at each join.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return Ok(String::new());
    }
    let text = HEXLOWER.encode(&bytes);
    store::save_text(state, OWN_MACHINE_ID, &text)?;
    Ok(machine_hash(&text))
}

fn machine_hash(id: &str) -> String {
    let mut digest = Digest::new(&SHA256);
    digest.update(b"dawnwatch machine ");
    digest.update(id.as_bytes());
    HEXLOWER.encode(digest.finish().as_ref())
}
