//! One entry of the journal, as `journalctl -o json` writes it. Pure.

use std::borrow::Cow;

use serde::Deserialize;

use super::severity::{INFO, named};

/// The fields that are asked for; `__CURSOR` and the times always come.
pub(crate) const FIELDS: &str =
    "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,_COMM,_TRANSPORT";

/// What is used of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where the journal goes on behind it.
    pub(crate) cursor: String,
    /// When it was written, Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Program, as syslog would name it; may be empty.
    pub(crate) program: String,
    /// Unit; else the program.
    pub(crate) source: String,
    /// Process.
    pub(crate) pid: Option<u32>,
    /// Syslog severity.
    pub(crate) severity: u8,
    /// What it says.
    pub(crate) message: String,
}

/// A field: a text, the bytes of what is none, several of either, or nothing where it is too long.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Bytes(Vec<u8>),
    Several(Vec<Field<'a>>),
    Nothing(()),
}

#[derive(Debug, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "__CURSOR")]
    cursor: Cow<'a, str>,
    #[serde(borrow, rename = "__REALTIME_TIMESTAMP")]
    time: Cow<'a, str>,
    #[serde(borrow, rename = "MESSAGE", default)]
    message: Option<Field<'a>>,
    #[serde(borrow, rename = "PRIORITY", default)]
    priority: Option<Field<'a>>,
    #[serde(borrow, rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Option<Field<'a>>,
    #[serde(borrow, rename = "_SYSTEMD_UNIT", default)]
    unit: Option<Field<'a>>,
    #[serde(borrow, rename = "_PID", default)]
    pid: Option<Field<'a>>,
    #[serde(borrow, rename = "_COMM", default)]
    comm: Option<Field<'a>>,
    #[serde(borrow, rename = "_TRANSPORT", default)]
    transport: Option<Field<'a>>,
}

impl Field<'_> {
    fn text(&self) -> String {
        match self {
            Field::Text(text) => text.to_string(),
            Field::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            // A field that is given twice is rare; the first one stands for it.
            Field::Several(all) => all.first().map(Field::text).unwrap_or_default(),
            Field::Nothing(()) => String::new(),
        }
    }
}

/// Reads an entry; none for what is no entry.
pub(crate) fn parse(json: &[u8]) -> Option<Entry> {
    let fields: Fields<'_> = serde_json::from_slice(json).ok()?;
    let text = |field: &Option<Field<'_>>| field.as_ref().map(Field::text).unwrap_or_default();
    let micros: i64 = fields.time.parse().ok()?;
    let (identifier, comm, unit) = (
        text(&fields.identifier),
        text(&fields.comm),
        text(&fields.unit),
    );
    let program = if identifier.is_empty() {
        comm
    } else {
        identifier
    };
    let message = text(&fields.message);
    let priority = text(&fields.priority).parse::<u8>().ok().filter(|p| *p < 8);
    // What a service prints has the priority of its unit, mostly 6: its own words say more.
    let is_printed = text(&fields.transport) == "stdout";
    let by_words = if is_printed || priority.is_none() {
        named(&message)
    } else {
        None
    };
    let severity = match (priority, by_words) {
        (Some(priority), Some(words)) => priority.min(words),
        (priority, words) => priority.or(words).unwrap_or(INFO),
    };
    Some(Entry {
        cursor: fields.cursor.into_owned(),
        time_ms: micros / 1_000,
        source: if unit.is_empty() {
            program.clone()
        } else {
            unit
        },
        program,
        pid: text(&fields.pid).parse().ok(),
        severity,
        message,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(fields: &str) -> Option<Entry> {
        parse(
            format!(
                "{{\"__CURSOR\":\"s=1\",\"__REALTIME_TIMESTAMP\":\"1795317300790034\"{fields}}}"
            )
            .as_bytes(),
        )
    }

    #[test]
    fn entries_are_read_whatever_their_fields_are() {
        let all = entry(
            ",\"MESSAGE\":\"a \\u00e4\",\"PRIORITY\":\"3\",\"SYSLOG_IDENTIFIER\":\"sshd\",\"_SYSTEMD_UNIT\":\"ssh.service\",\"_PID\":\"7\",\"X\":[1]",
        );
        let all = all.unwrap();
        assert_eq!(
            (all.cursor.as_str(), all.time_ms),
            ("s=1", 1_795_317_300_790)
        );
        assert_eq!(
            (all.program.as_str(), all.source.as_str(), all.pid),
            ("sshd", "ssh.service", Some(7))
        );
        assert_eq!((all.severity, all.message.as_str()), (3, "a ä"));
        for (fields, severity, message) in [
            ("", 6, ""),
            (",\"MESSAGE\":[104,105,255]", 6, "hi\u{fffd}"),
            (",\"MESSAGE\":null", 6, ""),
            (",\"MESSAGE\":[\"one\",\"two\"]", 6, "one"),
            (
                ",\"MESSAGE\":\"ERROR x\",\"PRIORITY\":\"6\",\"_TRANSPORT\":\"stdout\"",
                3,
                "ERROR x",
            ),
            (
                ",\"MESSAGE\":\"ERROR x\",\"PRIORITY\":\"6\",\"_TRANSPORT\":\"syslog\"",
                6,
                "ERROR x",
            ),
            (",\"MESSAGE\":\"x\",\"PRIORITY\":\"9\"", 6, "x"),
            (",\"MESSAGE\":\"WARN x\"", 4, "WARN x"),
        ] {
            let found = entry(fields).unwrap();
            assert_eq!(
                (found.severity, found.message.as_str()),
                (severity, message),
                "{fields}"
            );
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in ["", "{", "[]", "{}", "{\"__CURSOR\":\"x\"}", "-- Reboot --"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(entry(",\"MESSAGE\":{\"a\":1}"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
