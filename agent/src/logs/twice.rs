//! The same line through journal and file counts once.
//!
//! rsyslog writes into files what the journal has, so a line with syslog's header is looked up among what the journal just
//! gave, by program and text, and the other way round: whichever comes first counts, and its twin is left out. Lines without
//! that header are no copies of the journal. What is remembered is bounded: a twin that comes later than some thousand other
//! lines counts a second time.

use std::collections::VecDeque;

use super::miner::{hash_of, mix};

/// Lines that are remembered for each side.
const WINDOW: usize = 4_096;

/// Which way a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Journal,
    File,
}

/// Lines whose twin did not come yet.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    journal: VecDeque<(u64, u8)>,
    file: VecDeque<(u64, u8)>,
}

impl Twins {
    /// The severity of this line's twin, if that came before by the other way; else the line is remembered.
    pub(crate) fn first(
        &mut self,
        way: Way,
        program: &str,
        text: &str,
        severity: u8,
    ) -> Option<u8> {
        let hash = hash(program, text);
        let (own, other) = match way {
            Way::Journal => (&mut self.journal, &mut self.file),
            Way::File => (&mut self.file, &mut self.journal),
        };
        // Twins come in the same order on both sides, so the one looked for is near the front.
        if let Some(at) = other.iter().position(|(seen, _)| *seen == hash) {
            return other.remove(at).map(|(_, severity)| severity);
        }
        if own.len() == WINDOW {
            own.pop_front();
        }
        own.push_back((hash, severity));
        None
    }
}

/// What both ways have of a line: rsyslog writes what is not printable as `#012`, and the kernel's own time in brackets.
fn hash(program: &str, text: &str) -> u64 {
    let text = text.trim();
    let text = match text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((time, rest)) if program == "kernel" && time.trim().parse::<f64>().is_ok() => rest,
        _ => text,
    };
    let mut state = mix(hash_of(program.as_bytes()), b"\0");
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // `\n` is #012 in octal.
            let code = u32::from(c);
            plain.push('#');
            for shift in [6, 3, 0] {
                plain.extend(char::from_digit((code >> shift) & 7, 8));
            }
        } else {
            plain.push(c);
        }
    }
    state = mix(state, plain.as_bytes());
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_left_out_whichever_way_it_comes() {
        let mut twins = Twins::default();
        let mut second = |way, program, text| twins.first(way, program, text, 6).is_some();
        assert!(!second(Way::Journal, "sshd", "peer gone"));
        assert!(second(Way::File, "sshd", "peer gone "));
        // Said again: two of each.
        assert!(!second(Way::File, "sshd", "peer gone"));
        assert!(!second(Way::File, "sshd", "peer gone"));
        assert!(second(Way::Journal, "sshd", "peer gone"));
        assert!(second(Way::Journal, "sshd", "peer gone"));
        assert!(!second(Way::Journal, "sshd", "peer gone"));
        // Another program, another text.
        assert!(!second(Way::File, "cron", "peer gone"));
        assert!(!second(Way::File, "sshd", "peer came"));
        assert!(!second(Way::Journal, "java", "a\n\tb"));
        assert!(second(Way::File, "java", "a#012#011b"));
        assert!(!second(Way::Journal, "kernel", "oom"));
        assert!(second(Way::File, "kernel", "[   12.345678] oom"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut twins = Twins::default();
        for n in 0..10_000 {
            assert!(twins.first(Way::File, "p", &n.to_string(), 6).is_none());
        }
        assert_eq!(twins.file.len(), WINDOW);
        assert_eq!(twins.first(Way::Journal, "p", "9999", 3), Some(6));
        assert_eq!(twins.first(Way::Journal, "p", "1", 3), None);
    }
}
