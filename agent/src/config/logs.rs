//! The section `[logs]`.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::Check;
use crate::logs::{self, Settings};

/// Every key of the section.
const KEYS: [&str; 5] = [
    "files",
    "exclude",
    "journald",
    "journal_directory",
    "redact",
];

/// Most patterns in one list.
const PATTERNS_MAX: usize = 64;

impl Check<'_> {
    /// Reads the section.
    pub(super) fn logs(&mut self, value: &Spanned<DeValue<'_>>, settings: &mut Settings) {
        let Some(table) = value.get_ref().as_table() else {
            let text = "logs is a section: write [logs], and its keys below it";
            return self.at(value.span().start, text);
        };
        for (key, value) in table {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "files" => settings.files = self.patterns("files", value, logs::check_files),
                "exclude" => settings.exclude = self.patterns("exclude", value, |_| Ok(())),
                "redact" => settings.redact = self.patterns("redact", value, logs::check_redact),
                "journald" => match value.get_ref().as_bool() {
                    Some(yes) => settings.journald = yes,
                    None => self.at(value.span().start, "journald is true or false"),
                },
                "journal_directory" => {
                    let text = self.text("journal_directory", value);
                    settings.journal_directory = text.map(PathBuf::from);
                }
                unknown => self.unknown(unknown, at, &KEYS),
            }
        }
    }

    fn patterns(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let Some(array) = value.get_ref().as_array() else {
            self.at(
                value.span().start,
                &format!("{key} must be a list of texts"),
            );
            return Vec::new();
        };
        if array.len() > PATTERNS_MAX {
            self.at(
                value.span().start,
                &format!("{key} has more than {PATTERNS_MAX} entries"),
            );
        }
        let mut patterns = Vec::new();
        for one in array.iter() {
            let at = one.span().start;
            match one.get_ref().as_str() {
                Some(pattern) => match check(pattern) {
                    Ok(()) => patterns.push(pattern.to_owned()),
                    Err(why) => self.at(at, &format!("{key}: \"{pattern}\" {why}")),
                },
                None => self.at(at, &format!("{key} must be a list of texts")),
            }
        }
        patterns
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_section_is_read_and_its_mistakes_are_told() {
        let text = "[logs]\nfiles = [\"/a/*.log\"]\nexclude = [\"x*\"]\njournald = false\njournal_directory = \"/j\"\nredact = [\"c-[0-9]+\"]\n";
        let logs = Config::parse(text).unwrap().logs;
        assert_eq!(
            (logs.files, logs.exclude, logs.redact),
            (
                vec!["/a/*.log".to_owned()],
                vec!["x*".to_owned()],
                vec!["c-[0-9]+".to_owned()]
            )
        );
        assert!(!logs.journald);
        for (text, want) in [
            ("logs = 3", "line 1: logs is a section"),
            (
                "[logs]\nfile = []",
                "line 2: unknown key \"file\": did you mean \"files\"?",
            ),
            (
                "[logs]\nfiles = [\"a.log\"]",
                "line 2: files: \"a.log\" must begin with /",
            ),
            (
                "[logs]\nredact = [\"(\"]",
                "line 2: redact: \"(\" unclosed group",
            ),
            (
                "[logs]\nredact = [\"(a{1000}){1000}\"]",
                "use smaller repetitions",
            ),
            (
                "[logs]\njournald = \"yes\"",
                "line 2: journald is true or false",
            ),
            (
                "[logs]\nexclude = [3]",
                "line 2: exclude must be a list of texts",
            ),
        ] {
            let found: Vec<_> = Config::parse(text)
                .unwrap_err()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(
                found.len() == 1 && found[0].contains(want),
                "{text}: {found:?}"
            );
        }
    }
}
