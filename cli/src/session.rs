//! What was meant by the options that every verb has.

use std::io::IsTerminal;

use dawnwatch_proto::api::Now;
use dawnwatch_proto::review::text;
use jiff::tz::TimeZone;

use crate::args::{Global, Output, When};
use crate::client::{Document, Server};
use crate::fail::Fail;
use crate::moment;
use crate::table::{Table, md_block};

/// Name of the server's socket in its data directory.
const SOCKET: &str = "api.sock";

/// The server to ask, and how to print what it answers.
#[derive(Debug)]
pub(crate) struct Session {
    /// The server.
    pub(crate) server: Server,
    output: Output,
    color: bool,
    /// Name of the zone that was asked for, and the zone.
    zone: Option<(String, TimeZone)>,
}

/// What a verb has to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// For standard output.
    pub(crate) text: String,
    /// Exit code.
    pub(crate) code: u8,
}

impl Session {
    /// Reads the options.
    pub(crate) fn new(global: &Global) -> Result<Session, Fail> {
        let socket = global
            .socket
            .clone()
            .unwrap_or_else(|| global.data.join(SOCKET));
        let color = match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let set =
                    |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
            }
        };
        let named = |name: &String| moment::zone(name).map(|zone| (name.clone(), zone));
        let zone = global.tz.as_ref().map(named).transpose()?;
        Ok(Session {
            server: Server { socket },
            output: global.output,
            color,
            zone,
        })
    }

    /// The zone to show times in: the asked one, or the server's.
    pub(crate) fn zone(&self, server: &str) -> TimeZone {
        self.zone
            .as_ref()
            .map_or_else(|| text::zone(server), |(_, zone)| zone.clone())
    }

    /// Name of the zone that was asked for.
    pub(crate) fn asked_zone(&self) -> Option<String> {
        self.zone.as_ref().map(|(name, _)| name.clone())
    }

    /// The server's time, zone and open incidents.
    pub(crate) fn now(&self) -> Result<Now, Fail> {
        self.server.get("now", &[])?.read()
    }

    /// Prints a document whose form for people is a table.
    pub(crate) fn table(
        &self,
        document: &Document,
        table: impl FnOnce() -> Result<Table, Fail>,
    ) -> Result<Answer, Fail> {
        let text = match self.output {
            Output::Json => document.json(),
            Output::Table => table()?.text(self.color),
            Output::Csv => table()?.csv(),
            Output::Md => table()?.md(),
        };
        Ok(Answer { text, code: 0 })
    }

    /// Prints a document whose form for people is a drawing (told whether it may use colour).
    pub(crate) fn drawing(
        &self,
        document: &Document,
        drawing: impl FnOnce(bool) -> Result<String, Fail>,
        table: impl FnOnce() -> Result<Table, Fail>,
    ) -> Result<Answer, Fail> {
        let text = match self.output {
            Output::Json => document.json(),
            Output::Table => drawing(self.color)?,
            Output::Csv => table()?.csv(),
            Output::Md => md_block(&drawing(false)?),
        };
        Ok(Answer { text, code: 0 })
    }
}
