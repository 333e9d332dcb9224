//! The wire forms of what logs and processes say.

use super::{
    LINE_BYTES_MAX, Line, LogCounts, PROCESSES_MAX, Process, Processes, TEMPLATES_MAX, Template,
    TemplateCount, cut, cut_to,
};
use crate::{Malformed, pb};

/// The mildest syslog severity: debug.
const DEBUG: u8 = 7;

pub(super) fn template_to_pb(t: &Template) -> pb::Template {
    pb::Template {
        id: t.id,
        text: t.text.clone(),
        source: t.source.clone(),
        severity: t.severity.into(),
        example: t.example.clone(),
        old: t.old,
    }
}

pub(super) fn template_from_pb(t: pb::Template) -> Template {
    Template {
        id: t.id,
        text: cut(t.text),
        source: cut(t.source),
        severity: severity(t.severity),
        example: cut(t.example),
        old: t.old,
    }
}

pub(super) fn counts_to_pb(c: &LogCounts) -> pb::LogCounts {
    let count = |one: &TemplateCount| pb::TemplateCount {
        template: one.template,
        count: one.count,
        severity: one.severity.into(),
    };
    pb::LogCounts {
        span_ms: c.span_ms,
        counts: c.counts.iter().map(count).collect(),
        lines_cut: c.lines_cut,
        lines_skipped: c.lines_skipped,
        backlog: c.backlog,
    }
}

pub(super) fn counts_from_pb(c: pb::LogCounts) -> Result<LogCounts, Malformed> {
    within("log counts", c.counts.len(), TEMPLATES_MAX)?;
    let count = |one: pb::TemplateCount| TemplateCount {
        template: one.template,
        count: one.count,
        severity: severity(one.severity),
    };
    Ok(LogCounts {
        span_ms: c.span_ms,
        counts: c.counts.into_iter().map(count).collect(),
        lines_cut: c.lines_cut,
        lines_skipped: c.lines_skipped,
        backlog: c.backlog,
    })
}

pub(super) fn line_to_pb(l: &Line) -> pb::Line {
    pb::Line {
        template: l.template,
        severity: l.severity.into(),
        source: l.source.clone(),
        text: l.text.clone(),
        cut_from: l.cut_from,
    }
}

pub(super) fn line_from_pb(l: pb::Line) -> Line {
    Line {
        template: l.template,
        severity: severity(l.severity),
        source: cut(l.source),
        text: cut_to(l.text, LINE_BYTES_MAX),
        cut_from: l.cut_from,
    }
}

pub(super) fn processes_to_pb(p: &Processes) -> pb::Processes {
    let process = |one: &Process| pb::Process {
        pid: one.pid,
        name: one.name.clone(),
        unit: one.unit.clone(),
        cpu_permille: one.cpu_permille,
        rss_bytes: one.rss_bytes,
        again: 0,
        rss_more: 0,
    };
    pb::Processes {
        span_ms: p.span_ms,
        top: p.top.iter().map(process).collect(),
    }
}

pub(super) fn processes_from_pb(p: pb::Processes) -> Result<Processes, Malformed> {
    within("processes", p.top.len(), PROCESSES_MAX)?;
    let process = |one: pb::Process| Process {
        pid: one.pid,
        name: cut(one.name),
        unit: cut(one.unit),
        cpu_permille: one.cpu_permille,
        rss_bytes: one.rss_bytes,
    };
    Ok(Processes {
        span_ms: p.span_ms,
        top: p.top.into_iter().map(process).collect(),
    })
}

fn severity(given: u32) -> u8 {
    u8::try_from(given).unwrap_or(DEBUG).min(DEBUG)
}

fn within(what: &'static str, length: usize, most: usize) -> Result<(), Malformed> {
    if length <= most {
        return Ok(());
    }
    let why = format!("{length} entries, at most {most}");
    Err(Malformed::Invalid { what, why })
}
