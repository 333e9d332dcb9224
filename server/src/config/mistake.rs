//! What is wrong with a configuration, as the person who wrote it reads it.

use std::fmt;

use dawnwatch_proto::untrusted;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub suggestion: Option<String>,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file, as it was named.
    pub path: String,
    /// In the order of lines; never empty.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let text = untrusted::term(&mistake.text);
            write!(f, "{}:{}: {text}", self.path, mistake.line)?;
            if let Some(suggestion) = &mistake.suggestion {
                write!(f, "; {}", untrusted::term(suggestion))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The name that was probably meant, if one is near enough.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Closer than this, two words share their beginning and most letters; a single swapped letter in a short word stays
    /// above it.
    const NEAR: f64 = 0.82;
    let word = word.to_ascii_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        let score = strsim::jaro_winkler(&word, &name.to_ascii_lowercase());
        if score >= NEAR && best.is_none_or(|(so_far, _)| score > so_far) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name)
}

/// `did you mean "holidays"?`, or the list of what is possible where nothing is near and the list is short.
pub(super) fn meant(word: &str, names: &[&str]) -> Option<String> {
    /// A longer list helps nobody in one sentence.
    const LISTED_MAX: usize = 14;
    if let Some(name) = nearest(word, names.iter().copied()) {
        return Some(format!("did you mean \"{name}\"?"));
    }
    (names.len() <= LISTED_MAX).then(|| format!("possible: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let names = ["holidays", "hours", "zone", "seal_before"];
        for (word, want) in [
            ("holydays", Some("holidays")),
            ("Hour", Some("hours")),
            ("sealbefore", Some("seal_before")),
            ("zoen", Some("zone")),
            ("bananas", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), want, "{word}");
        }
    }
}
