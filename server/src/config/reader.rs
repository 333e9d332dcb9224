//! Walks a TOML document key by key, collects every mistake with its place, and goes on.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes, meant};

/// Where in the text something stands, in bytes.
pub(super) type At = Range<usize>;

/// A table of the document and what people call it.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// `[calendar]`, `[[channel]]`; empty for the top.
    pub(super) title: String,
    /// The heading or the first key.
    pub(super) at: At,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The top of the document.
    pub(super) fn root(root: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        Section {
            title: String::new(),
            at: 0..0,
            table: root.get_ref(),
        }
    }

    /// The keys, in the order of the alphabet, and where they stand.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, At)> {
        self.table
            .keys()
            .map(|key| (key.get_ref().as_ref(), key.span()))
    }

    /// Where a key stands, or the section where it does not.
    pub(super) fn at_of(&self, key: &str) -> At {
        let found = self.keys().find(|(name, _)| *name == key);
        found.map_or_else(|| self.at.clone(), |(_, at)| at)
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A value and where it stands.
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn place(&self) -> String {
        if self.title.is_empty() {
            String::new()
        } else {
            format!(" in {}", self.title)
        }
    }
}

/// Collects what is wrong.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
    /// Lines that are not TOML: what else is wrong with them follows from that.
    broken: BTreeSet<usize>,
}

impl<'t> Reader<'t> {
    /// Parses the text; what is broken is noted and left out.
    pub(super) fn start(text: &'t str) -> (Spanned<DeTable<'t>>, Reader<'t>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader {
            text,
            mistakes: Vec::new(),
            broken: BTreeSet::new(),
        };
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            reader.mistake(at, format!("not TOML: {}", error.message()), None);
        }
        reader.broken = reader.mistakes.iter().map(|mistake| mistake.line).collect();
        (root, reader)
    }

    /// Ends the walk.
    pub(super) fn finish(mut self, path: &str) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort();
        self.mistakes.dedup();
        Err(Mistakes {
            path: path.to_owned(),
            list: self.mistakes,
        })
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, at: At, text: String, suggestion: Option<String>) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        if self.broken.contains(&line) {
            return;
        }
        self.mistakes.push(Mistake {
            line,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
            text,
            suggestion,
        });
    }

    /// Notes a key that must be there.
    pub(super) fn missing(&mut self, section: &Section<'_>, key: &str, what: &str) {
        if !section.has(key) {
            let text = format!("\"{key}\" is missing{}", section.place());
            self.mistake(section.at.clone(), text, Some(format!("set {what}")));
        }
    }

    /// Notes every key that is not one of these.
    pub(super) fn known(&mut self, section: &Section<'_>, names: &[&str]) {
        for (key, at) in section.keys() {
            if !names.contains(&key) {
                let text = format!("unknown key \"{key}\"{}", section.place());
                self.mistake(at, text, meant(key, names));
            }
        }
    }

    /// `[key]`.
    pub(super) fn section<'a>(&mut self, parent: &Section<'a>, key: &str) -> Option<Section<'a>> {
        let value = parent.get(key)?;
        let title = if parent.title.is_empty() {
            format!("[{key}]")
        } else {
            format!("[{}.{key}]", parent.title.trim_matches(['[', ']']))
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_kind(key, value, &format!("a section {title}"));
            return None;
        };
        let at = value.span();
        Some(Section { title, at, table })
    }

    /// Every `[[key]]`.
    pub(super) fn sections<'a>(&mut self, parent: &Section<'a>, key: &str) -> Vec<Section<'a>> {
        let Some(value) = parent.get(key) else {
            return Vec::new();
        };
        let wanted = format!("sections [[{key}]], with two brackets");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, &wanted);
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in array.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong_kind(key, item, &wanted);
                continue;
            };
            let (title, at) = (format!("[[{key}]]"), item.span());
            out.push(Section { title, at, table });
        }
        out
    }

    /// A text.
    pub(super) fn text(&mut self, section: &Section<'_>, key: &str) -> Option<(String, At)> {
        let value = section.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_kind(key, value, "text in quotes");
            return None;
        };
        Some((text.to_owned(), value.span()))
    }

    /// A text that is shown in tables: one line, not empty, of bounded length.
    pub(super) fn name(
        &mut self,
        section: &Section<'_>,
        key: &str,
        chars_max: usize,
    ) -> Option<String> {
        let (text, at) = self.text(section, key)?;
        let chars = text.chars().count();
        if chars == 0 || chars > chars_max || text.chars().any(char::is_control) {
            let wrong = format!("{key} must be 1 to {chars_max} characters on one line");
            self.mistake(at, wrong, None);
            return None;
        }
        Some(text)
    }

    /// A list of texts, or one text alone. A bare date counts as its text.
    pub(super) fn texts(&mut self, section: &Section<'_>, key: &str) -> Vec<(String, At)> {
        let Some(value) = section.get(key) else {
            return Vec::new();
        };
        let one = std::slice::from_ref(value);
        let items = match value.get_ref().as_array() {
            Some(array) => array.iter().as_slice(),
            None => one,
        };
        let mut out = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => out.push((text.to_string(), item.span())),
                DeValue::Datetime(date) => out.push((date.to_string(), item.span())),
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => self.wrong_kind(key, item, "a list of texts in quotes"),
            }
        }
        out
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_kind(key, value, "true or false, without quotes");
        }
        found
    }

    /// A number, whole or not.
    pub(super) fn number(&mut self, section: &Section<'_>, key: &str) -> Option<(f64, At)> {
        let value = section.get(key)?;
        let number: Option<f64> = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(whole) if whole.radix() == 10 => whole.as_str().parse().ok(),
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let Some(number) = number.filter(|number| number.is_finite()) else {
            self.wrong_kind(key, value, "a number, like 0.97");
            return None;
        };
        Some((number, value.span()))
    }

    /// A port.
    pub(super) fn port(&mut self, section: &Section<'_>, key: &str) -> Option<u16> {
        let value = section.get(key)?;
        let port = value.get_ref().as_integer().and_then(|whole| {
            u16::from_str_radix(whole.as_str(), whole.radix())
                .ok()
                .filter(|port| *port > 0)
        });
        if port.is_none() {
            let text = format!("\"{key}\" must be a number from 1 to 65535, without quotes");
            self.mistake(value.span(), text, None);
        }
        port
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let (text, at) = self.text(section, key)?;
        if let Some((_, found)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*found);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.mistake(
            at,
            format!("{key} = {text:?} is unknown"),
            meant(&text, &names),
        );
        None
    }

    /// A span such as `1h30m`, in seconds.
    pub(super) fn span_seconds(&mut self, section: &Section<'_>, key: &str) -> Option<(u32, At)> {
        let (text, at) = self.text(section, key)?;
        let Some(seconds) = parse_span(&text) else {
            let hint = "write it like \"90s\", \"2m\" or \"1h30m\"".to_owned();
            self.mistake(
                at,
                format!("{key} = {text:?} is no length of time"),
                Some(hint),
            );
            return None;
        };
        Some((seconds, at))
    }

    fn wrong_kind(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        let text = format!("\"{key}\" must be {wanted}, not a TOML {found}");
        self.mistake(value.span(), text, None);
    }
}

/// `90s`, `2m`, `1h30m`, `3d` in seconds.
fn parse_span(text: &str) -> Option<u32> {
    let mut seconds: u32 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u32 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?.chars().next()?;
        let scale = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(scale)?)?;
        rest = rest.get(digits + 1..)?.trim_start();
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::parse_span;

    #[test]
    fn spans() {
        for (text, want) in [
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("1h30m", Some(5_400)),
            ("1h 30m", Some(5_400)),
            ("3d", Some(259_200)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("-1s", None),
            ("1.5h", None),
            ("1µ", None),
            ("99999999d", None),
        ] {
            assert_eq!(parse_span(text), want, "{text}");
        }
    }
}
