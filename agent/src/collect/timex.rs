//! Whether a time server disciplines the kernel's clock, and how far it is off.
//!
//! The kernel answers both by a call (`adjtimex`) that the hardened unit's `ProtectClock=` forbids; systemd's timedated makes it
//! and tells over the message bus whether the clock is synchronised. It is started for the question and ends by itself, so it
//! is asked every ten looks only. How far the clock is off is reckoned against the dawnwatch server, which tells its time with
//! each acknowledgement; what the round trip explains counts as no offset.

use std::path::PathBuf;

use dawnwatch_proto::{MISSING, Series};

use crate::clock::Offset;

use super::bus::{Bus, BusError, Call, Reader, Value};
use super::metric::Metric;
use super::units::trouble;
use super::{CollectError, Collector, Out, Roots, Shape};

/// A clock that is no longer disciplined stays right for hours.
const ASK_LOOKS: u32 = 10;

const TIMEDATED: &str = "org.freedesktop.timedate1";

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[SYNCED, OFFSET];

const SYNCED: Metric = Metric::gauge(
    "node_timex_sync_status",
    "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
);

/// In steps of ten milliseconds: a way through a network takes as long, and what does not change costs nothing.
const OFFSET: Metric = Metric::gauge(
    "node_timex_offset_seconds",
    "Time offset in between local system and reference clock, which is the dawnwatch server's.",
)
.quantum(1, 100);

/// Milliseconds of a step.
const STEP_MS: i64 = 10;

/// The collector of the clock's state.
#[derive(Debug)]
pub(crate) struct Timex {
    socket: PathBuf,
    looks: u32,
    synced: Option<i64>,
    there: bool,
    offset: Offset,
    /// Whether the server was heard, and the series is listed.
    heard: bool,
}

impl Timex {
    /// Names the socket.
    pub(crate) fn new(roots: &Roots) -> Timex {
        Timex {
            socket: roots.bus.clone(),
            looks: 0,
            synced: None,
            there: false,
            offset: roots.offset.clone(),
            heard: false,
        }
    }

    fn ask(&self) -> Result<Option<i64>, BusError> {
        let answer = Bus::connect(&self.socket)?.call(&Call {
            destination: TIMEDATED,
            path: "/org/freedesktop/timedate1",
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            texts: &[TIMEDATED, "NTPSynchronized"],
        })?;
        Ok(match Reader::new(&answer).variant() {
            Some(Value::Number(synced)) => Some(i64::from(synced)),
            Some(Value::Text(_)) | None => None,
        })
    }
}

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        if self.looks.is_multiple_of(ASK_LOOKS) {
            self.synced = None;
            let asked = self.ask();
            self.looks = self.looks.wrapping_add(1);
            self.synced = asked.map_err(|error| trouble(error, &self.socket))?;
        } else {
            self.looks = self.looks.wrapping_add(1);
        }
        let offset = self.offset.ms();
        let appeared = (self.synced.is_some() && !self.there) || (offset.is_some() && !self.heard);
        self.there |= self.synced.is_some();
        self.heard |= offset.is_some();
        if self.there {
            out.row.push(self.synced.unwrap_or(MISSING));
        }
        if self.heard {
            out.row.push(offset.map_or(MISSING, |ms| ms / STEP_MS));
        }
        Ok(if appeared {
            Shape::Changed
        } else {
            Shape::Same
        })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.there {
            series.push(SYNCED.series());
        }
        if self.heard {
            series.push(OFFSET.series());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_shown_from_when_the_server_is_heard() {
        let roots = Roots {
            bus: PathBuf::from("/nowhere"),
            ..Roots::default()
        };
        let mut timex = Timex::new(&roots);
        let mut look = || {
            let mut out = Out {
                row: Vec::new(),
                complaints: Vec::new(),
            };
            let shape = timex.collect(&mut out);
            let mut series = Vec::new();
            timex.describe(&mut series);
            assert_eq!(out.row.len(), series.len());
            (shape.ok(), out.row)
        };
        // Without a bus the first look only finds that there is none.
        look();
        assert_eq!(look(), (Some(Shape::Same), vec![]));
        roots.offset.set(12_347);
        assert_eq!(look(), (Some(Shape::Changed), vec![1_234]));
        roots.offset.set(-1_000);
        assert_eq!(look(), (Some(Shape::Same), vec![-100]));
    }
}
