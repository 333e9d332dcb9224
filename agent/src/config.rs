//! What an admin may set. There is nothing that must be set: joining stores the server.
//!
//! ```toml
//! servers = ["mon1.example.org", "mon2.example.org:7443"]   # tried in turn; default: where the host joined
//! tick_seconds = 10                                          # default: what the server says
//! state = "/var/lib/dawnwatch-agent"
//! spool_bytes = 1073741824
//! spool_hours = 72
//! ping = true                                                # false: nothing is pinged from here
//! ping_ms = 2000                                             # between two pings of one target
//! roots = { proc = "/host/proc", sys = "/host/sys", bus = "/host/run/dbus/system_bus_socket" }  # in a container
//!
//! [logs]
//! files = ["/var/log/*.log"]                                 # default: the usual ones that are there
//! exclude = ["/var/log/dpkg.log"]
//! journald = true
//! journal_directory = "/host/var/log/journal"                # default: the system's own
//! redact = ["customer-[0-9]+"]                               # beside what looks like a secret by itself
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::collect::Roots;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::identity::Address;
use crate::logs::Settings;

mod logs;

/// Where the configuration lies unless told otherwise; it may be absent.
pub const DEFAULT_PATH: &str = "/etc/dawnwatch-agent/config.toml";

/// Every key there is.
const KEYS: [&str; 10] = [
    "servers",
    "tick_seconds",
    "tick_ms",
    "state",
    "spool_bytes",
    "spool_hours",
    "logs",
    "roots",
    "ping",
    "ping_ms",
];

/// The keys of `roots`.
const ROOTS: [&str; 3] = ["proc", "sys", "bus"];

/// Most servers in the list: more are a mistake, and each failing one delays the next.
const SERVERS_MAX: usize = 8;

/// Slowest sampling: the server calls a host silent after thirty seconds, and heartbeats go on between ticks.
const TICK_SECONDS_MAX: u64 = 300;

/// Quickest sampling, for tests only: below this the sampler would measure itself.
const TICK_MS_MIN: u64 = 50;

/// Smallest spool: eight segments of a few hundred ticks.
const SPOOL_BYTES_MIN: u64 = 1 << 20;

/// Largest spool: beyond it the outage is no longer what is wrong.
const SPOOL_BYTES_MAX: u64 = 1 << 40;

/// Longest memory of an outage: a month.
const SPOOL_HOURS_MAX: u64 = 24 * 31;

/// Quickest pings: five a second to each target are a test already.
const PING_MS_MIN: u64 = 200;

/// Slowest pings: a target that is down shows after three of them.
const PING_MS_MAX: u64 = 60_000;

/// How alike a key must be to be suggested.
const ALIKE_MIN: f64 = 0.7;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Servers to try in turn; empty: those stored at joining.
    pub servers: Vec<String>,
    /// Time between two ticks; none: what the server says, ten seconds until it does.
    pub tick: Option<Duration>,
    /// Directory of identity and spool.
    pub state: Option<PathBuf>,
    /// Bound of the spool in bytes.
    pub spool_bytes: Option<u64>,
    /// Bound of the spool in hours of ticks.
    pub spool_hours: Option<u64>,
    /// Which logs are read, and what is taken out of them.
    pub logs: Settings,
    /// Where `/proc` of the host is, for an agent that has another of its own.
    pub proc: Option<PathBuf>,
    /// Where `/sys` of the host is.
    pub sys: Option<PathBuf>,
    /// The socket of the host's message bus.
    pub bus: Option<PathBuf>,
    /// Time between two pings of one target; none: the usual, zero: nothing is pinged.
    pub ping: Option<Duration>,
}

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub text: String,
}

/// The configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It has mistakes: all of them.
    #[error("{}", list(path, mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// Every mistake, by line.
        mistakes: Vec<Mistake>,
    },
}

impl Config {
    /// Reads a file; without a path the default one, which may be absent.
    ///
    /// # Errors
    /// [`ConfigError`] names every mistake at once.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => Config::parse(&text).map_err(|mistakes| ConfigError::Mistakes {
                path: file.to_owned(),
                mistakes,
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_none() => {
                Ok(Config::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: file.to_owned(),
                source,
            }),
        }
    }

    /// Where the kernel's tables and the message bus are.
    #[must_use]
    pub fn roots(&self) -> Roots {
        let usual = Roots::default();
        Roots {
            proc: self.proc.clone().unwrap_or(usual.proc),
            sys: self.sys.clone().unwrap_or(usual.sys),
            bus: self.bus.clone().unwrap_or(usual.bus),
            asks: usual.asks,
            board: usual.board,
            offset: usual.offset,
        }
    }

    /// Reads the text of a configuration.
    ///
    /// # Errors
    /// Every mistake, by line.
    pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut check = Check {
            text,
            mistakes: Vec::new(),
        };
        for error in errors {
            check.at(error.span().map_or(0, |s| s.start), error.message());
        }
        let mut config = Config::default();
        if check.mistakes.is_empty() {
            for (key, value) in table.get_ref() {
                check.key(&mut config, key.get_ref(), key.span().start, value);
            }
            if let (Some(_), Some((ms, _))) = (
                table.get_ref().get("tick_seconds"),
                table.get_ref().get_key_value("tick_ms"),
            ) {
                let text = "tick_seconds and tick_ms say the same thing twice: keep one of them";
                check.at(ms.span().start, text);
            }
        }
        check.mistakes.sort_by_key(|m| m.line);
        if check.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(check.mistakes)
        }
    }
}

/// Collects mistakes instead of stopping at the first.
struct Check<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn key(&mut self, config: &mut Config, key: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        match key {
            "servers" => config.servers = self.servers(value),
            "tick_seconds" => {
                let seconds = self.number(key, value, 1, TICK_SECONDS_MAX);
                config.tick = seconds.map(Duration::from_secs).or(config.tick);
            }
            "tick_ms" => {
                let ms = self.number(key, value, TICK_MS_MIN, TICK_SECONDS_MAX * 1_000);
                config.tick = ms.map(Duration::from_millis).or(config.tick);
            }
            "state" => config.state = self.text(key, value).map(PathBuf::from),
            "spool_bytes" => {
                config.spool_bytes = self.number(key, value, SPOOL_BYTES_MIN, SPOOL_BYTES_MAX);
            }
            "spool_hours" => config.spool_hours = self.number(key, value, 1, SPOOL_HOURS_MAX),
            "logs" => self.logs(value, &mut config.logs),
            "roots" => self.roots(config, value),
            "ping" => {
                if let DeValue::Boolean(on) = value.get_ref() {
                    if !on {
                        config.ping = Some(Duration::ZERO);
                    }
                } else {
                    self.at(value.span().start, "ping must be true or false");
                }
            }
            "ping_ms" => {
                let ms = self.number(key, value, PING_MS_MIN, PING_MS_MAX);
                // Whoever switched it off means it, whatever stands first.
                let off = config.ping == Some(Duration::ZERO);
                let ms = ms.filter(|_| !off).map(Duration::from_millis);
                config.ping = ms.or(config.ping);
            }
            unknown => self.unknown(unknown, at, &KEYS),
        }
    }

    fn unknown(&mut self, key: &str, at: usize, keys: &[&'static str]) {
        let near = nearest(key, keys).map_or_else(
            || format!("the keys are {}", keys.join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        self.at(at, &format!("unknown key \"{key}\": {near}"));
    }

    fn servers(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let at = value.span().start;
        let Some(array) = value.get_ref().as_array() else {
            self.at(
                at,
                "servers must be a list of addresses, such as [\"mon1.example.org\"]",
            );
            return Vec::new();
        };
        if array.is_empty() || array.len() > SERVERS_MAX {
            self.at(
                at,
                &format!("servers must name 1 to {SERVERS_MAX} addresses; leave the key out to use the one joined"),
            );
        }
        let mut servers = Vec::new();
        for one in array.iter() {
            let at = one.span().start;
            match one.get_ref().as_str().map(str::parse::<Address>) {
                Some(Ok(address)) => servers.push(address.to_string()),
                Some(Err(bad)) => self.at(at, &bad.to_string()),
                None => self.at(
                    at,
                    "a server is a text such as \"mon1.example.org\", \"10.0.0.5:7443\" or \"[fd00::5]:7443\"",
                ),
            }
        }
        servers
    }

    fn roots(&mut self, config: &mut Config, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            let text = "roots must name directories, such as { proc = \"/host/proc\" }";
            self.at(value.span().start, text);
            return;
        };
        for (key, value) in table {
            let root = match key.get_ref().as_ref() {
                "proc" => &mut config.proc,
                "sys" => &mut config.sys,
                "bus" => &mut config.bus,
                unknown => {
                    let keys = ROOTS.join(", ");
                    let text = format!("unknown key \"{unknown}\" in roots: the keys are {keys}");
                    self.at(key.span().start, &text);
                    continue;
                }
            };
            let path = self.text(key.get_ref(), value).map(PathBuf::from);
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                self.at(value.span().start, "a root must be a whole path, from / on");
            }
            *root = path;
        }
    }

    fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref().as_str() {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            Some(_) | None => {
                let kind = value.get_ref().type_str();
                self.at(
                    value.span().start,
                    &format!("{key} must be a text that is not empty, not this {kind}"),
                );
                None
            }
        }
    }

    fn number(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        min: u64,
        max: u64,
    ) -> Option<u64> {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok())
            .filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.at(
                value.span().start,
                &format!("{key} must be a whole number from {min} to {max}"),
            );
        }
        number
    }

    fn at(&mut self, offset: usize, text: &str) {
        let before = self.text.as_bytes().iter().take(offset);
        self.mistakes.push(Mistake {
            line: before.filter(|b| **b == b'\n').count() + 1,
            text: text.to_owned(),
        });
    }
}

fn nearest(key: &str, keys: &[&'static str]) -> Option<&'static str> {
    keys.iter()
        .copied()
        .map(|known| (strsim::jaro_winkler(key, known), known))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let n = mistakes.len();
    let mut out = format!(
        "{} has {n} mistake{}:",
        path.display(),
        if n == 1 { "" } else { "s" }
    );
    for mistake in mistakes {
        out.push_str("\n  ");
        out.push_str(&mistake.to_string());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        Config::parse(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_key_is_taken() {
        let text = "servers = [\"mon1\", \"[fd00::5]:7443\"]\ntick_ms = 200\nstate = \"/tmp/x\"\nspool_bytes = 0x10_0000\nspool_hours = 1\nping_ms = 200\nroots = { proc = \"/p\", bus = \"/b\" }\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(
            config,
            Config {
                servers: vec!["mon1:7443".to_owned(), "[fd00::5]:7443".to_owned()],
                tick: Some(Duration::from_millis(200)),
                state: Some(PathBuf::from("/tmp/x")),
                spool_bytes: Some(1 << 20),
                spool_hours: Some(1),
                logs: Settings::default(),
                proc: Some(PathBuf::from("/p")),
                sys: None,
                bus: Some(PathBuf::from("/b")),
                ping: Some(Duration::from_millis(200)),
            }
        );
        assert_eq!(Config::parse("").unwrap(), Config::default());
        for (text, want) in [
            ("ping = true", None),
            ("ping = false\nping_ms = 200", Some(Duration::ZERO)),
        ] {
            assert_eq!(Config::parse(text).unwrap().ping, want, "{text}");
        }
        assert_eq!(mistakes("ping = 1"), ["line 1: ping must be true or false"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = "server = [\"mon1\"]\n\ntick_seconds = 0\nstate = 7\nspool_hours = \"72\"\nservers = [\"a b\", 3]\nzebra = 1\n";
        assert_eq!(
            mistakes(text),
            [
                "line 1: unknown key \"server\": did you mean \"servers\"?",
                "line 3: tick_seconds must be a whole number from 1 to 300",
                "line 4: state must be a text that is not empty, not this integer",
                "line 5: spool_hours must be a whole number from 1 to 744",
                "line 6: \"a b\" is not a server's address: a host name has letters, digits, dots and hyphens; write HOST, HOST:PORT or [V6]:PORT",
                "line 6: a server is a text such as \"mon1.example.org\", \"10.0.0.5:7443\" or \"[fd00::5]:7443\"",
                "line 7: unknown key \"zebra\": the keys are servers, tick_seconds, tick_ms, state, spool_bytes, spool_hours, logs, roots, ping, ping_ms",
            ]
        );
    }

    #[test]
    fn addresses_and_doubles_are_looked_at() {
        for (text, want) in [
            (
                "servers = [\"mon:0\"]",
                "line 1: \"mon:0\" is not a server's address",
            ),
            ("servers = [\"https://mon\"]", "begins with a scheme"),
            ("servers = []", "1 to 8 addresses"),
            ("servers = \"mon\"", "must be a list"),
            (
                "tick_seconds = 10\ntick_ms = 10000",
                "line 2: tick_seconds and tick_ms",
            ),
            ("tick_seconds = 301", "1 to 300"),
            ("tick_seconds = -1", "1 to 300"),
            ("spool_bytes = 1000", "from 1048576 to"),
            ("state = \"\"", "not empty"),
            ("roots = 3", "must name directories"),
            ("roots = { prok = \"/p\" }", "unknown key \"prok\" in roots"),
            ("roots = { sys = \"sys\" }", "whole path"),
            ("[servers]\na = 1", "must be a list"),
        ] {
            let found = mistakes(text);
            assert!(
                found.len() == 1 && found[0].contains(want),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn broken_toml_names_its_line() {
        let found = mistakes("tick_seconds = 10\nservers = [\"a\"\nstate = = 3\n");
        assert!(found.iter().any(|m| m.starts_with("line 3: ")), "{found:?}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.toml");
        let error = Config::load(Some(&path)).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }));
        std::fs::write(&path, "x = 1\ny = 2\n").unwrap();
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("has 2 mistakes:\n  line 1: "), "{error}");
    }
}
