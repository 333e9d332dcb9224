//! A channel that mails plain text by SMTP: encrypted, or to this machine alone; one thread of mails an incident.
//!
//! Every recipient is handed over apart, so that one dead address costs nobody else the message; who has it already is
//! remembered between attempts. Caveat: this is lost at a restart, so a recipient may get a mail twice then, with the
//! same Message-ID.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use dawnwatch_engine::effect::{Content, Notification, Reason};
use lettre::Message;
use lettre::address::{Address, Envelope};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, SmtpConnection, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use super::address::Addresses;
use super::{Again, Failure, Notifier, Now, answer, render, trust};

/// Time for one word of the conversation: a server may look through a mail before it answers, and one that needs longer
/// is tried again.
const WORD_SECONDS: u64 = 60;

/// Code of a server that is about to close: nothing was judged.
const CLOSING: &str = "421";

/// How the way to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS, and nothing is said without it.
    Starttls,
    /// TLS from the first byte.
    Wrapper,
    /// None: only to this machine.
    None,
}

impl Tls {
    /// The usual port.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Tls::Starttls => 587,
            Tls::Wrapper => 465,
            Tls::None => 25,
        }
    }
}

/// How mail is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailSettings {
    /// Name or address of the mail server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the way is protected.
    pub tls: Tls,
    /// User, and the file that holds the password.
    pub login: Option<(String, PathBuf)>,
    /// The sender.
    pub from: Mailbox,
    /// The recipients.
    pub to: Vec<Mailbox>,
    /// Certificates to trust in place of the machine's list.
    pub ca_file: Option<PathBuf>,
}

/// Sends through one mail server.
#[derive(Debug)]
pub struct Email {
    settings: EmailSettings,
    /// Who has which message already, or was refused it, by key; until the message ends.
    handed_over: BTreeMap<String, HandedOver>,
    addresses: Addresses,
    word: Duration,
}

/// What became of one message so far.
#[derive(Debug, Default)]
struct HandedOver {
    accepted: BTreeSet<Address>,
    refused: BTreeMap<Address, String>,
    last_answer: String,
}

impl Email {
    /// Makes the sender; nothing is opened before the first message.
    #[must_use]
    pub fn new(settings: EmailSettings) -> Email {
        Email {
            addresses: Addresses::of(&settings.server, settings.port),
            settings,
            handed_over: BTreeMap::new(),
            word: Duration::from_secs(WORD_SECONDS),
        }
    }

    /// Hands the mail to each recipient that still lacks it.
    fn hand_over(
        &self,
        mail: &[u8],
        addresses: &[SocketAddr],
        so_far: &mut HandedOver,
    ) -> Result<(), Failure> {
        let mut connection = None;
        let mut first_failure = None;
        for mailbox in &self.settings.to {
            let to = &mailbox.email;
            if so_far.accepted.contains(to) || so_far.refused.contains_key(to) {
                continue;
            }
            let mut open = match connection.take() {
                Some(open) => open,
                None => self.connect(addresses)?,
            };
            let envelope = Envelope::new(Some(self.settings.from.email.clone()), vec![to.clone()])
                .map_err(|e| Failure::permanent(format!("{to}: {e}")))?;
            match open.send(&envelope, mail) {
                Ok(response) => {
                    so_far.accepted.insert(to.clone());
                    so_far.last_answer = said(&response);
                    connection = Some(open);
                }
                // The connection is closed after an error: the next recipient gets a fresh one.
                Err(error) if error.is_permanent() => {
                    so_far
                        .refused
                        .insert(to.clone(), answer(&error.to_string()));
                }
                Err(error) if error.is_transient() => {
                    first_failure.get_or_insert(failure(&error));
                }
                // Without a word of the server the other recipients would only wait as long once more.
                Err(error) => return Err(first_failure.unwrap_or_else(|| failure(&error))),
            }
        }
        if let Some(mut open) = connection {
            // It has the mails: what it says to the goodbye changes nothing.
            let _ = open.quit();
        }
        first_failure.map_or(Ok(()), Err)
    }

    fn connect(&self, addresses: &[SocketAddr]) -> Result<SmtpConnection, Failure> {
        let settings = &self.settings;
        let hello = ClientId::default();
        let wrapper = match settings.tls {
            Tls::Wrapper => Some(self.tls()?),
            Tls::Starttls | Tls::None => None,
        };
        let mut connection =
            SmtpConnection::connect(addresses, Some(self.word), &hello, wrapper.as_ref(), None)
                .map_err(|error| failure(&error))?;
        if settings.tls == Tls::Starttls {
            let tls = self.tls()?;
            connection
                .starttls(&tls, &hello)
                .map_err(|error| failure(&error))?;
        }
        if let Some((user, file)) = &settings.login {
            let password = std::fs::read_to_string(file)
                .map_err(|e| Failure::transient(format!("read {}: {e}", file.display())))?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            let credentials = Credentials::new(user.clone(), password);
            connection
                .auth(DEFAULT_MECHANISMS, &credentials)
                .map_err(|error| failure(&error))?;
        }
        Ok(connection)
    }

    /// Where the server is; without TLS nowhere but on this machine, whatever the resolver says.
    fn find(&mut self, now: Now) -> Result<Vec<SocketAddr>, Failure> {
        let mut found = self.addresses.find(now.boot_ms)?;
        if self.settings.tls == Tls::None {
            found.retain(|address| address.ip().is_loopback());
        }
        if found.is_empty() {
            let why = format!("{} is not this machine: set tls", self.settings.server);
            return Err(Failure::permanent(why));
        }
        Ok(found)
    }

    fn tls(&self) -> Result<TlsParameters, Failure> {
        let mut tls = TlsParameters::builder(self.settings.server.clone())
            .certificate_store(CertificateStore::None);
        for root in trust::roots(self.settings.ca_file.as_deref())? {
            let root = Certificate::from_der(root.to_vec()).map_err(|error| failure(&error))?;
            tls = tls.add_root_certificate(root);
        }
        tls.build_rustls().map_err(|error| failure(&error))
    }
}

impl Notifier for Email {
    fn deliver(&mut self, notification: &Notification, now: Now) -> Result<String, Failure> {
        let mail = mail(&self.settings, notification)?.formatted();
        let addresses = self.find(now)?;
        let key = &notification.key;
        let mut so_far = self.handed_over.remove(key).unwrap_or_default();
        if let Err(failure) = self.hand_over(&mail, &addresses, &mut so_far) {
            if let Failure::Transient { .. } = failure {
                self.handed_over.insert(key.clone(), so_far);
            }
            return Err(failure);
        }
        if so_far.refused.is_empty() {
            return Ok(so_far.last_answer);
        }
        let mut why = String::new();
        for (to, refusal) in &so_far.refused {
            let _ = write!(why, "{to}: {refusal}; ");
        }
        let _ = write!(
            why,
            "{} of {} got it",
            so_far.accepted.len(),
            self.settings.to.len()
        );
        Err(Failure::permanent(why))
    }
}

fn said(response: &Response) -> String {
    let words: Vec<&str> = response.message().collect();
    answer(&format!("{} {}", response.code(), words.join(" ")))
}

fn failure(error: &smtp::Error) -> Failure {
    let why = answer(&error.to_string());
    if error.is_permanent() {
        return Failure::Permanent { why };
    }
    let closing = error
        .status()
        .is_some_and(|code| code.to_string() == CLOSING);
    let again = if error.is_transient() && !closing {
        Again::Greylist
    } else {
        Again::Backoff
    };
    Failure::Transient { why, again }
}

/// The mail of a notification: the same bytes at every attempt.
fn mail(settings: &EmailSettings, notification: &Notification) -> Result<Message, Failure> {
    let text = render::text(notification);
    let domain = settings.from.email.domain();
    let id = message_id(
        &[
            "message",
            &notification.key,
            &notification.decided.to_string(),
        ],
        domain,
    );
    let mut builder = Message::builder()
        .from(settings.from.clone())
        .date(SystemTime::from(notification.decided))
        .message_id(Some(id))
        .subject(text.subject)
        .header(ContentType::TEXT_PLAIN)
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for to in &settings.to {
        builder = builder.to(to.clone());
    }
    if let Content::Incident(content) = &notification.content {
        // Mails that name the same first message stand together, whether that one exists or not.
        let incident = &content.incident;
        let since = incident.since.to_string();
        let parts = ["incident", &incident.id, &incident.host.to_string(), &since];
        let thread = message_id(&parts, domain);
        if notification.reason != Reason::Opened {
            builder = builder.in_reply_to(thread.clone());
        }
        builder = builder.references(thread);
    }
    let mail = builder.body(text.body);
    mail.map_err(|e| Failure::permanent(format!("cannot be written as a mail: {e}")))
}

/// A Message-ID that depends on nothing but these parts.
fn message_id(parts: &[&str], domain: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, parts.join("\0").as_bytes());
    let half = digest.as_ref().get(..16).unwrap_or_default();
    format!("<dawnwatch.{}@{domain}>", HEXLOWER.encode(half))
}

#[cfg(test)]
mod tests;
