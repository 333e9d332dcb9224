//! Takes secrets out of text before it leaves the host: passwords and tokens behind names that say so, credentials in
//! addresses, well-known shapes of keys, and what an admin's own patterns match. What was there is shown as `<redacted>`.
//!
//! A last line of defence, not a promise: a secret that nothing marks as one is not seen.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr_iter, memchr2_iter, memmem};
use regex::{Regex, RegexBuilder};

use super::mask::REDACTED;

/// Longest pattern.
pub(crate) const PATTERN_BYTES_MAX: usize = 1_024;

/// Compiled size of one pattern: what `a{1000}{1000}` would exceed.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Names whose value is always secret.
const STRONG: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "private_key",
    "privatekey",
    "authorization",
    "pgpassword",
];

/// Names whose value is secret if it looks like one: long, or with digits.
const WEAK: [&str; 11] = [
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "access-key",
    "session_id",
    "sessionid",
    "cookie",
    "auth_key",
];

/// Beginnings of keys that vendors made easy to find, and how many characters follow at least.
const PREFIXES: [(&str, usize); 17] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 30),
    ("glpat-", 16),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("AIza", 30),
    ("npm_", 30),
    ("dop_v1_", 30),
];

/// A line that is nothing but this much base64 is a line of a key, a certificate or worse.
const BARE_BASE64_MIN: usize = 60;

/// The patterns in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    own: Vec<Regex>,
}

/// Compiles a pattern of an admin.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build();
    let regex = regex.map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return format!("needs more than {COMPILED_BYTES_MAX} bytes: use smaller repetitions");
        }
        // The crate draws a picture over several lines; the last says what is wrong.
        let text = error.to_string();
        let last = text.lines().next_back().unwrap_or_default().trim();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })?;
    if regex.is_match("") {
        return Err("matches the empty text, so it would match everywhere".to_owned());
    }
    Ok(regex)
}

impl Redactor {
    /// With patterns of an admin.
    pub(crate) fn new(own: Vec<Regex>) -> Redactor {
        Redactor { own }
    }

    /// The text without its secrets. Applied twice it changes nothing more.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut out = built_in(text);
        for pattern in &self.own {
            if let Cow::Owned(changed) = pattern.replace_all(&out, REDACTED) {
                out = Cow::Owned(changed);
            }
        }
        out
    }
}

fn built_in(text: &str) -> Cow<'_, str> {
    if is_bare_base64(text) {
        return Cow::Borrowed(REDACTED);
    }
    let mut found = Vec::new();
    named(text, &mut found);
    flags(text, &mut found);
    schemes(text, &mut found);
    addresses(text, &mut found);
    known_keys(text, &mut found);
    pem(text, &mut found);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|range| (range.start, range.end));
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for range in found {
        if range.start >= at {
            out.push_str(&text[at..range.start]);
            out.push_str(REDACTED);
        }
        at = at.max(range.end);
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

fn is_bare_base64(text: &str) -> bool {
    let text = text.trim();
    text.len() >= BARE_BASE64_MIN
        && text.bytes().all(is_base64)
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_uppercase())
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// `password=x`, `"api_key": "x"`, `Authorization: Bearer x`.
fn named(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut bare_end = 0;
    for at in memchr2_iter(b'=', b':', bytes) {
        let end = back_over(bytes, at, |b| matches!(b, b'"' | b'\'' | b' ' | b'\\'));
        let start = back_over(bytes, end, |b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
        });
        let Some(is_strong) = is_secret(&bytes[start..end]) else {
            continue;
        };
        let mut from = at + 1;
        if bytes.get(from) == Some(&b'>') || bytes.get(from) == Some(&b'=') {
            from += 1;
        }
        let value = value(text, from, &mut bare_end);
        let text = &text[value.clone()];
        let looks_secret = || text.len() >= 8 && text.bytes().any(|b| b.is_ascii_digit());
        let is_path = text.starts_with('/');
        if !text.is_empty() && (is_strong && !is_path || text.len() >= 20 || looks_secret()) {
            found.push(value);
        }
    }
}

/// Whether a name is one of a secret, and whether surely so.
fn is_secret(name: &[u8]) -> Option<bool> {
    // The longest name that is looked at: what is longer is no name.
    const NAME_MAX: usize = 64;
    if !(3..=NAME_MAX).contains(&name.len()) {
        return None;
    }
    let has = |part: &str| {
        let part = part.as_bytes();
        name.windows(part.len())
            .any(|w| w.eq_ignore_ascii_case(part))
    };
    if STRONG.iter().any(|part| has(part)) || name.eq_ignore_ascii_case(b"pwd") {
        return Some(true);
    }
    WEAK.iter().any(|part| has(part)).then_some(false)
}

/// The value that begins here: to its closing quote, or to the next mark. A scheme's name before it is left out.
///
/// `bare_end` is where the last value without quotes ended, 0 before the first: one that begins within it ends there too. Without
/// that a line of nothing but names would be read to its end for each of them.
fn value(text: &str, from: usize, bare_end: &mut usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let mut start = skip(bytes, from, |b| matches!(b, b' ' | b'\\'));
    let quote = bytes
        .get(start)
        .copied()
        .filter(|b| matches!(b, b'"' | b'\''));
    start += usize::from(quote.is_some());
    for scheme in ["Bearer ", "Basic ", "Digest ", "Token "] {
        let has = bytes[start.min(bytes.len())..].get(..scheme.len());
        if has.is_some_and(|w| w.eq_ignore_ascii_case(scheme.as_bytes())) {
            start += scheme.len();
        }
    }
    let end = match quote {
        Some(quote) => skip(bytes, start, |b| b != quote && b != b'\\'),
        None if start < *bare_end => *bare_end,
        None => skip(bytes, start, |b| {
            !(b.is_ascii_whitespace()
                || matches!(b, b',' | b';' | b'&' | b'"' | b'\'' | b')' | b']' | b'}'))
        }),
    };
    if quote.is_none() {
        *bare_end = end;
    }
    start..end
}

/// `--password x`.
fn flags(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let (mut end, mut bare_end) = (0, 0);
    for at in memmem::find_iter(bytes, b"--") {
        // Within a long run of dashes each begins a word that ends where the last one did.
        if at + 2 >= end {
            end = skip(bytes, at + 2, |b| {
                b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
            });
        }
        if bytes.get(end) == Some(&b' ') && is_secret(&bytes[at + 2..end]).is_some() {
            let value = value(text, end + 1, &mut bare_end);
            if !value.is_empty() && !text[value.clone()].starts_with('-') {
                found.push(value);
            }
        }
    }
}

/// `Bearer x` and `Basic x` wherever they stand.
fn schemes(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut bare_end = 0;
    for at in memchr2_iter(b'B', b'b', bytes) {
        let rest = &bytes[at..];
        let is = |scheme: &[u8]| {
            rest.get(..scheme.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(scheme))
        };
        let length = if is(b"bearer ") {
            7
        } else if is(b"basic ") {
            6
        } else {
            continue;
        };
        let value = value(text, at + length, &mut bare_end);
        let text = &text[value.clone()];
        if text.len() >= 12 && text.bytes().any(|b| b.is_ascii_digit() || b == b'=') {
            found.push(value);
        }
    }
}

/// `scheme://user:password@host`.
fn addresses(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for at in memmem::find_iter(bytes, b"://") {
        let start = at + 3;
        let end = skip(bytes, start, |b| {
            !(b.is_ascii_whitespace() || matches!(b, b'/' | b'?' | b'#' | b'"' | b'<' | b'>'))
        });
        let Some(host) = memchr_iter(b'@', &bytes[start..end]).next_back() else {
            continue;
        };
        if let Some(colon) = memchr::memchr(b':', &bytes[start..start + host])
            && colon + 1 < host
        {
            found.push(start + colon + 1..start + host);
        }
    }
}

/// Keys whose shape is known: those of vendors, and JSON web tokens.
fn known_keys(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let in_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let mut at = 0;
    while at < bytes.len() {
        if !in_word(bytes[at]) {
            at += 1;
            continue;
        }
        let end = skip(bytes, at, in_word);
        let word = &bytes[at..end];
        let known = PREFIXES.iter().any(|(prefix, more)| {
            word.len() >= prefix.len() + more && word.starts_with(prefix.as_bytes())
        });
        let is_jwt = word.starts_with(b"eyJ")
            && word.len() >= 30
            && word.iter().filter(|b| **b == b'.').count() >= 1;
        if known || is_jwt {
            found.push(at..end);
        }
        at = end;
    }
}

/// `-----BEGIN RSA PRIVATE KEY-----` and what follows in the same line. Its lines by themselves are bare base64.
fn pem(text: &str, found: &mut Vec<Range<usize>>) {
    if let Some(at) = text.find("PRIVATE KEY-----") {
        let start = at + "PRIVATE KEY-----".len();
        let end = text[start..]
            .find("-----END")
            .map_or(text.len(), |e| start + e);
        if !text[start..end].trim().is_empty() {
            found.push(start..end);
        }
    }
}

fn skip(bytes: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|b| !is(*b)).unwrap_or(rest.len())
}

fn back_over(bytes: &[u8], end: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes[..end]
        .iter()
        .rposition(|b| !is(*b))
        .map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, want: &str) {
        let redactor = Redactor::default();
        let once = redactor.redact(text).into_owned();
        assert_eq!(once, want);
        assert_eq!(redactor.redact(&once), once, "a second time changes it");
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn secrets_go_and_the_rest_stays() {
        for (text, want) in [
            ("login password=hunter2 ok", "login password=<redacted> ok"),
            (
                "DB_PASSWORD: 's3 cret', next",
                "DB_PASSWORD: '<redacted>', next",
            ),
            (
                "{\"password\":\"a b\",\"user\":\"x\"}",
                "{\"password\":\"<redacted>\",\"user\":\"x\"}",
            ),
            (
                "{\\\"client_secret\\\": \\\"abc\\\"}",
                "{\\\"client_secret\\\": \\\"<redacted>\\\"}",
            ),
            ("pwd=x&user=y", "pwd=<redacted>&user=y"),
            (
                "Authorization: Bearer abc.def",
                "Authorization: Bearer <redacted>",
            ),
            (
                "got header bearer 0123456789abcdef",
                "got header bearer <redacted>",
            ),
            (
                "Authorization: Basic dXNlcjpwYXNz",
                "Authorization: Basic <redacted>",
            ),
            ("key AKIAIOSFODNN7EXAMPLE used", "key <redacted> used"),
            (
                "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig-x_y in url",
                "token <redacted> in url",
            ),
            ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "<redacted>"),
            (
                "postgres://app:p@ss@db/x?y",
                "postgres://app:<redacted>@db/x?y",
            ),
            ("https://u:p%40@h:443/", "https://u:<redacted>@h:443/"),
            (
                "x-api-key => 0123456789abcdef0123",
                "x-api-key => <redacted>",
            ),
            (
                "curl --token abcd1234 http://x",
                "curl --token <redacted> http://x",
            ),
            (
                "mysql --password hunter2 -u root",
                "mysql --password <redacted> -u root",
            ),
            (
                "-----BEGIN PRIVATE KEY----- MIIE -----END",
                "-----BEGIN PRIVATE KEY-----<redacted>-----END",
            ),
            (
                "MIIEpAIBAAKCAQEA7bq0m3v8y1Zp5Qe2m0S7fR8kq9XyZ1uVwT3sL6nJ4hG5dC2b",
                "<redacted>",
            ),
            // Nothing to hide.
            (
                "Invalid password for user root",
                "Invalid password for user root",
            ),
            ("unexpected token: brace", "unexpected token: brace"),
            (
                "PWD=/root ; USER=root ; COMMAND=/bin/ls",
                "PWD=/root ; USER=root ; COMMAND=/bin/ls",
            ),
            ("uid=0 euid=0 tty=ssh ruser=", "uid=0 euid=0 tty=ssh ruser="),
            (
                "https://host/path?q=1 user@host",
                "https://host/path?q=1 user@host",
            ),
            ("password:", "password:"),
            ("basic training 2026", "basic training 2026"),
            ("", ""),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn patterns_of_an_admin_are_taken_or_refused_with_the_reason() {
        let own = compile("cust-[0-9]+").unwrap();
        let redactor = Redactor::new(vec![own]);
        assert_eq!(redactor.redact("of cust-77 now"), "of <redacted> now");
        for (pattern, why) in [
            ("(", "unclosed group"),
            ("(a{1000}){1000}", "smaller repetitions"),
            ("x*", "empty text"),
            ("(?<=a)b", "look-around"),
        ] {
            let error = compile(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        assert!(compile(&"a".repeat(2_000)).is_err());
        // Linear: what stops engines that go back takes no time.
        let evil = Redactor::new(vec![compile("(a+)+$").unwrap()]);
        let text = format!("{}!", "a".repeat(60_000));
        assert_eq!(evil.redact(&text), text);
    }

    /// Each of these lines, read once for every name or dash in it, would take hours.
    #[test]
    fn a_line_made_to_be_slow_is_not() {
        let redactor = Redactor::default();
        let names = "pwd=".repeat(1 << 19);
        assert_eq!(redactor.redact(&names), "pwd=<redacted>");
        let weak = "token:".repeat(1 << 19);
        assert_eq!(redactor.redact(&weak), "token:<redacted>");
        let dashes = "-".repeat(1 << 21);
        assert_eq!(redactor.redact(&dashes), dashes);
        let flag = format!("{dashes}password hunter2 ok");
        assert_eq!(
            redactor.redact(&flag),
            format!("{dashes}password <redacted> ok")
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}|[a-z=:\"' /@\\-]{0,80}|(password|token|://|--secret|Bearer |\"|'|=|:|é| ){0,20}") {
            let redactor = Redactor::default();
            let once = redactor.redact(&text).into_owned();
            prop_assert!(redactor.redact(&once).len() <= once.len() + 64);
        }
    }
}
