//! Shows a line with what differs from one line to the next taken out: numbers, addresses, times, paths, ids, and values
//! behind `=`. Purely by the look of a word: nothing is known of any program.
//!
//! A masked line is words and the marks between them. The marks are its skeleton: lines with different marks are never of
//! one shape.

/// Where a word differs between lines of a shape.
pub(crate) const ANY: &str = "<*>";

/// What stands in a line for a secret: a word.
pub(crate) const REDACTED: &str = "<redacted>";

/// A line masked, with the places of its words.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Masked {
    /// The text; a word that was masked is `<num>`, `<ip>` and the like.
    pub(crate) text: String,
    /// Start and end of each word.
    pub(crate) words: Vec<(u32, u32)>,
}

/// Most bytes of a line that shape it: templates are no longer than that, and a longer line differs in its tail.
pub(crate) const SHAPING_BYTES_MAX: usize = 1_024;

/// Most words of a line that shape it.
const WORDS_MAX: usize = 160;

impl Masked {
    /// A word.
    pub(crate) fn word(&self, at: usize) -> &str {
        self.words
            .get(at)
            .map_or("", |(from, to)| &self.text[*from as usize..*to as usize])
    }

    /// The words.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        (0..self.words.len()).map(|at| self.word(at))
    }

    /// Masks a line; keeps the memory of the one before.
    pub(crate) fn set(&mut self, line: &str) {
        self.text.clear();
        self.words.clear();
        let line = head(line);
        let bytes = line.as_bytes();
        let (mut at, mut value) = (0, Value::No);
        while at < bytes.len() && self.words.len() < WORDS_MAX {
            let byte = bytes[at];
            if byte == b'<' && line[at..].starts_with(REDACTED) {
                self.push(REDACTED);
                at += REDACTED.len();
                value = Value::No;
                continue;
            }
            if !is_mark(byte) {
                let (end, mask) = word(line, at);
                at = self.word_at(line, at, end, mask, value);
                value = Value::No;
                continue;
            }
            match byte {
                b'=' if is_prose(&self.text) => value = Value::Prose,
                b'=' if self.text.ends_with(' ') => value = Value::Yes,
                b'=' => value = Value::Close,
                b'"' | b'\'' if value == Value::Close && self.text.ends_with('=') => {
                    at = self.quoted(line, at);
                    value = Value::No;
                    continue;
                }
                // `(host)` where there is none.
                b')' if self.text.ends_with(" (") => self.push(ANY),
                _ if byte.is_ascii_whitespace() && value != Value::Close => {}
                _ => value = Value::No,
            }
            self.mark(byte);
            at += 1;
        }
        if at < bytes.len() {
            self.text.push(' ');
            self.push(ANY);
        }
        // Only what `mark` put there: a word may be of other spaces (U+00A0, vertical tabs), and its place must stay in the text.
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
    }

    /// Takes a word; where the next one begins.
    fn word_at(
        &mut self,
        line: &str,
        at: usize,
        mut end: usize,
        mask: &'static str,
        value: Value,
    ) -> usize {
        let rest = &line.as_bytes()[end..];
        if mask == "<path>" && rest.starts_with(b" HTTP/") {
            // The rest of a request line.
            end += 6 + rest[6..]
                .iter()
                .take_while(|b| b.is_ascii_digit() || **b == b'.')
                .count();
        }
        // Addresses behind a proxy are a list of any length.
        if mask == "<ip>" && self.text.ends_with("<ip>,") {
            self.text.pop();
            return end;
        }
        if matches!(value, Value::Yes | Value::Close) {
            end += attached(&line.as_bytes()[end..]);
            self.push(if mask.is_empty() { ANY } else { mask });
        } else {
            self.push(if mask.is_empty() {
                &line[at..end]
            } else {
                mask
            });
        }
        end
    }

    /// Takes a value in quotes; where the next word begins.
    fn quoted(&mut self, line: &str, at: usize) -> usize {
        let quote = line.as_bytes()[at];
        let Some(length) = memchr::memchr(quote, &line.as_bytes()[at + 1..]) else {
            self.mark(quote);
            return at + 1;
        };
        self.mark(quote);
        if length > 0 {
            self.push(ANY);
        }
        self.mark(quote);
        at + length + 2
    }

    fn mark(&mut self, byte: u8) {
        // Spaces in a row, tabs and line ends are one space.
        if byte.is_ascii_whitespace() {
            if !self.text.is_empty() && !self.text.ends_with(' ') {
                self.text.push(' ');
            }
        } else {
            self.text.push(char::from(byte));
        }
    }

    fn push(&mut self, word: &str) {
        let from = index(self.text.len());
        self.text.push_str(word);
        self.words.push((from, index(self.text.len())));
    }
}

/// Whether what comes is the value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    No,
    /// `key = value`.
    Yes,
    /// `key=value`: what follows a space is none.
    Close,
    /// One that is a sentence: `msg="..."`.
    Prose,
}

/// Whether a text ends in a key whose value is a sentence.
fn is_prose(text: &str) -> bool {
    let text = text.trim_end();
    let key = text.rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
    key.is_some_and(|key| matches!(key, "msg" | "message" | "error" | "err" | "reason" | "text"))
}

/// `{10113}` behind a value: the length of a pair of brackets that holds one word.
fn attached(bytes: &[u8]) -> usize {
    if bytes.first() != Some(&b'{') {
        return 0;
    }
    let end = bytes
        .iter()
        .position(|b| *b == b'}' || *b == b'=' || b.is_ascii_whitespace());
    end.filter(|end| bytes[*end] == b'}')
        .map_or(0, |end| end + 1)
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn head(line: &str) -> &str {
    let mut end = line.len().min(SHAPING_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

fn is_mark(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(
            byte,
            b'=' | b':'
                | b','
                | b';'
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'"'
                | b'\''
                | b'|'
                | b'<'
                | b'>'
        )
}

/// The word that begins here: its end, and what it is masked as; an empty mask for one that stays.
fn word(line: &str, at: usize) -> (usize, &'static str) {
    let bytes = &line.as_bytes()[at..];
    if let Some(length) = url(bytes) {
        return (at + length, "<url>");
    }
    if let Some(length) = date(bytes) {
        return (at + length, "<time>");
    }
    if bytes[0] == b'/' && bytes.len() > 1 {
        let length = path(bytes);
        return (at + length, plain(&bytes[..length]));
    }
    if let Some((length, mask)) = colons(bytes) {
        return (at + length, mask);
    }
    let mut end = bytes
        .iter()
        .position(|b| is_mark(*b))
        .unwrap_or(bytes.len());
    // The full stop behind a sentence is no part of its last word.
    while end > 1 && bytes[end - 1] == b'.' {
        end -= 1;
    }
    (at + end, plain(&bytes[..end]))
}

/// `/var/log/x`, `/a?b=c`: up to a space, a quote or a bracket.
fn path(bytes: &[u8]) -> usize {
    let stop = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(
                b,
                b'"' | b'\''
                    | b'<'
                    | b'>'
                    | b'('
                    | b')'
                    | b'['
                    | b']'
                    | b'{'
                    | b'}'
                    | b','
                    | b';'
                    | b'|'
            )
    };
    let mut end = bytes.iter().position(stop).unwrap_or(bytes.len());
    while end > 1 && matches!(bytes[end - 1], b'.' | b':') {
        end -= 1;
    }
    end
}

/// `Sun Jul 10 03:55:15 2005`, `Jul 10 2005`, `Jul 10 03:55:15`: its length.
fn date(bytes: &[u8]) -> Option<usize> {
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &[u8] = b"MonTueWedThuFriSatSun";
    let named = |at: usize, names: &[u8]| {
        let name = bytes.get(at..at + 3)?;
        let is_whole = matches!(bytes.get(at + 3), Some(b' ' | b','));
        (is_whole && names.chunks(3).any(|one| one == name)).then_some(at + 3)
    };
    let spaces = |at: usize| {
        at + bytes[at..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b','))
            .count()
    };
    let digits = |at: usize| {
        at + bytes[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut at = named(0, DAYS).map_or(0, spaces);
    at = spaces(named(at, MONTHS)?);
    let day = digits(at);
    if !(1..=2).contains(&(day - at)) {
        return None;
    }
    let mut end = day;
    let clock = spaces(end);
    let after = clock
        + bytes[clock..]
            .iter()
            .take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.'))
            .count();
    if bytes[clock..after].contains(&b':') {
        end = after;
    }
    let zone = spaces(end);
    if bytes[zone..].starts_with(b"UTC") || bytes[zone..].starts_with(b"GMT") {
        end = zone + 3;
    }
    let year = spaces(end);
    if digits(year) - year == 4 {
        end = year + 4;
    }
    bytes
        .get(end)
        .is_none_or(|b| is_mark(*b) || *b == b'.')
        .then_some(end)
}

/// `scheme://...`.
fn url(bytes: &[u8]) -> Option<usize> {
    let scheme = bytes
        .iter()
        .take(12)
        .position(|b| !b.is_ascii_alphanumeric() && *b != b'+')?;
    if scheme == 0 || !bytes[scheme..].starts_with(b"://") {
        return None;
    }
    let stop = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(b, b'"' | b'\'' | b'<' | b'>' | b',' | b')' | b']' | b'}')
    };
    Some(bytes.iter().position(stop).unwrap_or(bytes.len()))
}

/// What holds colons and is one word all the same: clock times, IPv6 and hardware addresses, `10.0.0.1:443`.
fn colons(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let inside = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'/' | b'%');
    let end = bytes.iter().position(|b| !inside(b)).unwrap_or(bytes.len());
    let mut word = &bytes[..end];
    // The run must be a word of its own.
    if bytes.get(end).is_some_and(|b| !is_mark(*b)) {
        return None;
    }
    while let [head @ .., b':' | b'.'] = word {
        word = head;
    }
    let count = word.iter().filter(|b| **b == b':').count();
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    if count == 0 || digits == 0 {
        return None;
    }
    let parts = || word.split(|b| *b == b':');
    if (2..=3).contains(&count)
        && parts()
            .take(2)
            .all(|p| (1..=2).contains(&p.len()) && p.iter().all(u8::is_ascii_digit))
        && parts()
            .skip(2)
            .all(|p| !p.is_empty() && p.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
    {
        return Some((word.len(), "<time>"));
    }
    if count == 1 {
        let mut parts = parts();
        let (host, port) = (parts.next()?, parts.next()?);
        let is_port = !port.is_empty() && port.iter().all(|b| b.is_ascii_digit());
        return (is_port && is_ipv4(host)).then_some((word.len(), "<ip>"));
    }
    if count == 5 && parts().all(|p| p.len() == 2) {
        return Some((word.len(), "<mac>"));
    }
    parts()
        .all(|p| p.len() <= 4 || is_ipv4(p))
        .then_some((word.len(), "<ip>"))
}

fn is_ipv4(word: &[u8]) -> bool {
    let word = word.strip_prefix(b"/").unwrap_or(word);
    let (address, mask) = match word.iter().position(|b| *b == b'/') {
        Some(at) => (&word[..at], &word[at + 1..]),
        None => (word, &b"0"[..]),
    };
    let mut parts = 0;
    let good = address.split(|b| *b == b'.').all(|part| {
        parts += 1;
        (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit)
    });
    good && parts == 4 && mask.len() <= 2 && mask.iter().all(u8::is_ascii_digit)
}

/// What a word without marks is masked as.
fn plain(word: &[u8]) -> &'static str {
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    if word.first() == Some(&b'/') && word.len() > 1 {
        let host = word.split(|b| *b == b':').next().unwrap_or_default();
        return if is_ipv4(host) { "<ip>" } else { "<path>" };
    }
    if digits == 0 {
        let is_bool = matches!(word, b"true" | b"false" | b"True" | b"False");
        return if is_bool { "<bool>" } else { "" };
    }
    if is_ipv4(word) {
        return "<ip>";
    }
    if is_number(word) {
        return "<num>";
    }
    if is_uuid(word) {
        return "<uuid>";
    }
    if is_hex(word) {
        return "<hex>";
    }
    if is_date(word) {
        return "<time>";
    }
    let letters = word.iter().filter(|b| b.is_ascii_alphabetic()).count();
    if digits >= 3 || digits > letters {
        return "<id>";
    }
    let last_part = word
        .rsplit(|b| matches!(b, b'_' | b'-' | b'.' | b'#' | b'/' | b'@'))
        .next();
    let ends_in_number = last_part.is_some_and(|part| {
        part.len() < word.len() && !part.is_empty() && part.iter().all(u8::is_ascii_digit)
    });
    if ends_in_number { "<id>" } else { "" }
}

/// `-12`, `1.5`, `1,234`, `30%`, `12ms`, `5.5KB`, `12#12`.
fn is_number(word: &[u8]) -> bool {
    let word = match word {
        [b'-' | b'+' | b'#' | b'*' | b'$' | b'~', rest @ ..] => rest,
        all => all,
    };
    let end = word
        .iter()
        .position(|b| !(b.is_ascii_digit() || matches!(b, b'.' | b'#')))
        .unwrap_or(word.len());
    if end == 0 || !word[0].is_ascii_digit() {
        return false;
    }
    let unit = &word[end..];
    let is_exponent = unit.len() >= 2
        && matches!(unit[0], b'e' | b'E')
        && unit[1..]
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+'));
    unit == b"%" || is_exponent || (unit.len() <= 3 && unit.iter().all(u8::is_ascii_alphabetic))
}

fn is_uuid(word: &[u8]) -> bool {
    word.len() == 36
        && word.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_hex(word: &[u8]) -> bool {
    if let Some(rest) = word.strip_prefix(b"0x").or(word.strip_prefix(b"0X")) {
        return !rest.is_empty() && rest.iter().all(u8::is_ascii_hexdigit);
    }
    // Shorter ones are words with a digit.
    word.len() >= 6 && word.iter().all(u8::is_ascii_hexdigit)
}

/// `2026-11-22`, `2026/11/22`, `2026-11-22T02`.
fn is_date(word: &[u8]) -> bool {
    let marks = word.iter().filter(|b| matches!(b, b'-' | b'/')).count();
    marks == 2
        && word.len() >= 8
        && word
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/' | b'T'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(line: &str) -> String {
        let mut masked = Masked::default();
        masked.set(line);
        let joined: Vec<_> = masked.words().collect();
        assert!(joined.iter().all(|word| !word.is_empty()));
        masked.text
    }

    #[test]
    fn words_of_strange_spaces_stay_within_the_text() {
        for space in ["\u{b}", "\u{a0}", "\u{2003}", "\u{85}", "\u{3000}"] {
            for line in [
                space.to_owned(),
                format!("disk full{space}"),
                format!("disk full {space} "),
                format!("a{space}b={space}"),
            ] {
                let mut masked = Masked::default();
                masked.set(&line);
                let end = masked.words.last().map_or(0, |(_, to)| *to as usize);
                assert!(end <= masked.text.len(), "{line:?}: {masked:?}");
            }
        }
    }

    #[test]
    fn what_differs_is_masked_by_its_look() {
        for (line, want) in [
            (
                "connection from 10.0.0.1 port 22",
                "connection from <ip> port <num>",
            ),
            ("peer 10.0.0.1:443 gone", "peer <ip> gone"),
            (
                "src: /10.250.19.102:54106 dest: /10.0.0.0/8",
                "src: <ip> dest: <ip>",
            ),
            ("at fe80::1%2 and 00:16:3e:aa:bb:cc", "at <ip> and <mac>"),
            (
                "took 12ms, 5.5KB, -3, 30%, 1e-9.",
                "took <num>, <num>, <num>, <num>, <num>.",
            ),
            ("open /var/log/syslog: denied", "open <path>: denied"),
            ("GET https://h/x?y=1 now", "GET <url> now"),
            ("id 123e4567-e89b-12d3-a456-426614174000.", "id <uuid>."),
            ("block blk_-6952295868487656571 ok", "block <id> ok"),
            ("at 0x7fff and deadbeef1", "at <hex> and <hex>"),
            ("due 10:00:00.5 on 2026-11-22", "due <time> on <time>"),
            ("user=root tty= x", "user=<*> tty= x"),
            ("state  =   up", "state = <*>"),
            ("at Sun Jul 10 03:55:15 2005", "at <time>"),
            ("since Jul  1 till Aug 12.", "since <time> till <time>."),
            ("the May report", "the May report"),
            ("from () or (web01)", "from (<*>) or (web01)"),
            ("\"GET /a?b=c&d HTTP/1.1\" 200", "\"GET <path>\" <num>"),
            ("10.0.0.1,10.0.0.2,10.0.0.3 came", "<ip> came"),
            (
                "tag=\"View Lock\", ws=WorkSource{10113}, ok=true",
                "tag=\"<*>\", ws=<*>, ok=<bool>",
            ),
            (
                "level=info msg=\"all is well\"",
                "level=<*> msg=\"all is well\"",
            ),
            ("ext3 and ipv6 stay", "ext3 and ipv6 stay"),
            (
                "task 0.0 in stage 1.0 (TID 7)",
                "task <num> in stage <num> (TID <num>)",
            ),
            ("a\tb\nc  d ", "a b c d"),
            ("", ""),
        ] {
            assert_eq!(mask(line), want, "{line}");
        }
    }

    #[test]
    fn a_long_line_has_a_bounded_shape() {
        assert!(mask(&"word ".repeat(100_000)).len() <= SHAPING_BYTES_MAX + 4);
        assert!(mask(&"ä".repeat(4_000)).len() <= SHAPING_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn nothing_panics(line in "\\PC{0,80}|[0-9a-f:./%=\\- \\[\\]\"]{0,80}") {
            mask(&line);
        }
    }
}
