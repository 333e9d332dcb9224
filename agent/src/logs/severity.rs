//! How bad a line is by its own words, where no journal says so. Conservative: a word counts only where levels stand.

/// Syslog's mildest that is sent whole: warning.
pub(crate) const WARNING: u8 = 4;

/// Where nothing says otherwise.
pub(crate) const INFO: u8 = 6;

/// A level stands within the first words of a line, or nowhere.
const WORDS_MAX: usize = 8;

/// Keys whose value is a level: `level=error`, `"level":"error"`.
const KEYS: [&str; 5] = ["level", "lvl", "severity", "loglevel", "log.level"];

/// Words for levels, with their syslog severity.
const LEVELS: [(&str, u8); 22] = [
    ("emerg", 0),
    ("emergency", 0),
    ("alert", 1),
    ("crit", 2),
    ("critical", 2),
    ("fatal", 2),
    ("panic", 2),
    ("err", 3),
    ("error", 3),
    ("severe", 3),
    ("failure", 3),
    ("warn", 4),
    ("warning", 4),
    ("wrn", 4),
    ("notice", 5),
    ("info", 6),
    ("inf", 6),
    ("information", 6),
    ("log", 6),
    ("debug", 7),
    ("dbg", 7),
    ("trace", 7),
];

/// The severity that a line names, if it does.
pub(crate) fn named(text: &str) -> Option<u8> {
    if let Some(level) = klog(text) {
        return Some(level);
    }
    if text.starts_with('{') {
        return keyed(text);
    }
    for (at, word) in text.split_ascii_whitespace().take(WORDS_MAX).enumerate() {
        if let Some(level) = of_word(word, at) {
            return Some(level);
        }
    }
    keyed(text)
}

/// `E1102 15:04:05.123456 7 main.go:3] text`: how Kubernetes and its kin write.
fn klog(text: &str) -> Option<u8> {
    let bytes = text.as_bytes();
    let digits = bytes.get(1..5)?.iter().all(u8::is_ascii_digit);
    if !digits || bytes.get(5) != Some(&b' ') || bytes.get(8) != Some(&b':') {
        return None;
    }
    match bytes.first()? {
        b'F' => Some(2),
        b'E' => Some(3),
        b'W' => Some(4),
        b'I' => Some(6),
        _ => None,
    }
}

/// `ERROR`, `[error]`, `<warn>`, `[core:error]`, and `error:` as the first word.
fn of_word(word: &str, at: usize) -> Option<u8> {
    let bracketed = word.starts_with(['[', '<', '(']) && word.ends_with([']', '>', ')', ':', ',']);
    let bare = word.trim_matches(['[', ']', '<', '>', '(', ')', ':', ',', '|', '-', '*']);
    // Apache names the module first.
    let bare = if bracketed {
        bare.rsplit_once(':').map_or(bare, |(_, level)| level)
    } else {
        // `|ERROR|` and `ERROR:app` stand between other marks.
        bare.split([':', '|']).next().unwrap_or(bare)
    };
    let is_upper = bare.len() >= 3 && bare.bytes().all(|b| b.is_ascii_uppercase());
    let is_first = at == 0 && word.ends_with(':');
    if is_upper || bracketed || is_first {
        return level(bare);
    }
    None
}

fn keyed(text: &str) -> Option<u8> {
    KEYS.into_iter().find_map(|key| {
        let (before, behind) = text.split_once(key)?;
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let behind = behind.trim_start_matches(['"', '\'', ' ']);
        let value = behind.strip_prefix(['=', ':'])?;
        let value = value.trim_start_matches(['"', '\'', ' ']);
        let end = value
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(value.len());
        level(&value[..end])
    })
}

fn level(word: &str) -> Option<u8> {
    LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_where_levels_stand() {
        for (text, want) in [
            ("[error] mod_jk child", Some(3)),
            ("[core:error] [pid 3] x", Some(3)),
            ("[notice] jk2_init()", Some(5)),
            ("INFO executor.Backend: Registered", Some(6)),
            ("25746 ERROR nova.api [-] x", Some(3)),
            ("E1102 15:04:05.123456       1 main.go:3] broken", Some(3)),
            ("W1102 15:04:05.123456       1 main.go:3] odd", Some(4)),
            ("time=\"x\" level=warning msg=\"slow\"", Some(4)),
            ("{\"level\":\"error\",\"msg\":\"x\"}", Some(3)),
            ("{\"msg\":\"x\", \"severity\": \"CRITICAL\"}", Some(2)),
            ("panic: runtime error: index out of range", Some(2)),
            ("error: cannot open", Some(3)),
            ("[33] FATAL:  password authentication failed", Some(2)),
            ("2 | ERROR | x", Some(3)),
            // Words that are only words.
            ("an error occurred somewhere", None),
            ("errors=0 warnings=0", None),
            ("no panic, all is well", None),
            ("GET /error HTTP/1.1", None),
            ("sea level=3", None),
            ("one two three four five six seven eight ERROR", None),
            ("", None),
        ] {
            assert_eq!(named(text), want, "{text}");
        }
    }
}
