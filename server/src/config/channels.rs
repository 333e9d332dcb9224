//! `[[channel]]`: who is told, and how.

use std::path::PathBuf;

use dawnwatch_engine::config::Channel;
use dawnwatch_proto::review::Severity;
use lettre::message::Mailbox;

use super::Settings;
use super::reader::{Reader, Section};
use super::rules::SEVERITIES;
use crate::notify::webhook::{SIGNATURE_PREFIX, signing_key};
use crate::notify::{ChannelKind, ChannelSettings, EmailSettings, Secret, Tls, WebhookSettings};

/// Each channel has its thread and its queue.
const CHANNELS_MAX: usize = 32;

/// A channel's name stands in tables and in keys.
const NAME_CHARS_MAX: usize = 32;

/// More people than this want a list address.
const RECIPIENTS_MAX: usize = 50;

const COMMON_KEYS: [&str; 6] = ["name", "type", "night", "day", "reviews", "ca_file"];
const WEBHOOK_KEYS: [&str; 2] = ["url", "secret"];
const EMAIL_KEYS: [&str; 7] = [
    "server",
    "port",
    "tls",
    "user",
    "password_file",
    "from",
    "to",
];

/// The kinds of channels, as they are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Webhook,
    Email,
}

pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, settings: &mut Settings) {
    reader.missing(section, "type", "type = \"webhook\" or \"email\"");
    let kinds = [("webhook", Kind::Webhook), ("email", Kind::Email)];
    let kind = reader.choice(section, "type", &kinds);
    let own: &[&str] = match kind {
        Some(Kind::Webhook) => &WEBHOOK_KEYS,
        Some(Kind::Email) => &EMAIL_KEYS,
        None => &[],
    };
    if kind.is_some() {
        reader.known(section, &[&COMMON_KEYS, own].concat());
    }
    let name = name(reader, section, kind, settings);
    let night = reader.choice(section, "night", &SEVERITIES);
    let day = reader.choice(section, "day", &SEVERITIES);
    let reviews = reader.boolean(section, "reviews");
    let ca_file = reader
        .text(section, "ca_file")
        .map(|(path, _)| PathBuf::from(path));
    let sender = match kind {
        Some(Kind::Webhook) => webhook(reader, section, ca_file).map(ChannelKind::Webhook),
        Some(Kind::Email) => email(reader, section, ca_file).map(ChannelKind::Email),
        None => None,
    };
    let (Some(name), Some(sender)) = (name, sender) else {
        return;
    };
    settings.engine.channels.push(Channel {
        name: name.clone(),
        night: night.unwrap_or(Severity::Critical),
        day: day.unwrap_or(Severity::Warning),
        // A review is a page of text: people read it in their mail.
        reviews: reviews.unwrap_or(kind == Some(Kind::Email)),
    });
    settings
        .channels
        .push(ChannelSettings { name, kind: sender });
}

fn name(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    kind: Option<Kind>,
    settings: &Settings,
) -> Option<String> {
    let (name, at) = match reader.text(section, "name") {
        Some(found) => found,
        None if section.has("name") => return None,
        None => {
            let default = match kind? {
                Kind::Webhook => "webhook",
                Kind::Email => "email",
            };
            (default.to_owned(), section.at.clone())
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
        let text = format!("{name:?} is no name for a channel");
        let hint = format!("1 to {NAME_CHARS_MAX} letters, digits, \"-\", \"_\" or \".\"");
        reader.mistake(at, text, Some(hint));
        return None;
    }
    if settings.channels.iter().any(|channel| channel.name == name) {
        let text = format!("a channel named \"{name}\" is there already");
        reader.mistake(at, text, Some("give each channel its own name".to_owned()));
        return None;
    }
    if settings.channels.len() >= CHANNELS_MAX {
        reader.mistake(at, format!("more than {CHANNELS_MAX} channels"), None);
        return None;
    }
    Some(name)
}

fn webhook(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    ca_file: Option<PathBuf>,
) -> Option<WebhookSettings> {
    reader.missing(
        section,
        "url",
        "where to post, like url = \"https://hooks.example.org/x\"",
    );
    let url = reader.text(section, "url");
    let secret = reader.text(section, "secret");
    if let Some((secret, at)) = &secret
        && signing_key(secret).is_none()
    {
        let text = format!("the secret is empty, or not base64 after {SIGNATURE_PREFIX}");
        reader.mistake(at.clone(), text, None);
    }
    let (url, at) = url?;
    if let Err(why) = check_url(&url) {
        let hint = "write it like \"https://hooks.example.org/x\"".to_owned();
        reader.mistake(
            at,
            format!("url is no address to post to: {why}"),
            Some(hint),
        );
        return None;
    }
    Some(WebhookSettings {
        url: Secret::new(url),
        secret: secret.map(|(secret, _)| Secret::new(secret)),
        ca_file,
    })
}

/// The address is not repeated in the reason: it may hold a secret.
fn check_url(url: &str) -> Result<(), &'static str> {
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it holds blanks");
    }
    let parsed: ureq::http::Uri = url.parse().map_err(|_| "it is malformed")?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err("it must begin with https:// or http://");
    }
    match parsed.host() {
        Some(host) if !host.is_empty() => Ok(()),
        Some(_) | None => Err("the host is missing"),
    }
}

fn email(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    ca_file: Option<PathBuf>,
) -> Option<EmailSettings> {
    reader.missing(
        section,
        "server",
        "the mail server, like server = \"smtp.example.org\"",
    );
    reader.missing(
        section,
        "from",
        "the sender, like from = \"dawnwatch@example.org\"",
    );
    reader.missing(
        section,
        "to",
        "who gets it, like to = [\"ops@example.org\"]",
    );
    let server = server(reader, section);
    let modes = [
        ("starttls", Tls::Starttls),
        ("wrapper", Tls::Wrapper),
        ("none", Tls::None),
    ];
    let tls = reader.choice(section, "tls", &modes);
    if tls == Some(Tls::None)
        && let Some(server) = &server
        && !is_loopback(server)
        && let Some((_, at)) = reader.text(section, "tls")
    {
        let text = "tls = \"none\" is possible only to this machine".to_owned();
        let hint = "use \"starttls\" or \"wrapper\"; ca_file trusts your own CA".to_owned();
        reader.mistake(at, text, Some(hint));
    }
    let tls = tls.unwrap_or(Tls::Starttls);
    let port = reader.port(section, "port");
    let login = login(reader, section);
    let from = reader.text(section, "from");
    let from = from.and_then(|(text, at)| mailbox(reader, "from", &text, at));
    let mut to = Vec::new();
    let recipients = reader.texts(section, "to");
    if (section.has("to") && recipients.is_empty()) || recipients.len() > RECIPIENTS_MAX {
        let text = format!("to must name 1 to {RECIPIENTS_MAX} addresses");
        reader.mistake(section.at_of("to"), text, None);
    }
    for (text, at) in recipients {
        to.extend(mailbox(reader, "to", &text, at));
    }
    Some(EmailSettings {
        server: server?,
        port: port.unwrap_or(tls.default_port()),
        tls,
        login,
        from: from?,
        to,
        ca_file,
    })
}

fn server(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let (server, at) = reader.text(section, "server")?;
    if super::is_server_name(&server) {
        return Some(server);
    }
    let hint = "write the name alone; the port goes into port = 587".to_owned();
    reader.mistake(
        at,
        format!("{server:?} is no name of a mail server"),
        Some(hint),
    );
    None
}

/// Both user and password file, or neither.
fn login(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<(String, PathBuf)> {
    let user = reader.text(section, "user");
    let file = reader.text(section, "password_file");
    match (user, file) {
        (Some((user, _)), Some((file, _))) => Some((user, PathBuf::from(file))),
        (Some((_, at)), None) => {
            let hint = "set password_file to a file that holds only the password".to_owned();
            reader.mistake(at, "user without password_file".to_owned(), Some(hint));
            None
        }
        (None, Some((_, at))) => {
            let hint = "set user as well".to_owned();
            reader.mistake(at, "password_file without user".to_owned(), Some(hint));
            None
        }
        (None, None) => None,
    }
}

fn mailbox(
    reader: &mut Reader<'_>,
    key: &str,
    text: &str,
    at: super::reader::At,
) -> Option<Mailbox> {
    match text.parse() {
        Ok(mailbox) if !text.chars().any(char::is_control) => Some(mailbox),
        Ok(_) | Err(_) => {
            let hint = "write it like \"ops@example.org\" or \"Ops <ops@example.org>\"".to_owned();
            reader.mistake(
                at,
                format!("{key}: {text:?} is no mail address"),
                Some(hint),
            );
            None
        }
    }
}

/// Whether a mail server's name means this machine.
fn is_loopback(server: &str) -> bool {
    server.eq_ignore_ascii_case("localhost")
        || server
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
