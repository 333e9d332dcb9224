//! `dawnwatch.toml`: what people set, read in one go. Every mistake is reported at once, with its line and, where one is
//! near, the word that was meant. The file is optional, and so is everything in it.
//!
//! [`parse`] is pure: it is given the text and the guessed zone. [`guess_zone`] asks the system.

pub(crate) mod calendar;
mod channels;
mod mistake;
mod reader;
mod rules;
mod target;
mod web;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use dawnwatch_engine::config::{Config, HostFacts};
use dawnwatch_proto::AGENT_PORT;
use dawnwatch_proto::review::Importance;
use jiff::tz::TimeZone;

use crate::notify::ChannelSettings;
use reader::{Reader, Section};

pub(crate) use calendar::parse_expected;
pub use mistake::{Mistake, Mistakes};
pub use web::{Tls, WebSettings};

/// Longest service, owner or site: longer ones are no names, and they are shown in tables.
const FACT_CHARS_MAX: usize = 64;

/// Largest configuration that is read: a thousand times the example, so that a wrong path to a log file is refused.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What `dawnwatch.toml` sets, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What the engine judges by.
    pub engine: Config,
    /// Where agents are listened for.
    pub listen: SocketAddr,
    /// Further names and addresses that agents reach this server by, for the join line.
    pub names: Vec<String>,
    /// The agent that is handed out to hosts which have none; where packages put it unless it is named.
    pub agent_binary: Option<PathBuf>,
    /// How each channel sends, in the order of `engine.channels`.
    pub channels: Vec<ChannelSettings>,
    /// Where and how people are served.
    pub web: WebSettings,
    /// The host that pings for the server, by name; none: the agent on the server's own machine.
    pub pinger: Option<String>,
}

impl Settings {
    /// What holds without a file.
    #[must_use]
    pub fn defaults(guessed_zone: &str) -> Settings {
        let mut engine = Config::default();
        guessed_zone.clone_into(&mut engine.calendar.zone);
        Settings {
            engine,
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, AGENT_PORT)),
            names: Vec::new(),
            agent_binary: None,
            channels: Vec::new(),
            web: WebSettings::default(),
            pinger: None,
        }
    }
}

/// The system's IANA zone, as `TZ` or `/etc/localtime` names it; `UTC` where they name none.
#[must_use]
pub fn guess_zone() -> String {
    TimeZone::system().iana_name().unwrap_or("UTC").to_owned()
}

/// Reads the text of `dawnwatch.toml`; `path` is how mistakes name the file.
///
/// # Errors
/// All mistakes at once, in the order of their lines.
pub fn parse(text: &str, path: &str, guessed_zone: &str) -> Result<Settings, Mistakes> {
    let mut settings = Settings::defaults(guessed_zone);
    let (root, mut reader) = Reader::start(text);
    let root = Section::root(&root);
    reader.known(
        &root,
        &[
            "server", "web", "calendar", "rules", "channel", "host", "target",
        ],
    );
    if let Some(section) = reader.section(&root, "server") {
        server(&mut reader, &section, &mut settings);
    }
    if let Some(section) = reader.section(&root, "web") {
        web::read(&mut reader, &section, &mut settings.web);
    }
    if let Some(section) = reader.section(&root, "calendar") {
        calendar::read(&mut reader, &section, &mut settings.engine.calendar);
    }
    if let Some(section) = reader.section(&root, "rules") {
        rules::read(&mut reader, &section, &mut settings.engine.rules);
    }
    for section in reader.sections(&root, "channel") {
        channels::read(&mut reader, &section, &mut settings);
    }
    for section in reader.sections(&root, "host") {
        host(&mut reader, &section, &mut settings.engine.hosts);
    }
    for section in reader.sections(&root, "target") {
        target::read(&mut reader, &section, &mut settings);
    }
    reader.finish(path)?;
    Ok(settings)
}

fn server(reader: &mut Reader<'_>, section: &Section<'_>, settings: &mut Settings) {
    reader.known(section, &["listen", "names", "agent_binary", "pinger"]);
    settings.pinger = reader.name(section, "pinger", FACT_CHARS_MAX);
    if let Some((text, at)) = reader.text(section, "listen") {
        match text.parse() {
            Ok(address) => settings.listen = address,
            Err(_) => reader.mistake(
                at,
                format!("listen = {text:?} is no address with a port"),
                Some(format!(
                    "write it like \"[::]:{AGENT_PORT}\" or \"192.0.2.1:{AGENT_PORT}\""
                )),
            ),
        }
    }
    if let Some((text, at)) = reader.text(section, "agent_binary") {
        let path = PathBuf::from(&text);
        if path.is_absolute() {
            settings.agent_binary = Some(path);
        } else {
            reader.mistake(
                at,
                format!("agent_binary = {text:?} is no absolute path"),
                Some("write it like \"/usr/lib/dawnwatch/dawnwatch-agent\"".to_owned()),
            );
        }
    }
    for (name, at) in reader.texts(section, "names") {
        if is_server_name(&name) {
            settings.names.push(name);
        } else {
            reader.mistake(
                at,
                format!("{name:?} is neither a host name nor an address"),
                Some(
                    "write it without scheme, port and path, like \"monitor.example.org\""
                        .to_owned(),
                ),
            );
        }
    }
}

/// Whether a text is a DNS name or an IP address.
fn is_server_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

fn host(reader: &mut Reader<'_>, section: &Section<'_>, hosts: &mut Vec<HostFacts>) {
    reader.known(
        section,
        &["match", "service", "owner", "site", "importance", "hours"],
    );
    let Some((name, at)) = reader.text(section, "match") else {
        reader.missing(
            section,
            "match",
            "a glob over host names, like match = \"db*\"",
        );
        return;
    };
    if name.is_empty() {
        let hint = Some("write \"*\" for every host".to_owned());
        reader.mistake(at, "match = \"\" matches no host".to_owned(), hint);
    }
    let fact = |reader: &mut Reader<'_>, key| reader.name(section, key, FACT_CHARS_MAX);
    let importance = [
        ("low", Importance::Low),
        ("normal", Importance::Normal),
        ("high", Importance::High),
    ];
    hosts.push(HostFacts {
        name,
        service: fact(reader, "service"),
        owner: fact(reader, "owner"),
        site: fact(reader, "site"),
        importance: reader.choice(section, "importance", &importance),
        hours: calendar::expected(reader, section),
    });
}

#[cfg(test)]
mod tests;
