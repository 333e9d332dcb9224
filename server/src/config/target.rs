//! `[[target]]`: what is watched without an agent, by ping.

use dawnwatch_engine::config::Target;
use dawnwatch_proto::review::Severity;

use super::reader::{Reader, Section};
use super::rules::SEVERITIES;
use super::{Settings, is_server_name};

/// A target's name stands in tables and in series.
const NAME_CHARS_MAX: usize = 64;

/// As many as one agent pings: the pinger may have to ping them all.
const TARGETS_MAX: usize = dawnwatch_proto::probe::TARGETS_MAX;

pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, settings: &mut Settings) {
    reader.known(section, &["name", "address", "from", "tcp", "severity"]);
    reader.missing(
        section,
        "name",
        "what people call it, like name = \"printer1\"",
    );
    reader.missing(
        section,
        "address",
        "an address or a name, like address = \"192.0.2.9\"",
    );
    let name = reader.name(section, "name", NAME_CHARS_MAX);
    let address = reader.text(section, "address");
    if let Some((address, at)) = &address
        && !is_server_name(address)
    {
        let text = format!("address = {address:?} is neither a host name nor an address");
        let hint = "write it without scheme, port and path, like \"192.0.2.9\"";
        reader.mistake(at.clone(), text, Some(hint.to_owned()));
    }
    let targets = &mut settings.engine.targets;
    if let Some(name) = &name
        && targets.iter().any(|target| target.name == *name)
    {
        let text = format!("a second target \"{name}\"");
        reader.mistake(
            section.at_of("name"),
            text,
            Some("give each its own name".to_owned()),
        );
    }
    if targets.len() == TARGETS_MAX {
        let text = format!("over {TARGETS_MAX} targets: one agent pings no more");
        reader.mistake(section.at_of("name"), text, None);
    }
    let from = reader.text(section, "from").map(|(from, _)| from);
    let target = Target {
        name: name.unwrap_or_default(),
        address: address.map(|(address, _)| address).unwrap_or_default(),
        from,
        tcp_port: reader.port(section, "tcp"),
        severity: reader
            .choice(section, "severity", &SEVERITIES)
            .unwrap_or(Severity::Warning),
    };
    settings.engine.targets.push(target);
}
