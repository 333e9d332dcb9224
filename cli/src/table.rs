//! Plain tables: aligned columns, CSV and Markdown from the same rows.

use dawnwatch_proto::review::Severity;
use dawnwatch_proto::untrusted::term;

/// Longest cell that is shown in a column before the last: longer ones would push the rest off the screen.
const CELL_CHARS_MAX: usize = 64;

/// Which side a column's cells stand at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// How a cell stands out; its text says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As it is.
    None,
    /// Cannot wait.
    Bad,
    /// Needs somebody.
    Warn,
    /// Works.
    Good,
    /// Over, or of no matter.
    Dim,
}

impl Paint {
    pub(crate) fn of(severity: Severity) -> Paint {
        match severity {
            Severity::Critical => Paint::Bad,
            Severity::Warning => Paint::Warn,
            Severity::Info => Paint::None,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Paint::None => "",
            Paint::Bad => "\x1b[1;31m",
            Paint::Warn => "\x1b[33m",
            Paint::Good => "\x1b[32m",
            Paint::Dim => "\x1b[2m",
        }
    }
}

/// One value: as people read it, and as a program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    shown: String,
    plain: String,
    paint: Paint,
}

impl Cell {
    /// The same text for people and programs.
    pub(crate) fn text(text: impl Into<String>) -> Cell {
        let shown = text.into();
        Cell {
            plain: shown.clone(),
            shown,
            paint: Paint::None,
        }
    }

    /// One text for people, another for programs.
    pub(crate) fn new(shown: impl Into<String>, plain: impl Into<String>) -> Cell {
        Cell {
            shown: shown.into(),
            plain: plain.into(),
            paint: Paint::None,
        }
    }

    /// A dash for people, nothing for programs.
    pub(crate) fn none() -> Cell {
        Cell::new("-", "")
    }

    /// Makes it stand out.
    pub(crate) fn paint(mut self, paint: Paint) -> Cell {
        self.paint = paint;
        self
    }
}

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<(String, Side)>,
    rows: Vec<Vec<Cell>>,
    none: String,
    note: Option<String>,
}

impl Table {
    /// An empty table; `none` is shown if it stays so. Heads are keys such as `last_seen`.
    pub(crate) fn new(head: &[(&str, Side)], none: &str) -> Table {
        let head = head
            .iter()
            .map(|(key, side)| ((*key).to_owned(), *side))
            .collect();
        Table {
            head,
            rows: Vec::new(),
            none: none.to_owned(),
            note: None,
        }
    }

    /// What is shown if it stays empty.
    pub(crate) fn none(mut self, none: &str) -> Table {
        none.clone_into(&mut self.none);
        self
    }

    /// A line below it, for people only.
    pub(crate) fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// Adds a row, which has a cell for each head.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.head.len(), "a cell for each head");
        self.rows.push(cells);
    }

    /// Aligned columns for a terminal.
    pub(crate) fn text(&self, color: bool) -> String {
        let note = self
            .note
            .as_ref()
            .map_or_else(String::new, |n| format!("{}\n", term(n)));
        if self.rows.is_empty() {
            return format!("{}\n{note}", self.none);
        }
        let last = self.head.len() - 1;
        let shown: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter()
                    .enumerate()
                    .map(|(i, cell)| cut(&term(&cell.shown), i == last))
                    .collect()
            })
            .collect();
        let titles: Vec<String> = self
            .head
            .iter()
            .map(|(key, _)| short(key).to_uppercase().replace('_', " "))
            .collect();
        let widths: Vec<usize> = (0..=last)
            .map(|i| {
                shown
                    .iter()
                    .chain([&titles])
                    .map(|row| row[i].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        let plain = vec![Paint::None; last + 1];
        self.line(&mut out, &titles, &plain, &widths);
        for (row, cells) in shown.iter().zip(&self.rows) {
            let paints: Vec<Paint> = cells
                .iter()
                .map(|cell| if color { cell.paint } else { Paint::None })
                .collect();
            self.line(&mut out, row, &paints, &widths);
        }
        out.push_str(&note);
        out
    }

    fn line(&self, out: &mut String, cells: &[String], paints: &[Paint], widths: &[usize]) {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let pad = " ".repeat(widths[i] - cell.chars().count());
            if i > 0 {
                line.push_str("  ");
            }
            if self.head[i].1 == Side::Right {
                line.push_str(&pad);
            }
            match paints[i].code() {
                "" => line.push_str(cell),
                code => line.push_str(&format!("{code}{cell}\x1b[0m")),
            }
            if self.head[i].1 == Side::Left {
                line.push_str(&pad);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    /// RFC 4180, with plain values.
    pub(crate) fn csv(&self) -> String {
        let mut out: String = self
            .head
            .iter()
            .map(|(key, _)| key.as_str())
            .collect::<Vec<_>>()
            .join(",");
        out.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(&cell.plain)).collect();
            out.push_str(&cells.join(","));
            out.push('\n');
        }
        out
    }

    /// A Markdown table.
    pub(crate) fn md(&self) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", md_cell(&self.none));
        }
        let titles: Vec<String> = self
            .head
            .iter()
            .map(|(key, _)| short(key).replace('_', " "))
            .collect();
        let rules: Vec<&str> = self
            .head
            .iter()
            .map(|(_, side)| match side {
                Side::Left => "---",
                Side::Right => "--:",
            })
            .collect();
        let mut out = format!("| {} |\n| {} |\n", titles.join(" | "), rules.join(" | "));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| md_cell(&cell.shown)).collect();
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        out
    }
}

/// The name of a value without its unit, for where the unit stands at the value.
pub(crate) fn short(name: &str) -> &str {
    name.strip_suffix("_ratio")
        .or_else(|| name.strip_suffix("_bytes"))
        .unwrap_or(name)
}

fn cut(text: &str, whole: bool) -> String {
    if whole || text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// A cell of CSV. What a spreadsheet would take for a formula gets an apostrophe before it; numbers stay numbers.
pub(crate) fn csv_cell(text: &str) -> String {
    let number = text.parse::<f64>().is_ok_and(f64::is_finite);
    let formula = !number && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = format!("{}{}", if formula { "'" } else { "" }, term(text));
    if text.contains([',', '"', ';']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn md_cell(text: &str) -> String {
    let mut out = String::new();
    for c in term(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '~' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// A drawing as a Markdown code block, fenced so that nothing in it ends the block.
pub(crate) fn md_block(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(
            &[
                ("host", Side::Left),
                ("last_seen", Side::Right),
                ("what", Side::Left),
            ],
            "no hosts",
        );
        table.row(vec![
            Cell::text("web01"),
            Cell::new("5 s", "2026-10-04T01:00:00Z"),
            Cell::text("up | <b>").paint(Paint::Good),
        ]);
        table.row(vec![
            Cell::text("a\x1b[1m"),
            Cell::none(),
            Cell::text("=cmd"),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let want = "HOST        LAST SEEN  WHAT\n\
                    web01             5 s  up | <b>\n\
                    a\\u{1b}[1m          -  =cmd\n";
        assert_eq!(sample().text(false), want);
        assert!(sample().text(true).contains("\x1b[32mup | <b>\x1b[0m\n"));
        assert_eq!(
            Table::new(&[("host", Side::Left)], "no hosts").text(true),
            "no hosts\n"
        );
    }

    #[test]
    fn long_cells_are_cut_but_for_the_last() {
        let long = "x".repeat(80);
        let mut table = Table::new(&[("a", Side::Left), ("b", Side::Left)], "");
        table.row(vec![Cell::text(long.as_str()), Cell::text(long.as_str())]);
        let want = format!("{}…  {long}", "x".repeat(63));
        assert_eq!(table.text(false).lines().nth(1), Some(want.as_str()));
    }

    #[test]
    fn csv_and_markdown() {
        assert_eq!(
            sample().csv(),
            "host,last_seen,what\nweb01,2026-10-04T01:00:00Z,up | <b>\na\\u{1b}[1m,,'=cmd\n"
        );
        assert_eq!(
            sample().md(),
            "| host | last seen | what |\n| --- | --: | --- |\n| web01 | 5 s | up \\| &lt;b> |\n| a\\\\u{1b}\\[1m | - | =cmd |\n"
        );
    }

    #[test]
    fn csv_cells_run_nothing() {
        for (text, want) in [
            ("web01", "web01"),
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-2 h", "'-2 h"),
            ("@x", "'@x"),
            ("\tx", "'\\u{9}x"),
            ("\r", "'\\u{d}"),
            ("-0.5", "-0.5"),
            ("-inf", "'-inf"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "two\\u{a}lines"),
        ] {
            assert_eq!(csv_cell(text), want, "{text:?}");
        }
    }

    #[test]
    fn nothing_ends_the_block_early() {
        assert_eq!(md_block("a\n```\nb\n"), "````text\na\n```\nb\n````\n");
    }
}
