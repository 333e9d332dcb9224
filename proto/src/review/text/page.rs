//! A review on one screen: what must be there has its lines first, rows share the rest, evidence gets what is left.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::{columns, cut, listed, wrap};
use super::{Ink, LINES_MAX, Section, Text, holder, span, subject, when};
use crate::api::LiveReview;
use crate::review::{Review, Row, Severity};
use crate::untrusted::term;

/// Where texts begin beside their label.
const LABEL_COLUMNS: usize = 11;

/// Lines a row may take where nothing is aligned.
const ROW_LINES_MAX: usize = 3;

/// Lines a block keeps for itself however much the blocks above it hold: a row and the count of the rest.
const BLOCK_LINES_MIN: usize = ROW_LINES_MAX + 1;

/// Longest subject in a row, in columns.
pub(super) const SUBJECT_COLUMNS_MAX: usize = 32;

/// Shortest that a subject is cut to where a row has no room: duration and owner stay.
const SUBJECT_COLUMNS_MIN: usize = 8;

/// Shortest that what happened is cut to.
const WHAT_COLUMNS_MIN: usize = 12;

/// So many hosts that did alike share a piece: fewer are quicker read by name.
const ALIKE_MIN: usize = 4;

/// Room that what happened keeps where a row could say more of its times.
const WHAT_COLUMNS_USUAL: usize = 16;

/// Draws a review.
#[must_use]
pub fn review(live: &LiveReview, options: &Text) -> String {
    let zone = options.zone_of(&live.review.zone);
    let page = Page {
        live,
        review: &live.review,
        options,
        zone,
    };
    let lines = match options.full {
        Some(section) => page.full(section),
        None => page.screen(),
    };
    let mut out = String::new();
    for line in lines {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A review being drawn.
pub(super) struct Page<'a> {
    pub(super) live: &'a LiveReview,
    pub(super) review: &'a Review,
    pub(super) options: &'a Text,
    pub(super) zone: TimeZone,
}

/// A row as lines: what is always shown, and what is shown where there is room.
struct Item {
    main: Vec<String>,
    more: Vec<String>,
}

/// A block of rows, and how much of it is drawn.
struct Block {
    section: Section,
    title: &'static str,
    ink: Ink,
    items: Vec<Item>,
    shown: usize,
    more_shown: Vec<usize>,
}

impl Page<'_> {
    fn screen(&self) -> Vec<String> {
        let head = self.head();
        let tail = self.tail();
        let mut blocks = self.blocks();
        let fixed = head.len() + 1 + blocks.len() + tail.len();
        share(&mut blocks, LINES_MAX.saturating_sub(fixed));
        let mut lines = head;
        lines.push(String::new());
        for block in &blocks {
            self.draw(block, &mut lines);
        }
        lines.extend(tail);
        lines
    }

    fn full(&self, section: Section) -> Vec<String> {
        let mut lines = self.head();
        lines.push(String::new());
        let each = |texts: Vec<String>| -> Vec<String> {
            let none = if texts.is_empty() {
                vec![" none".to_owned()]
            } else {
                Vec::new()
            };
            let wrapped = texts
                .iter()
                .flat_map(|text| wrap(text, self.options.columns() - 1, 2, usize::MAX));
            wrapped.map(|line| format!(" {line}")).chain(none).collect()
        };
        match section {
            Section::Critical | Section::Today | Section::Healed => {
                for mut block in self.blocks() {
                    if block.section == section {
                        block.shown = block.items.len();
                        block.more_shown = block.items.iter().map(|item| item.more.len()).collect();
                        self.draw(&block, &mut lines);
                    }
                }
            }
            Section::Watched => {
                lines.push(self.options.paint("NOT WATCHED", Ink::Bold));
                lines.extend(each(self.unwatched()));
            }
            Section::Changed => {
                lines.push(self.options.paint("CHANGED", Ink::Bold));
                lines.extend(each(self.changed()));
            }
            Section::Tonight => {
                lines.push(self.options.paint("TONIGHT", Ink::Bold));
                lines.extend(each(
                    self.review.tonight.iter().map(|text| term(text)).collect(),
                ));
            }
        }
        lines
    }

    fn blocks(&self) -> [Block; 3] {
        let review = self.review;
        let block = |section, title, ink, rows: &[Row]| Block {
            section,
            title,
            ink,
            items: rows.iter().map(|row| self.item(row)).collect(),
            shown: 0,
            more_shown: vec![0; rows.len()],
        };
        [
            block(
                Section::Critical,
                "CRITICAL, STILL OPEN",
                Ink::Red,
                &review.critical,
            ),
            block(Section::Today, "TODAY", Ink::Yellow, &review.today),
            block(
                Section::Healed,
                "HEALED BY ITSELF",
                Ink::Green,
                &review.healed,
            ),
        ]
    }

    fn item(&self, row: &Row) -> Item {
        let until = self.review.until;
        let width = self.options.columns();
        let id = term(&row.id);
        let holder = holder(row.owner.as_deref(), row.taken.as_ref(), &self.zone, until);
        let holder = cut(&holder, SUBJECT_COLUMNS_MAX);
        let used = |text: &str| text.chars().count();
        let room = self.row_room(&holder);
        let least = 1 + used(&id).max(5) + 1 + 2 + 1 + SUBJECT_COLUMNS_MIN + WHAT_COLUMNS_USUAL;
        let (mut span, first) = span(row, until, &self.zone, room.saturating_sub(least));
        if row.until.is_none() && row.state == "closed" {
            span.push_str(", closed since");
        }
        if row.until.is_some() && row.severity == Severity::Critical {
            span.push_str(", was critical");
        }
        let aligned = self.options.aligned;
        let others = 1 + used(&id).max(5) + 1 + 2 + 1 + used(&span);
        let subject = subject(&row.subject, row.service.as_deref());
        let subject_room = room.saturating_sub(others + WHAT_COLUMNS_MIN);
        let subject = cut(
            &subject,
            subject_room.clamp(SUBJECT_COLUMNS_MIN, SUBJECT_COLUMNS_MAX),
        );
        let what_room = room
            .saturating_sub(others + used(&subject))
            .max(WHAT_COLUMNS_MIN);
        let (cause, what) = (term(&row.cause), cut(&term(&row.what), what_room));
        let left = format!("{subject}{} {what} {span}", if aligned { " " } else { ":" });
        let mut more: Vec<String> = first.into_iter().collect();
        let with_cause = format!("{left}, {cause}");
        let fits = used(&with_cause) + 7 <= room;
        let left = if cause.is_empty() || what.contains(&cause) {
            left
        } else if fits {
            with_cause
        } else {
            more.push(cause);
            left
        };
        more.extend(row.evidence.iter().map(|line| term(line)));
        let indent = if aligned { 7 } else { 2 };
        let main = if aligned {
            vec![columns(&format!(" {id:<5} {left}"), &holder, width)]
        } else {
            wrap(
                &format!("{id} {left}; {holder}"),
                width,
                indent,
                ROW_LINES_MAX,
            )
        };
        let more = more
            .iter()
            .map(|line| format!("{}{}", " ".repeat(indent), cut(line, width - indent)));
        Item {
            main,
            more: more.collect(),
        }
    }

    /// Columns that a row has in all beside who has it.
    fn row_room(&self, holder: &str) -> usize {
        let (width, holder) = (self.options.columns(), holder.chars().count());
        if self.options.aligned {
            width.saturating_sub(holder + 2)
        } else {
            // Lines end early where the next word does not fit.
            (ROW_LINES_MAX * width).saturating_sub(holder + width / 2)
        }
    }

    fn draw(&self, block: &Block, lines: &mut Vec<String>) {
        let title = self.options.paint(block.title, block.ink);
        let folded = match (block.section, self.review.folded) {
            (Section::Healed, folded) if folded > 0 => {
                format!("; {folded} of info: dawnwatch incidents --all")
            }
            _ => String::new(),
        };
        if block.items.is_empty() {
            let pad = LABEL_COLUMNS.saturating_sub(block.title.len()).max(2);
            lines.push(format!("{title}{}none{folded}", " ".repeat(pad)));
            return;
        }
        lines.push(format!("{title}{folded}"));
        for (item, more) in block.items.iter().zip(&block.more_shown).take(block.shown) {
            lines.extend(item.main.iter().cloned());
            lines.extend(item.more.iter().take(*more).cloned());
        }
        match block.items.len() - block.shown {
            0 => {}
            rest => lines.push(format!(
                " {rest} more: dawnwatch review --{}",
                block.section.flag()
            )),
        }
    }

    pub(super) fn changed(&self) -> Vec<String> {
        let until = self.review.until;
        let each = self.review.changed.iter().map(|change| {
            format!(
                "{} {}",
                when(change.at, &self.zone, until),
                term(&change.text)
            )
        });
        each.collect()
    }

    /// What was changed, with what many hosts did alike in one piece: `180 hosts joined`.
    pub(super) fn changed_folded(&self) -> Vec<String> {
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for change in &self.review.changed {
            *groups.entry(change.group.as_str()).or_default() += 1;
        }
        groups.remove("");
        groups.retain(|_, count| *count >= ALIKE_MIN);
        let mut folded = Vec::new();
        let mut alone = Vec::new();
        for (change, text) in self.review.changed.iter().zip(self.changed()) {
            match groups.get(change.group.as_str()) {
                None => alone.push(text),
                Some(0) => {}
                Some(count) => {
                    let of = if folded.is_empty() { " hosts" } else { "" };
                    folded.push(format!("{count}{of} {}", term(&change.group)));
                    groups.insert(change.group.as_str(), 0);
                }
            }
        }
        if folded.is_empty() {
            return alone;
        }
        alone.insert(0, folded.join(", "));
        alone
    }

    fn tail(&self) -> Vec<String> {
        let review = self.review;
        let tonight: Vec<String> = review.tonight.iter().map(|text| term(text)).collect();
        let mut changed = self.changed_folded();
        if changed.len() < review.changed.len() {
            changed.push("all: dawnwatch review --changed".to_owned());
        }
        let mut lines = self.label_listed("CHANGED", &changed, 2, "dawnwatch review --changed");
        lines.extend(self.label_listed("TONIGHT", &tonight, 2, "dawnwatch review --tonight"));
        lines.extend(self.label("MESSAGES", &self.messages(), 2, None));
        let signed = self.signed();
        let first = review
            .critical
            .iter()
            .chain(&review.today)
            .chain(&review.healed);
        let mut first = first.filter(|row| !row.id.is_empty());
        let hints = first.next().map_or_else(String::new, |row| {
            let id = term(&row.id);
            format!(". To look: dawnwatch show {id} | dawnwatch why {id}")
        });
        lines.extend(self.label("SIGN-OFF", &format!("{signed}{hints}"), 2, None));
        lines
    }

    /// `0 of 5`.
    pub(super) fn signed(&self) -> String {
        match self.review.findings {
            0 => "nothing to sign off".to_owned(),
            findings => format!("{} of {findings}", self.review.signed_off),
        }
    }

    pub(super) fn messages(&self) -> String {
        let messages = &self.review.messages;
        let rows = self.review.critical.len() + self.review.today.len() + self.review.healed.len();
        let findings = if rows == 1 {
            "1 finding".to_owned()
        } else {
            format!("{rows} findings")
        };
        let events = match messages.events {
            0 => "no events".to_owned(),
            1 => format!("1 event became {findings}"),
            events => format!("{events} events became {findings}"),
        };
        if messages.channels.is_empty() {
            return format!("none: no channel is configured; {events}");
        }
        if messages.sent == 0 {
            return format!("none; {events}");
        }
        let mut text = format!(
            "{} sent, {} arrived, {} confirmed",
            messages.sent, messages.arrived, messages.confirmed
        );
        if messages.lost > 0 {
            let _ = write!(text, ", {} LOST", messages.lost);
        }
        if messages.pending > 0 {
            let _ = write!(text, ", {} still being tried", messages.pending);
        }
        format!("{text}; {events}")
    }

    pub(super) fn label_listed(
        &self,
        label: &str,
        pieces: &[String],
        lines_max: usize,
        more: &str,
    ) -> Vec<String> {
        if pieces.is_empty() {
            return self.label(label, "none", 1, None);
        }
        let room = self.options.columns().saturating_sub(pad(label));
        let text = listed(pieces, room, lines_max, more).join(" ");
        self.label(label, &text, lines_max, None)
    }

    /// A label with its text beside it, later lines below the text.
    pub(super) fn label(
        &self,
        label: &str,
        text: &str,
        lines_max: usize,
        ink: Option<Ink>,
    ) -> Vec<String> {
        let columns = self.options.columns();
        let painted = ink.map_or_else(|| label.to_owned(), |ink| self.options.paint(label, ink));
        let pad = pad(label);
        let (room, first, later) = if self.options.aligned {
            let blanks = " ".repeat(pad - label.chars().count());
            (columns - pad, format!("{painted}{blanks}"), " ".repeat(pad))
        } else if label.is_empty() {
            (columns, String::new(), String::new())
        } else {
            (columns - pad, format!("{painted}: "), "  ".to_owned())
        };
        let lines = wrap(text, room, 0, lines_max);
        let before = |i: usize| if i == 0 { &first } else { &later };
        lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("{}{line}", before(i)))
            .collect()
    }

    pub(super) fn local(&self, at: Timestamp) -> jiff::Zoned {
        at.to_zoned(self.zone.clone())
    }
}

/// Shares the lines that are left among the blocks: rows first, from the worst block down, each of the others keeping
/// [`BLOCK_LINES_MIN`]; then evidence, row by row.
fn share(blocks: &mut [Block; 3], mut left: usize) {
    for i in 0..blocks.len() {
        let kept: usize = blocks[i + 1..]
            .iter()
            .map(|later| cost(later).min(BLOCK_LINES_MIN))
            .sum();
        let lines = left.saturating_sub(kept);
        let block = &mut blocks[i];
        let all = cost(block) <= lines;
        let mut used = 0;
        for item in &block.items {
            let reserve = usize::from(!all);
            if used + item.main.len() + reserve > lines {
                break;
            }
            used += item.main.len();
            block.shown += 1;
        }
        let overflow = usize::from(block.shown < block.items.len());
        left = left.saturating_sub(used + overflow);
    }
    let most = blocks
        .iter()
        .flat_map(|block| &block.items)
        .map(|item| item.more.len())
        .max();
    for round in 0..most.unwrap_or(0) {
        for block in blocks.iter_mut() {
            for i in 0..block.shown {
                if left > 0 && round < block.items[i].more.len() {
                    block.more_shown[i] += 1;
                    left -= 1;
                }
            }
        }
    }
}

fn cost(block: &Block) -> usize {
    block.items.iter().map(|item| item.main.len()).sum()
}

fn pad(label: &str) -> usize {
    LABEL_COLUMNS.max(label.chars().count() + 2)
}
