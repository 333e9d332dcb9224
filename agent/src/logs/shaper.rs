//! From lines to events: each line is redacted, shaped and counted; shapes and grave lines are told at once, counts once a
//! minute. Pure: no clock, no file.

use std::collections::BTreeMap;

use dawnwatch_proto::EventBody;
use dawnwatch_proto::event::{Line, LogCounts, TEMPLATES_MAX, Template, TemplateCount};

use super::miner::{Miner, OTHER, Shape};
use super::redact::Redactor;
use super::severity::WARNING;

/// Most whole lines a tick (DESIGN section 8).
const LINES_A_TICK: u32 = 64;

/// Longest example of a shape: enough to know the line again; five thousand are kept.
const EXAMPLE_BYTES_MAX: usize = 512;

/// The text under which everything beyond the bound is counted.
const OTHER_TEXT: &str = "<*> (lines of more shapes than are told apart)";

/// What is known of how a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Just written.
    Live,
    /// Written while no agent ran.
    Backlog,
    /// Written before this host was watched: shapes are learned from it, and nothing else.
    Old,
}

/// A line without its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// Unit, identifier or file.
    pub(crate) source: &'a str,
    /// Syslog severity.
    pub(crate) severity: u8,
    /// What it says, behind its header.
    pub(crate) text: &'a str,
    /// The line with its header.
    pub(crate) whole: &'a str,
    /// Its length, where it was cut; else 0.
    pub(crate) cut_from: u32,
    /// How it came.
    pub(crate) when: When,
    /// It was counted already, when it came another way with this severity: only what it says more counts.
    pub(crate) twin: Option<u8>,
}

/// What is kept of a shape over restarts, as it was when it last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// The shape.
    pub(crate) shape: Shape,
    /// Where it was met first.
    pub(crate) source: Box<str>,
    /// The first line.
    pub(crate) example: Box<str>,
    /// The worst severity.
    pub(crate) severity: u8,
    /// Met in what was written before the host was watched.
    pub(crate) old: bool,
}

/// Counts of a span under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines and worst severity by shape.
    pub(crate) shapes: BTreeMap<u32, (u32, u8)>,
    /// See [`LogCounts::lines_cut`].
    pub(crate) lines_cut: u64,
    /// See [`LogCounts::lines_skipped`].
    pub(crate) lines_skipped: u64,
    /// See [`LogCounts::backlog`].
    pub(crate) backlog: u64,
}

impl Counts {
    /// Whether nothing happened.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Counts::default()
    }
}

/// Shapes lines and counts them.
#[derive(Debug)]
pub(crate) struct Shaper {
    miner: Miner,
    /// By number less one: source, example, severity, old.
    about: Vec<About>,
    redactor: Redactor,
    /// Counts of the span under way.
    pub(crate) counts: Counts,
    lines_left: u32,
    is_full_told: bool,
    /// To be told at once, in order.
    events: Vec<EventBody>,
    /// To be kept, in order.
    known: Vec<Known>,
}

#[derive(Debug)]
struct About {
    source: Box<str>,
    example: Box<str>,
    severity: u8,
    old: bool,
}

impl Shaper {
    /// A shaper that knows nothing yet.
    pub(crate) fn new(redactor: Redactor) -> Shaper {
        Shaper::bounded(redactor, TEMPLATES_MAX)
    }

    fn bounded(redactor: Redactor, bound: usize) -> Shaper {
        Shaper {
            // One of them is "other".
            miner: Miner::new(bound - 1),
            about: Vec::new(),
            redactor,
            counts: Counts::default(),
            lines_left: LINES_A_TICK,
            is_full_told: false,
            events: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Takes back what was kept, in the order it was given out.
    pub(crate) fn restore(&mut self, known: Known) {
        let at = known.shape.id as usize;
        let about = About {
            source: known.source,
            example: known.example,
            severity: known.severity,
            old: known.old,
        };
        if at == self.about.len() + 1 {
            self.about.push(about);
        } else if let Some(old) = at.checked_sub(1).and_then(|at| self.about.get_mut(at)) {
            *old = about;
        }
        self.miner.restore(known.shape);
    }

    /// A tick begins: whole lines may be sent again.
    pub(crate) fn tick(&mut self) {
        self.lines_left = LINES_A_TICK;
    }

    /// Takes a line.
    pub(crate) fn line(&mut self, line: &Incoming<'_>) {
        let redactor = std::mem::take(&mut self.redactor);
        let text = redactor.redact(line.text);
        let shaped = self.miner.shape(&text);
        if shaped.is_changed {
            self.changed(line, &text);
        }
        self.grave(shaped.id, line);
        if shaped.id == OTHER && !self.is_full_told {
            self.is_full_told = true;
            self.tell_other();
        }
        let said = line.twin.unwrap_or(u8::MAX);
        if line.when != When::Old && line.severity < said {
            let (count, worst) = self
                .counts
                .shapes
                .entry(shaped.id)
                .or_insert((0, line.severity));
            *count = count.saturating_add(u32::from(line.twin.is_none()));
            *worst = line.severity.min(*worst);
            self.counts.backlog += u64::from(line.when == When::Backlog && line.twin.is_none());
            if line.severity <= WARNING && said > WARNING {
                self.whole(shaped.id, line, &redactor);
            }
        }
        drop(text);
        self.redactor = redactor;
    }

    /// Lines that were read and not shaped.
    pub(crate) fn skipped(&mut self, lines: u64) {
        self.counts.lines_skipped += lines;
    }

    /// What is to be told at once, and what is to be kept before that.
    pub(crate) fn take(&mut self) -> (Vec<EventBody>, Vec<Known>) {
        (
            std::mem::take(&mut self.events),
            std::mem::take(&mut self.known),
        )
    }

    /// Ends the span: its counts as an event.
    pub(crate) fn flush(&mut self, span_ms: u32) -> EventBody {
        let counts = std::mem::take(&mut self.counts);
        let mut living: BTreeMap<u32, (u32, u8)> = BTreeMap::new();
        for (id, (count, severity)) in counts.shapes {
            let (sum, worst) = living.entry(self.miner.living(id)).or_insert((0, severity));
            *sum = sum.saturating_add(count);
            *worst = severity.min(*worst);
        }
        let count = |(template, (count, severity))| TemplateCount {
            template,
            count,
            severity,
        };
        EventBody::LogCounts(LogCounts {
            span_ms,
            counts: living.into_iter().map(count).collect(),
            lines_cut: counts.lines_cut,
            lines_skipped: counts.lines_skipped,
            backlog: counts.backlog,
        })
    }

    /// The shape as it is told.
    pub(crate) fn template(known: &Known) -> EventBody {
        EventBody::Template(Template {
            id: known.shape.id,
            text: known.shape.masked.text.clone(),
            source: known.source.to_string(),
            severity: known.severity,
            example: known.example.to_string(),
            old: known.old,
        })
    }

    /// Shapes came or changed with this line.
    fn changed(&mut self, line: &Incoming<'_>, text: &str) {
        for id in self.miner.take_changed() {
            if id as usize == self.about.len() + 1 {
                self.about.push(About {
                    source: line.source.into(),
                    example: head(text, EXAMPLE_BYTES_MAX).into(),
                    severity: line.severity,
                    old: line.when == When::Old,
                });
            }
            self.keep(id);
        }
    }

    /// The worst severity of a shape is part of it.
    fn grave(&mut self, id: u32, line: &Incoming<'_>) {
        let about = (id as usize)
            .checked_sub(1)
            .and_then(|at| self.about.get_mut(at));
        if let Some(about) = about.filter(|about| line.severity < about.severity) {
            about.severity = line.severity;
            self.keep(id);
        }
    }

    fn keep(&mut self, id: u32) {
        let at = (id as usize).checked_sub(1);
        let (Some(shape), Some(about)) = (self.miner.get(id), at.and_then(|at| self.about.get(at)))
        else {
            return;
        };
        let known = Known {
            shape: shape.clone(),
            source: about.source.clone(),
            example: about.example.clone(),
            severity: about.severity,
            old: about.old,
        };
        // One that became part of another is kept, but there is nothing to tell of it.
        if known.shape.into == 0 {
            self.events.push(Shaper::template(&known));
        }
        self.known.push(known);
    }

    fn tell_other(&mut self) {
        self.events.push(EventBody::Template(Template {
            id: OTHER,
            text: OTHER_TEXT.to_owned(),
            severity: 7,
            old: true,
            ..Template::default()
        }));
        self.events.push(EventBody::Trouble {
            subject: "logs".to_owned(),
            text: format!(
                "log lines have more than {TEMPLATES_MAX} shapes: further ones are counted as one; leave out the file that writes free text with [logs] exclude"
            ),
        });
    }

    fn whole(&mut self, id: u32, line: &Incoming<'_>, redactor: &Redactor) {
        if self.lines_left == 0 {
            self.counts.lines_cut += 1;
            return;
        }
        self.lines_left -= 1;
        self.events.push(EventBody::Line(Line {
            template: id,
            severity: line.severity,
            source: line.source.to_owned(),
            text: redactor.redact(line.whole).into_owned(),
            cut_from: line.cut_from,
        }));
    }
}

fn head(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
