//! Log lines of a story: what an agent makes of them.

use dawnwatch_proto::event::{Line, LogCounts, Process, Processes, Template, TemplateCount};
use dawnwatch_proto::{Event, EventBody, Item, api};

use super::World;
use crate::clock::add_ms;

/// Lines a tick that travel whole.
const WHOLE_MAX: u32 = 64;
/// Mildest severity that travels whole: warning.
const WHOLE: u8 = 4;
/// A story's line comes at once; its counts are those of one tick.
const SPAN_MS: u32 = 10_000;

/// What a host wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Now.
    Now,
    /// Before its agent watched.
    Old,
    /// While its agent did not watch.
    Backlog,
}

impl World {
    /// `log web01 error "text" [x20] [backlog]`, `logs web01 old "text"`: a shape and how often it came; `<*>` stands in a text for
    /// what differs.
    pub(super) fn log(&mut self, rest: &str) -> Result<(), String> {
        let (before, text, after) = quoted(rest)?;
        let [name, severity] = before[..] else {
            return Err("log web01 error \"text\" [x20] [backlog]".to_owned());
        };
        let (mut times, mut written) = (1, Written::Now);
        for option in after {
            match option.strip_prefix('x') {
                Some(number) => times = super::whole(number)?,
                None if option == "backlog" => written = Written::Backlog,
                None => return Err(format!("unknown option {option}")),
            }
        }
        let severity = if severity == "old" {
            written = Written::Old;
            4
        } else {
            api::severity_named(severity).ok_or_else(|| format!("{severity} is no severity"))?
        };
        self.write(name, severity, text, times, written)
    }

    fn write(
        &mut self,
        name: &str,
        severity: u8,
        text: &str,
        times: u32,
        written: Written,
    ) -> Result<(), String> {
        let time = self.true_time;
        let host = self.known(name)?;
        let time = add_ms(time, host.clock_ms);
        let next = u32::try_from(host.shapes.len()).unwrap_or(u32::MAX);
        let fresh = !host.shapes.contains_key(text);
        let id = *host.shapes.entry(text.to_owned()).or_insert(next);
        let source = "app".to_owned();
        let mut bodies = Vec::new();
        if fresh {
            bodies.push(EventBody::Template(Template {
                id,
                text: text.to_owned(),
                source: source.clone(),
                severity,
                example: text.to_owned(),
                old: written == Written::Old,
            }));
        }
        if written != Written::Old {
            let whole = if severity <= WHOLE {
                times.min(WHOLE_MAX)
            } else {
                0
            };
            bodies.extend((0..whole).map(|_| {
                EventBody::Line(Line {
                    template: id,
                    severity,
                    source: source.clone(),
                    text: text.to_owned(),
                    cut_from: 0,
                })
            }));
            let lines = u64::from(times);
            let cut = if severity <= WHOLE { times - whole } else { 0 };
            bodies.push(EventBody::LogCounts(LogCounts {
                span_ms: SPAN_MS,
                counts: vec![TemplateCount {
                    template: id,
                    count: times,
                    severity,
                }],
                lines_cut: u64::from(cut),
                lines_skipped: 0,
                backlog: if written == Written::Backlog {
                    lines
                } else {
                    0
                },
            }));
        }
        for body in bodies {
            self.emit(name, Item::Event(Event { time, body }));
        }
        Ok(())
    }

    /// `process web01 java 93% 3g`: who uses the machine.
    pub(super) fn process(&mut self, args: &[&str]) -> Result<(), String> {
        let usage = || "process web01 java 93% 3g".to_owned();
        let [name, process, cpu, memory] = args else {
            return Err(usage());
        };
        let percent = cpu.strip_suffix('%').ok_or_else(usage)?;
        let gib = memory.strip_suffix('g').ok_or_else(usage)?;
        let time = self.true_time;
        let time = add_ms(time, self.known(name)?.clock_ms);
        let top = vec![Process {
            pid: 812,
            name: (*process).to_owned(),
            unit: format!("{process}.service"),
            cpu_permille: super::whole(percent)? * 10,
            rss_bytes: u64::from(super::whole(gib)?) << 30,
        }];
        let body = EventBody::Processes(Processes {
            span_ms: 60_000,
            top,
        });
        self.emit(name, Item::Event(Event { time, body }));
        Ok(())
    }
}

/// The words before a quoted text, the text, and the words after it.
fn quoted(rest: &str) -> Result<(Vec<&str>, &str, Vec<&str>), String> {
    let mut parts = rest.splitn(3, '"');
    let (Some(before), Some(text), Some(after)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a text in quotation marks is missing".to_owned());
    };
    let words = |text| str::split_whitespace(text).collect();
    Ok((words(before), text, words(after)))
}
