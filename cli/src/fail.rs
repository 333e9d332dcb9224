//! How the command fails: an exit code of sysexits and a sentence that says what, where and what to do.

use dawnwatch_proto::untrusted::term;

/// The command was typed in a way that cannot be understood.
pub(crate) const USAGE: u8 = 64;
/// A name that nothing goes by, or data that cannot be read.
pub(crate) const DATA: u8 = 65;
/// The server does not answer.
pub(crate) const UNREACHABLE: u8 = 69;
/// A bug of ours.
pub(crate) const BUG: u8 = 70;
/// The output cannot be written.
pub(crate) const CANNOT_CREATE: u8 = 73;
/// The person may not do this.
pub(crate) const DENIED: u8 = 77;

/// Why the command ends without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fail {
    /// Exit code of the process.
    pub(crate) code: u8,
    /// For the person; may have several lines.
    pub(crate) text: String,
}

impl Fail {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Fail {
        let text = text.into();
        Fail { code, text }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Fail {
        Fail::new(USAGE, text)
    }

    pub(crate) fn data(text: impl Into<String>) -> Fail {
        Fail::new(DATA, text)
    }

    /// Adds what the person may have meant.
    pub(crate) fn suggest(mut self, near: &[String]) -> Fail {
        match near {
            [] => {}
            [one] => self
                .text
                .push_str(&format!("; did you mean {}?", term(one))),
            [_, ..] => {
                self.text.push_str("; did you mean one of these?");
                for one in near {
                    self.text.push_str("\n  ");
                    self.text.push_str(&term(one));
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_read_as_a_sentence() {
        let near = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Fail::data("no host db03").suggest(&names).text
        };
        for (names, want) in [
            (&[][..], "no host db03"),
            (&["db02"], "no host db03; did you mean db02?"),
            (
                &["db01", "db\x1b[1m2"],
                "no host db03; did you mean one of these?\n  db01\n  db\\u{1b}[1m2",
            ),
        ] {
            assert_eq!(near(names), want);
        }
    }
}
