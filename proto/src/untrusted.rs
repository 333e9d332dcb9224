//! How text that others wrote (host names, mount points, log lines) reaches a terminal or a mail: visible, inert.

/// Replaces every control, bidirectional-override and line-breaking character by a visible escape.
#[must_use]
pub fn term(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if hidden {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::term;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        for (text, want) in [
            ("web01", "web01"),
            ("déjà vu", "déjà vu"),
            ("a\x1b[31mb", r"a\u{1b}[31mb"),
            ("a\nb\r", r"a\u{a}b\u{d}"),
            ("\u{9b}1m\u{202e}x", r"\u{9b}1m\u{202e}x"),
        ] {
            assert_eq!(term(text), want);
        }
    }
}
