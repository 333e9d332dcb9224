//! What happened on a host that is not a number.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Malformed, pb};

mod shapes;

/// Longest text in an event, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Longest log line, in bytes (DESIGN section 8): what is longer is cut on its host.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most shapes of log lines a host has (DESIGN section 8).
pub const TEMPLATES_MAX: usize = 5_000;

/// Most processes in one table: the five busiest, the five largest, and what earlier agents told: ten of each.
pub const PROCESSES_MAX: usize = 64;

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
    /// The shape of log lines, met for the first time or changed.
    Template(Template),
    /// How often lines of each shape came.
    LogCounts(LogCounts),
    /// A whole log line from warning up.
    Line(Line),
    /// Who was using the machine during the last minute.
    Processes(Processes),
}

/// The shape of log lines of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The host's own number for it, kept over restarts.
    pub id: u32,
    /// Its text, with `<*>`, `<ip>`, `<num>` and the like where lines differ.
    pub text: String,
    /// Where it was met first: a unit, a syslog identifier or a file.
    pub source: String,
    /// Syslog severity, 0 emergency to 7 debug: the worst seen.
    pub severity: u8,
    /// The first line, redacted.
    pub example: String,
    /// Met while reading what was written before the agent watched: nothing new.
    pub old: bool,
}

/// How often lines of each shape came in the span that ends at the event's time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounts {
    /// Length of the span in milliseconds.
    pub span_ms: u32,
    /// Shapes that came, by rising number.
    pub counts: Vec<TemplateCount>,
    /// Whole lines that were not sent, over the bound of lines a tick.
    pub lines_cut: u64,
    /// Lines that were read and not shaped, over the bound of lines a second.
    pub lines_skipped: u64,
    /// How many of the lines were read from a backlog: no burst.
    pub backlog: u64,
}

/// How often lines of one shape came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCount {
    /// The host's number for the shape.
    pub template: u32,
    /// How many lines.
    pub count: u32,
    /// Syslog severity: the worst of these lines.
    pub severity: u8,
}

/// A whole log line from warning up, redacted on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The host's number for its shape.
    pub template: u32,
    /// Syslog severity, 0 emergency to 7 debug.
    pub severity: u8,
    /// A unit, a syslog identifier or a file.
    pub source: String,
    /// The line; bytes that are no text are shown as U+FFFD.
    pub text: String,
    /// Bytes of the line as it was, where it was cut; else 0.
    pub cut_from: u32,
}

/// The busiest and the largest processes over a span that ends at the event's time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Length of the span in milliseconds.
    pub span_ms: u32,
    /// Busiest first.
    pub top: Vec<Process>,
}

/// One process over a span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its short name.
    pub name: String,
    /// The systemd unit it belongs to; empty where it has none.
    pub unit: String,
    /// CPU time over the span, in thousandths of one CPU.
    pub cpu_permille: u32,
    /// Resident memory at the end of the span.
    pub rss_bytes: u64,
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
            EventBody::Template(t) => Some(pb::event::Body::Template(shapes::template_to_pb(t))),
            EventBody::LogCounts(c) => Some(pb::event::Body::LogCounts(shapes::counts_to_pb(c))),
            EventBody::Line(l) => Some(pb::event::Body::Line(shapes::line_to_pb(l))),
            EventBody::Processes(p) => Some(pb::event::Body::Processes(shapes::processes_to_pb(p))),
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
    /// [`Malformed`] where the time is none or a list is longer than its bound.
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
            Some(pb::event::Body::Template(t)) => EventBody::Template(shapes::template_from_pb(t)),
            Some(pb::event::Body::LogCounts(c)) => EventBody::LogCounts(shapes::counts_from_pb(c)?),
            Some(pb::event::Body::Line(l)) => EventBody::Line(shapes::line_from_pb(l)),
            Some(pb::event::Body::Processes(p)) => {
                EventBody::Processes(shapes::processes_from_pb(p)?)
            }
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

fn cut(text: String) -> String {
    cut_to(text, TEXT_BYTES_MAX)
}

fn cut_to(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most)
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
            EventBody::Template(Template {
                id: 7,
                text: "peer <ip> gone".to_owned(),
                source: "sshd".to_owned(),
                severity: 4,
                example: "peer 10.0.0.1 gone".to_owned(),
                old: true,
            }),
            EventBody::LogCounts(LogCounts {
                span_ms: 60_000,
                counts: vec![TemplateCount {
                    template: 7,
                    count: 3,
                    severity: 4,
                }],
                lines_cut: 1,
                lines_skipped: 2,
                backlog: 3,
            }),
            EventBody::Line(Line {
                template: 7,
                severity: 3,
                source: "/var/log/app.log".to_owned(),
                text: "peer 10.0.0.1 gone".to_owned(),
                cut_from: 70_000,
            }),
            EventBody::Processes(Processes {
                span_ms: 60_000,
                top: vec![Process {
                    pid: 1,
                    name: "init".to_owned(),
                    unit: "init.scope".to_owned(),
                    cpu_permille: 12,
                    rss_bytes: 1 << 20,
                }],
            }),
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
