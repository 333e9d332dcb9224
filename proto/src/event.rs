//! What happened on a host that is not a number.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Malformed, pb};

/// Longest text in an event, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Something that happened on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the agent's clock.
    pub time: Timestamp,
    /// What.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// The agent started.
    Started(Started),
    /// The agent stops on purpose.
    Goodbye(GoodbyeReason),
    /// Something the agent could not do.
    Trouble {
        /// What it concerns: a collector, the spool.
        subject: String,
        /// A sentence that says what to do.
        text: String,
    },
    /// A kind that this build does not know: kept and counted, never an error.
    Unknown,
}

/// The facts of a host at the start of its agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Version of the agent.
    pub agent_version: String,
    /// The host's own name.
    pub hostname: String,
    /// Kernel's boot id: another one means a reboot.
    pub boot_id: String,
    /// When the host booted, Unix milliseconds.
    pub boot_time_ms: i64,
    /// Name and version of the distribution.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// Number of logical CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whether the agent's last run said goodbye.
    pub last_stop_clean: bool,
}

/// Why an agent says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodbyeReason {
    /// Somebody stopped the agent.
    Stopped,
    /// The host reboots.
    Reboot,
    /// The host shuts down.
    Shutdown,
    /// The host leaves the fleet.
    Leave,
}

impl Event {
    /// The wire form.
    #[must_use]
    pub fn to_pb(&self) -> pb::Event {
        let body = match &self.body {
            EventBody::Started(s) => Some(pb::event::Body::Started(started_to_pb(s))),
            EventBody::Goodbye(reason) => {
                let reason = match reason {
                    GoodbyeReason::Stopped => pb::GoodbyeReason::Stopped,
                    GoodbyeReason::Reboot => pb::GoodbyeReason::Reboot,
                    GoodbyeReason::Shutdown => pb::GoodbyeReason::Shutdown,
                    GoodbyeReason::Leave => pb::GoodbyeReason::Leave,
                };
                Some(pb::event::Body::Goodbye(pb::Goodbye {
                    reason: reason.into(),
                }))
            }
            EventBody::Trouble { subject, text } => Some(pb::event::Body::Trouble(pb::Trouble {
                subject: subject.clone(),
                text: text.clone(),
            })),
            EventBody::Unknown => None,
        };
        pb::Event {
            time_ms: self.time.as_millisecond(),
            body,
        }
    }

    /// Checks an event from the wire. Texts over the bound are cut, unknown kinds kept as such.
    ///
    /// # Errors
    /// [`Malformed`] where the time is none.
    pub fn from_pb(message: pb::Event) -> Result<Event, Malformed> {
        let time = time_from_ms(message.time_ms)?;
        let body = match message.body {
            Some(pb::event::Body::Started(s)) => EventBody::Started(started_from_pb(s)),
            Some(pb::event::Body::Goodbye(g)) => EventBody::Goodbye(match g.reason() {
                pb::GoodbyeReason::Reboot => GoodbyeReason::Reboot,
                pb::GoodbyeReason::Shutdown => GoodbyeReason::Shutdown,
                pb::GoodbyeReason::Leave => GoodbyeReason::Leave,
                pb::GoodbyeReason::Stopped | pb::GoodbyeReason::Unspecified => {
                    GoodbyeReason::Stopped
                }
            }),
            Some(pb::event::Body::Trouble(t)) => EventBody::Trouble {
                subject: cut(t.subject),
                text: cut(t.text),
            },
            None => EventBody::Unknown,
        };
        Ok(Event { time, body })
    }
}

/// Reads a Unix time in milliseconds.
///
/// # Errors
/// [`Malformed`] outside the years -9999 to 9999.
pub fn time_from_ms(ms: i64) -> Result<Timestamp, Malformed> {
    Timestamp::from_millisecond(ms).map_err(|_| Malformed::Invalid {
        what: "time",
        why: format!("{ms} ms is out of range"),
    })
}

fn started_to_pb(s: &Started) -> pb::Started {
    pb::Started {
        agent_version: s.agent_version.clone(),
        hostname: s.hostname.clone(),
        boot_id: s.boot_id.clone(),
        boot_time_ms: s.boot_time_ms,
        os: s.os.clone(),
        kernel: s.kernel.clone(),
        arch: s.arch.clone(),
        cpus: s.cpus,
        memory_bytes: s.memory_bytes,
        last_stop_clean: s.last_stop_clean,
    }
}

fn started_from_pb(s: pb::Started) -> Started {
    Started {
        agent_version: cut(s.agent_version),
        hostname: cut(s.hostname),
        boot_id: cut(s.boot_id),
        boot_time_ms: s.boot_time_ms,
        os: cut(s.os),
        kernel: cut(s.kernel),
        arch: cut(s.arch),
        cpus: s.cpus,
        memory_bytes: s.memory_bytes,
        last_stop_clean: s.last_stop_clean,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        let time = Timestamp::from_millisecond(1_764_000_000_123).unwrap();
        let started = Started {
            hostname: "web01".to_owned(),
            cpus: 2,
            ..Started::default()
        };
        for body in [
            EventBody::Started(started),
            EventBody::Goodbye(GoodbyeReason::Reboot),
            EventBody::Trouble {
                subject: "spool".to_owned(),
                text: "disk full".to_owned(),
            },
            EventBody::Unknown,
        ] {
            let event = Event { time, body };
            assert_eq!(Event::from_pb(event.to_pb()), Ok(event));
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(cut("ä".repeat(4096)).len(), TEXT_BYTES_MAX);
        assert_eq!(
            cut(format!("x{}", "ä".repeat(4096))).len(),
            TEXT_BYTES_MAX - 1
        );
    }

    #[test]
    fn a_time_out_of_range_is_refused() {
        assert!(time_from_ms(i64::MAX).is_err());
    }
}
