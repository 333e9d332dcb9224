//! What a look through a data directory found.

use std::path::Path;

use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use serde::Serialize;

/// Damages that are told one by one: a broken disk says the same of every block. The rest is counted.
pub const DAMAGES_MAX: usize = 1_000;

/// Names of files that are not ours, and notes: as many as somebody reads. The rest is counted.
const LISTED_MAX: usize = 100;

/// Hosts that are named with one damage.
const HOSTS_MAX: usize = 20;

/// What a damage costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nothing: the server makes it anew, or has it twice.
    Nothing,
    /// Samples, events or their names within the span.
    Samples,
    /// What happened and who did what.
    Records,
    /// A sealed night or its evidence.
    Night,
    /// What the server knew when it stopped.
    State,
    /// Who is who: without it the server does not start.
    Identity,
}

/// One damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, from the data directory on.
    pub file: String,
    /// Where in it; empty for all of it.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What it costs.
    pub costs: Cost,
    /// The same in words.
    pub cost: String,
    /// Beginning of the time that it costs, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// End of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Hosts that it concerns, the first of them; empty: all, or nobody knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How many hosts it concerns.
    pub hosts_all: usize,
    /// What to do.
    pub cure: String,
}

impl Damage {
    /// A damage without a span.
    #[must_use]
    pub fn of(file: &str, place: &str, what: String, costs: Cost, cure: &str) -> Damage {
        Damage {
            file: term(file),
            place: place.to_owned(),
            what: term(&what),
            costs,
            cost: costs.words().to_owned(),
            from: None,
            to: None,
            hosts: Vec::new(),
            hosts_all: 0,
            cure: cure.to_owned(),
        }
    }

    /// With the time that it costs.
    #[must_use]
    pub fn within(self, from: Option<Timestamp>, to: Option<Timestamp>) -> Damage {
        Damage { from, to, ..self }
    }

    /// With the hosts that it concerns.
    #[must_use]
    pub fn with_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Damage {
        self.hosts = hosts.into_iter().collect();
        self.hosts.sort();
        self.hosts.dedup();
        self.hosts_all = self.hosts.len();
        self.hosts.truncate(HOSTS_MAX);
        self
    }

    /// The span in words; empty where it is not known.
    #[must_use]
    pub fn span(&self) -> String {
        let short = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        match (self.from, self.to) {
            (Some(from), Some(to)) => format!("{} to {}", short(from), short(to)),
            (Some(from), None) => format!("after {}", short(from)),
            (None, Some(to)) => format!("before {}", short(to)),
            (None, None) => String::new(),
        }
    }

    fn print(&self, out: &mut String) {
        let place = if self.place.is_empty() {
            String::new()
        } else {
            format!(", {}", self.place)
        };
        out.push_str(&format!("  {}{place}: {}\n", self.file, self.what));
        let mut cost = self.cost.clone();
        let span = self.span();
        if !span.is_empty() {
            cost.push_str(&format!(", {span}"));
        }
        if !self.hosts.is_empty() {
            cost.push_str(&format!(", of {}", self.hosts.join(", ")));
            let more = self.hosts_all - self.hosts.len();
            if more > 0 {
                cost.push_str(&format!(" and {more} more"));
            }
        }
        out.push_str(&format!("    costs  {cost}\n    do     {}\n", self.cure));
    }
}

impl Cost {
    fn words(self) -> &'static str {
        match self {
            Cost::Nothing => "nothing: it is made anew, or there is another",
            Cost::Samples => "samples and events",
            Cost::Records => "what happened and who did what",
            Cost::Night => "the record of a night",
            Cost::State => {
                "what the server knew: which alerts fire, what is usual, rows of the last hour"
            }
            Cost::Identity => "the server does not start, or cannot be joined",
        }
    }
}

/// What is lost with a file of a room, and what to do.
#[must_use]
pub fn of_room(path: &str) -> (Cost, &'static str) {
    if path.starts_with("identity") {
        (Cost::Identity, FROM_BACKUP)
    } else if path.starts_with("checkpoint") {
        (
            Cost::State,
            "start the server: it takes the other checkpoint, and replays the journal from there",
        )
    } else if path.starts_with("ledger") {
        (Cost::Records, FROM_BACKUP)
    } else if path.starts_with("nights") {
        (Cost::Night, FROM_BACKUP)
    } else if path.ends_with(".dws") {
        (
            Cost::Nothing,
            "start the server: it is made anew while its hour file is there",
        )
    } else {
        (Cost::Samples, FROM_BACKUP)
    }
}

/// The cure for what is nowhere else.
pub const FROM_BACKUP: &str = "copy this file out of a backup that was made before the damage; without one it stays lost, and the server goes on without it";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The data directory.
    pub data: String,
    /// Whether a server ran on it meanwhile.
    pub running: bool,
    /// Whether everything that was read is sound.
    pub sound: bool,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was read of each kind, in words.
    pub kinds: Vec<String>,
    /// Damages, the first of them.
    pub damages: Vec<Damage>,
    /// How many damages there are in all.
    pub damages_all: usize,
    /// What is worth knowing and no damage, the first of them.
    pub notes: Vec<String>,
    /// How many notes there are in all.
    pub notes_all: usize,
    /// Files that are not dawnwatch's, the first of them; they were not read.
    pub unknown: Vec<String>,
    /// How many of these there are in all.
    pub unknown_all: usize,
}

impl Report {
    pub(super) fn new(data: &Path, running: bool) -> Report {
        Report {
            data: term(&data.display().to_string()),
            running,
            sound: false,
            files: 0,
            bytes: 0,
            kinds: Vec::new(),
            damages: Vec::new(),
            damages_all: 0,
            notes: Vec::new(),
            notes_all: 0,
            unknown: Vec::new(),
            unknown_all: 0,
        }
    }

    pub(super) fn damage(&mut self, damage: Damage) {
        self.damages_all += 1;
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(damage);
        }
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes_all += 1;
        if self.notes.len() < LISTED_MAX {
            self.notes.push(text);
        }
    }

    pub(super) fn unknown(&mut self, name: String) {
        self.unknown_all += 1;
        if self.unknown.len() < LISTED_MAX {
            self.unknown.push(name);
        }
    }

    pub(super) fn finish(&mut self) {
        self.sound = self.damages_all == 0;
    }

    /// As somebody reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{}: {} files, {} read{}\n",
            self.data,
            self.files,
            size(self.bytes),
            if self.running {
                ", while the server runs"
            } else {
                ""
            }
        );
        for kind in &self.kinds {
            out.push_str(&format!("  {kind}\n"));
        }
        listed(&mut out, "worth knowing", &self.notes, self.notes_all);
        listed(
            &mut out,
            "not dawnwatch's, not read",
            &self.unknown,
            self.unknown_all,
        );
        if self.sound {
            out.push_str("SOUND: no damage found\n");
            return out;
        }
        out.push_str(&format!("DAMAGED: {}\n", self.damages_all));
        for damage in &self.damages {
            damage.print(&mut out);
        }
        let more = self.damages_all - self.damages.len();
        if more > 0 {
            out.push_str(&format!("  {more} more\n"));
        }
        out
    }
}

fn listed(out: &mut String, head: &str, lines: &[String], all: usize) {
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("{head}: {all}\n"));
    for line in lines {
        out.push_str(&format!("  {line}\n"));
    }
    if all > lines.len() {
        out.push_str(&format!("  {} more\n", all - lines.len()));
    }
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut unit = "B";
    let mut whole = bytes;
    let mut rest = 0;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1_024 {
            break;
        }
        rest = whole % 1_024;
        whole /= 1_024;
        unit = next;
    }
    if whole < 10 && unit != "B" {
        format!("{whole}.{} {unit}", rest * 10 / 1_024)
    } else {
        format!("{whole} {unit}")
    }
}
