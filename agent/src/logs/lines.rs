//! What becomes of a line: its header goes, our own lines and second ones are left out, its severity is found.

use std::path::Path;

use super::entry::Entry;
use super::frame::Raw;
use super::header::strip;
use super::severity::{INFO, named};
use super::shaper::{Incoming, Shaper, When};
use super::twice::{Twins, Way};

/// Where lines of all sources come together.
#[derive(Debug)]
pub(crate) struct Lines {
    /// What shapes and counts them.
    pub(crate) shaper: Shaper,
    /// Where the journal is read: what came one way and is still to come the other.
    pub(crate) twins: Option<Twins>,
}

impl Lines {
    /// Takes a line of a file.
    pub(crate) fn of_file(&mut self, path: &Path, raw: Raw<'_>, when: When) {
        let whole = String::from_utf8_lossy(raw.bytes);
        if whole.trim().is_empty() {
            return;
        }
        let header = strip(&whole);
        if header.program.is_some_and(is_own) {
            return;
        }
        let severity = header.severity.or_else(|| named(header.rest));
        let severity = severity.unwrap_or(INFO);
        if let (Some(twins), Some(program)) = (&mut self.twins, header.program)
            && when != When::Old
            && twins
                .first(Way::File, program, header.rest, severity)
                .is_some()
        {
            return;
        }
        let path = path.to_string_lossy();
        self.shaper.line(&Incoming {
            source: header.program.unwrap_or(&path),
            severity,
            text: header.rest,
            whole: &whole,
            cut_from: raw.cut_from,
            when,
            twin: None,
        });
    }

    /// Takes an entry of the journal.
    pub(crate) fn of_journal(&mut self, entry: &Entry, when: When) {
        let is_own = entry.pid == Some(std::process::id())
            || [&entry.program, &entry.source]
                .into_iter()
                .any(|name| is_own(name));
        if entry.message.trim().is_empty() || is_own {
            return;
        }
        let twins = self.twins.as_mut().filter(|_| when != When::Old);
        let twin = twins.and_then(|twins| {
            twins.first(Way::Journal, &entry.program, &entry.message, entry.severity)
        });
        let header = strip(&entry.message);
        self.shaper.line(&Incoming {
            source: &entry.source,
            severity: entry.severity,
            text: header.rest,
            whole: &entry.message,
            cut_from: 0,
            when,
            twin,
        });
    }
}

/// Our own lines are never mined: each would make the next.
fn is_own(program: &str) -> bool {
    program.starts_with("dawnwatch")
}
