//! Reads hour files again in the background, and what is kept for ever: what a disk loses silently is told within an hour of a
//! start, or a rotation, and not when somebody needs it.
//!
//! After a start every hour file once, paced to take an hour at most as a rule; after that one an hour, in turn. Each block and
//! each chunk of events is read against its checksum, as `verify` does, and so are its summaries: a damaged one is made anew. Then,
//! and once a day, the ledger and the sealed nights, whose hashes it holds. Nothing else is changed: who reads goes on with what
//! is whole. A file that cannot be opened at the start is not looked at here: the start tells of it. Summaries whose hour file is
//! gone are not looked at either: `verify` reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::input::{Input, Notice};
use dawnwatch_engine::vitals;
use dawnwatch_proto::HostId;
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::history::{self, History};
use crate::identity::Identity;
use crate::journal::Submit;
use crate::verify;

/// What the findings are about.
const SUBJECT: &str = "history damaged";
const RECORDS: &str = "records damaged";

/// The first turn through all files takes this long, where reading takes less.
const FIRST_TURN: Duration = Duration::from_secs(3_600);

/// Few files are not stretched over the whole hour.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Between two files after that.
const EVERY: Duration = Duration::from_secs(3_600);

/// For each second of reading the disk is left to others for so many.
const REST: u32 = 4;

/// Ledger and nights are read this often.
const RECORDS_EVERY_MS: u64 = 24 * 3_600_000;

/// What seems damaged in them is looked at once more after this: a night that is being written is none.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Whoever stops the server waits no longer than this.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Files that are told one by one: `verify` lists all. The rest is counted.
const TOLD_MAX: usize = 8;

/// Hosts that are named with one file; the rest is counted.
const HOSTS_MAX: usize = 8;

/// Damaged files that are remembered: 35 days of hours.
const FILES_MAX: usize = 840;

const CURE: &str = "copy the files out of a backup made before the damage while the server is stopped; without one they stay lost, \
    all else is still read, and dawnwatch-server verify lists every part";

/// What is worked with.
pub(crate) struct Scrub {
    pub(crate) data: PathBuf,
    pub(crate) history: Arc<History>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) journal: mpsc::Sender<Submit>,
    pub(crate) stopping: Arc<AtomicBool>,
}

impl Scrub {
    /// Starts the thread; it ends soon after the server is told to stop.
    pub(crate) fn start(self) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("scrub".to_owned());
        thread.spawn(move || self.run())
    }

    fn run(&self) {
        let (mut found, mut told) = (Found::default(), String::new());
        let (mut last, mut first_turn) = (0, true);
        let mut records = (0, String::new());
        loop {
            let files = self.history.hour_files();
            // In turn, by position: files that come and go meanwhile do no harm.
            let next = files.iter().find(|file| file.0 > last);
            first_turn &= next.is_some();
            if !first_turn && !self.records(&mut records) {
                return;
            }
            let Some((through, path)) = next.or(files.first()) else {
                if !self.rest(LOOK_EVERY * 4) {
                    return;
                }
                continue;
            };
            if !first_turn && !self.rest(EVERY) {
                return;
            }
            let began = Clock.boot_ms();
            found.look(*through, path, |id| self.name(id));
            self.history.check_summaries(*through);
            found.keep(|through| files.iter().any(|file| file.0 == through));
            last = *through;
            let text = found.text();
            if text != told {
                if !self.tell(SUBJECT, &text) {
                    return;
                }
                told = text;
            }
            let took = Duration::from_millis(Clock.boot_ms().saturating_sub(began));
            let share = FIRST_TURN / u32::try_from(files.len()).unwrap_or(u32::MAX).max(1);
            if !self.rest((took * REST).max(share.min(PAUSE_MAX))) {
                return;
            }
        }
    }

    /// Reads ledger and nights where it is time, and tells what is wrong with them unless that was told; false where the server
    /// stops.
    fn records(&self, (due_ms, told): &mut (u64, String)) -> bool {
        if Clock.boot_ms() < *due_ms {
            return true;
        }
        let mut damages = verify::records(&self.data);
        if !damages.is_empty() {
            if !self.rest(LOOK_AGAIN) {
                return false;
            }
            let again = verify::records(&self.data);
            damages.retain(|damage| again.contains(damage));
        }
        *due_ms = Clock.boot_ms() + RECORDS_EVERY_MS;
        let text = of_records(&damages);
        if text == *told {
            return true;
        }
        told.clone_from(&text);
        self.tell(RECORDS, &text)
    }

    /// Waits; false where the server stops.
    fn rest(&self, mut left: Duration) -> bool {
        while left > Duration::ZERO && !self.stopping.load(Ordering::Relaxed) {
            std::thread::sleep(left.min(LOOK_EVERY));
            left = left.saturating_sub(LOOK_EVERY);
        }
        !self.stopping.load(Ordering::Relaxed)
    }

    /// Hands the finding to the journal, however long that is busy; false where the server stops.
    fn tell(&self, subject: &str, text: &str) -> bool {
        if !text.is_empty() {
            tracing::error!(text, "{subject}");
        }
        loop {
            let input = Input::Server(Notice {
                subject: subject.to_owned(),
                text: text.to_owned(),
                critical: false,
            });
            match self.journal.try_send(Submit::Input(Box::new(input), None)) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(_)) if self.rest(LOOK_EVERY) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return false,
            }
        }
    }

    fn name(&self, id: HostId) -> String {
        if id == vitals::SERVER {
            return "the server itself".to_owned();
        }
        let hosts = self.identity.hosts();
        let host = hosts.iter().find(|host| host.id == id);
        host.map_or("a host without a name".to_owned(), |host| term(&host.name))
    }
}

/// The finding about ledger and nights; empty where nothing is damaged.
fn of_records(damages: &[verify::Damage]) -> String {
    let Some(first) = damages.first() else {
        return String::new();
    };
    let told: Vec<String> = damages
        .iter()
        .take(TOLD_MAX)
        .map(|damage| {
            let place = if damage.place.is_empty() {
                String::new()
            } else {
                format!(", {}", damage.place)
            };
            format!("{}{place}: {}", damage.file, damage.what)
        })
        .collect();
    let more = match damages.len() - told.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}. To do: {}", told.join("; "), first.cure)
}

/// What is damaged, by journal position.
#[derive(Debug, Default)]
struct Found {
    files: BTreeMap<u64, String>,
}

impl Found {
    /// Reads a file, and takes note of what is wrong with it, or that nothing is any more.
    fn look(&mut self, through: u64, path: &Path, name: impl Fn(HostId) -> String) {
        let file = path.file_name().map_or_else(String::new, |name| {
            format!("history/{}", term(&name.to_string_lossy()))
        });
        let text = match verify::hour(path) {
            Ok(hour) if hour.broken.is_empty() => None,
            Ok(hour) => Some(broken(&hour, &file, name)),
            // Its time came.
            Err(_) if !path.exists() => None,
            Err(history::Error::Damaged { why, .. }) => {
                Some(format!("{}all of {file} is lost: {why}", before(path)))
            }
            Err(error) => Some(format!(
                "{}{file}: {}",
                before(path),
                term(&error.to_string())
            )),
        };
        match text {
            Some(text) if self.files.len() < FILES_MAX => {
                self.files.insert(through, text);
            }
            Some(_) => {}
            None => {
                self.files.remove(&through);
            }
        }
    }

    /// Forgets files that are gone.
    fn keep(&mut self, is_there: impl Fn(u64) -> bool) {
        self.files.retain(|through, _| is_there(*through));
    }

    /// The finding; empty where nothing is damaged.
    fn text(&self) -> String {
        if self.files.is_empty() {
            return String::new();
        }
        // The latest first: those are asked for.
        let told: Vec<&str> = self
            .files
            .values()
            .rev()
            .take(TOLD_MAX)
            .map(String::as_str)
            .collect();
        let more = match self.files.len() - told.len() {
            0 => String::new(),
            more => format!("; and in {more} more files"),
        };
        format!("{}{more}. To do: {CURE}", told.join("; "))
    }
}

/// What of a file cannot be read.
fn broken(hour: &verify::Hour, file: &str, name: impl Fn(HostId) -> String) -> String {
    let min = hour.broken.iter().map(|part| part.min_ms).min();
    let max = hour.broken.iter().map(|part| part.max_ms).max();
    let hosts: std::collections::BTreeSet<HostId> =
        hour.broken.iter().map(|part| part.host).collect();
    let mut names: Vec<String> = hosts.iter().take(HOSTS_MAX).map(|id| name(*id)).collect();
    if hosts.len() > names.len() {
        names.push(format!("{} more", hosts.len() - names.len()));
    }
    format!(
        "{}samples or events of {} are lost: {} of {} parts of {file}",
        span(min.unwrap_or(0), max.unwrap_or(0)),
        names.join(", "),
        hour.broken.len(),
        hour.parts
    )
}

fn span(from_ms: i64, to_ms: i64) -> String {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
    let (from, to) = (at(from_ms), at(to_ms));
    let end = if from.strftime("%F").to_string() == to.strftime("%F").to_string() {
        "%H:%M"
    } else {
        "%F %H:%M"
    };
    format!("{}-{} UTC: ", from.strftime("%F %H:%M"), to.strftime(end))
}

/// The hour before a file was written, where that is all that is known of it.
fn before(path: &Path) -> String {
    let written = std::fs::metadata(path).and_then(|meta| meta.modified());
    let written = written.ok().and_then(|at| Timestamp::try_from(at).ok());
    written.map_or_else(String::new, |at| {
        span(at.as_millisecond() - 3_600_000, at.as_millisecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_block_is_told_with_its_span_and_host_and_is_over_when_the_file_is_back() {
        let dir = tempfile::tempdir().unwrap();
        verify::tests::build(dir.path());
        let disk: Arc<dyn dawnwatch_segment::Disk> = Arc::new(dawnwatch_segment::RealDisk);
        let (history, damage) = History::open(&disk, dir.path()).unwrap();
        assert_eq!(damage, [""; 0]);
        let files = history.hour_files();
        let (through, path) = files.first().unwrap().clone();
        let name = |_| "web01".to_owned();
        let mut found = Found::default();
        found.look(through, &path, name);
        assert_eq!(found.text(), "");
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        // The first block begins behind the header.
        bytes[8 + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        found.look(through, &path, name);
        let text = found.text();
        assert!(text.contains("of web01 are lost: 1 of "), "{text}");
        assert!(text.contains(" UTC: ") && text.contains("backup"), "{text}");
        std::fs::write(&path, "short").unwrap();
        found.look(through, &path, name);
        assert!(found.text().contains("all of history/"), "{}", found.text());
        std::fs::write(&path, &whole).unwrap();
        found.look(through, &path, name);
        assert_eq!(found.text(), "");
        found.files.insert(through + 1, "gone soon".to_owned());
        found.keep(|position| position == through);
        assert_eq!(found.text(), "");
    }

    #[test]
    fn a_night_that_is_not_what_was_sealed_is_told_and_is_over_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        verify::tests::build(dir.path());
        assert_eq!(of_records(&verify::records(dir.path())), "");
        let path = dir.path().join("nights/N-2026-10-05.json");
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let text = of_records(&verify::records(dir.path()));
        assert!(
            text.starts_with("nights/N-2026-10-05.json: it is not what the ledger says"),
            "{text}"
        );
        assert!(text.contains("backup"), "{text}");
        std::fs::write(&path, whole).unwrap();
        assert_eq!(verify::records(dir.path()), []);
    }

    #[test]
    fn a_disk_full_of_damage_makes_one_bounded_finding() {
        let mut found = Found::default();
        let longest = "x".repeat(200);
        for through in 0..500 {
            found.files.insert(through, longest.clone());
        }
        let text = found.text();
        assert!(text.contains("and in 492 more files"), "{text}");
        assert!(text.len() < 4_096, "{}", text.len());
    }
}
