//! Whether a time server disciplines the kernel's clock.
//!
//! The kernel answers that by a call (`adjtimex`) that cannot be made without unsafe code; systemd's timedated makes it and
//! tells over the message bus. It is started for the question and ends by itself, so it is asked every ten looks only.
//! How far the clock is off is measured by the server.

use std::path::PathBuf;

use dawnwatch_proto::{MISSING, Series};

use super::bus::{Bus, BusError, Call, Reader, Value};
use super::metric::Metric;
use super::units::trouble;
use super::{CollectError, Collector, Out, Roots, Shape};

/// A clock that is no longer disciplined stays right for hours.
const ASK_LOOKS: u32 = 10;

const TIMEDATED: &str = "org.freedesktop.timedate1";

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[Metric::gauge(
    "node_timex_sync_status",
    "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
)];

/// The collector of the clock's state.
#[derive(Debug)]
pub(crate) struct Timex {
    socket: PathBuf,
    looks: u32,
    synced: Option<i64>,
    there: bool,
}

impl Timex {
    /// Names the socket.
    pub(crate) fn new(roots: &Roots) -> Timex {
        Timex {
            socket: roots.bus.clone(),
            looks: 0,
            synced: None,
            there: false,
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
        let appeared = self.synced.is_some() && !self.there;
        self.there |= appeared;
        if self.there {
            out.row.push(self.synced.unwrap_or(MISSING));
        }
        Ok(if appeared {
            Shape::Changed
        } else {
            Shape::Same
        })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.there {
            series.extend(METRICS.iter().map(Metric::series));
        }
    }
}
