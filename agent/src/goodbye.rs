//! Why the agent is told to stop: somebody stopped it, or the host goes down with it.
//!
//! Nothing is asked of the system's manager; four files are read.
//!
//! | file | written by | says | how sure |
//! |---|---|---|---|
//! | `/run/dawnwatch-agent.jobs` | our unit's `ExecStop`: `systemctl list-jobs` | which target is being started | sure |
//! | `/run/systemd/shutdown/scheduled` | logind, for `shutdown +10`, `shutdown -r 02:00` | mode and time | sure once its time has come |
//! | `/run/utmp` | System V init and OpenRC, before they stop anything | run level 6 (reboot) or 0 (off) | sure |
//! | `/run/nologin` | systemd while it goes down | that the host goes down, not whether it comes back | a guess: off |
//!
//! Without our unit, `systemctl reboot` and `systemctl poweroff` leave only the last, and it may be written a moment after the
//! agent is told to stop: then the goodbye says "stopped", and the boot id of the next start tells of the reboot. "Off" is the guess
//! where the way is not known, because a goodbye for reboot promises that the host is back in ten minutes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use dawnwatch_proto::event::GoodbyeReason;
use jiff::Timestamp;

/// Longest file that is read: utmp has one record of 384 bytes a login.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A schedule counts from this much before its time: the manager may stop services a moment early.
const EARLY_MICROS: i64 = 5_000_000;

/// A record of utmp on all of Linux's 64-bit machines, and the 32-bit ones that share its layout.
const UTMP_BYTES: usize = 384;

/// `ut_type` of a record that tells a run level.
const RUN_LVL: i16 = 1;

/// What the system left lying about; none where a file is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    jobs: Option<Vec<u8>>,
    scheduled: Option<Vec<u8>>,
    utmp: Option<Vec<u8>>,
    nologin: Option<Vec<u8>>,
}

/// Why this agent is told to stop, as well as it can be known.
#[must_use]
pub fn reason(now: Timestamp) -> GoodbyeReason {
    parse(&read(Path::new("/run")), now)
}

/// Reads the signs below `/run`.
#[must_use]
pub fn read(run: &Path) -> Signs {
    Signs {
        jobs: content(run.join("dawnwatch-agent.jobs")),
        scheduled: content(run.join("systemd/shutdown/scheduled")),
        utmp: content(run.join("utmp")),
        nologin: content(run.join("nologin")),
    }
}

fn content(path: PathBuf) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What the signs mean at a moment at which the agent is told to stop.
#[must_use]
pub fn parse(signs: &Signs, now: Timestamp) -> GoodbyeReason {
    let scheduled = signs.scheduled.as_deref().and_then(|file| mode(file, now));
    let jobs = signs.jobs.as_deref().and_then(target);
    let run_level = || signs.utmp.as_deref().and_then(run_level);
    let going_down = || {
        let says = signs.nologin.as_deref()?;
        // At boot the same file says "booting up".
        let is_end = says.windows(10).any(|word| word == b"going down");
        is_end.then_some(GoodbyeReason::Shutdown)
    };
    jobs.or(scheduled)
        .or_else(run_level)
        .or_else(going_down)
        .unwrap_or(GoodbyeReason::Stopped)
}

/// The end that systemd's jobs lead to: lines such as `217 reboot.target start waiting`.
fn target(jobs: &[u8]) -> Option<GoodbyeReason> {
    let text = std::str::from_utf8(jobs).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        match (words.next()?, words.next()?) {
            ("reboot.target" | "kexec.target" | "soft-reboot.target", "start") => {
                Some(GoodbyeReason::Reboot)
            }
            ("poweroff.target" | "halt.target", "start") => Some(GoodbyeReason::Shutdown),
            _ => None,
        }
    })
}

/// The mode of a schedule whose time has come: lines such as `USEC=1764000000000000` and `MODE=reboot`.
fn mode(file: &[u8], now: Timestamp) -> Option<GoodbyeReason> {
    let text = std::str::from_utf8(file).ok()?;
    let value = |key| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next()
    };
    let due: i64 = value("USEC")?.trim().parse().ok()?;
    if due > now.as_microsecond().saturating_add(EARLY_MICROS) {
        return None;
    }
    match value("MODE")?.trim() {
        "reboot" | "kexec" | "soft-reboot" => Some(GoodbyeReason::Reboot),
        "poweroff" | "halt" => Some(GoodbyeReason::Shutdown),
        // A rehearsal ("dry-reboot"), or what this build does not know.
        _ => None,
    }
}

/// What the newest run level in a utmp file means.
fn run_level(file: &[u8]) -> Option<GoodbyeReason> {
    let mut levels = file.chunks_exact(UTMP_BYTES).filter_map(|record| {
        let kind = i16::from_ne_bytes(*record.first_chunk::<2>()?);
        // `ut_pid`: the level, and above it the one before.
        let level = record.get(4).filter(|_| kind == RUN_LVL)?;
        Some(*level)
    });
    match levels.next_back()? {
        b'6' => Some(GoodbyeReason::Reboot),
        b'0' => Some(GoodbyeReason::Shutdown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_764_000_000;

    fn check(signs: &Signs, want: GoodbyeReason) {
        let now = Timestamp::from_second(NOW_S).unwrap();
        assert_eq!(parse(signs, now), want, "{signs:?}");
    }

    fn scheduled(due_s: i64, mode: &str) -> Signs {
        let text = format!("USEC={due_s}000000\nWARN_WALL=1\nMODE={mode}\nUID=0\nTTY=pts/0\n");
        Signs {
            scheduled: Some(text.into_bytes()),
            ..Signs::default()
        }
    }

    fn utmp(levels: &[(i16, u8)]) -> Signs {
        let mut bytes = Vec::new();
        for (kind, level) in levels {
            let mut record = [0; UTMP_BYTES];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[4] = *level;
            record[5] = b'N';
            bytes.extend_from_slice(&record);
        }
        Signs {
            utmp: Some(bytes),
            ..Signs::default()
        }
    }

    #[test]
    fn a_schedule_counts_once_its_time_has_come() {
        use GoodbyeReason::{Reboot, Shutdown, Stopped};
        for (due_s, mode, want) in [
            (NOW_S, "reboot", Reboot),
            (NOW_S - 60, "kexec", Reboot),
            (NOW_S + 4, "poweroff", Shutdown),
            (NOW_S, "halt", Shutdown),
            (NOW_S + 3_600, "reboot", Stopped),
            (NOW_S, "dry-reboot", Stopped),
            (NOW_S, "", Stopped),
        ] {
            check(&scheduled(due_s, mode), want);
        }
        for odd in ["", "MODE=reboot\n", "USEC=x\nMODE=reboot\n", "\u{0}"] {
            let scheduled = Some(odd.as_bytes().to_vec());
            check(
                &Signs {
                    scheduled,
                    ..Signs::default()
                },
                Stopped,
            );
        }
    }

    #[test]
    fn the_managers_jobs_tell_a_reboot_from_a_stop() {
        use GoodbyeReason::{Reboot, Shutdown, Stopped};
        let jobs = |text: &str| Signs {
            jobs: Some(text.as_bytes().to_vec()),
            ..Signs::default()
        };
        let stop = "1490 dawnwatch-agent.service stop running\n";
        let line = |target| {
            format!("{stop}1391 {target}.target start waiting\n1402 umount.target start waiting\n")
        };
        check(&jobs(stop), Stopped);
        for (target, want) in [
            ("reboot", Reboot),
            ("kexec", Reboot),
            ("poweroff", Shutdown),
            ("halt", Shutdown),
            ("rescue", Stopped),
        ] {
            check(&jobs(&line(target)), want);
        }
        check(&jobs("1391 reboot.target stop waiting\n"), Stopped);
        check(&jobs("No jobs running.\n"), Stopped);
        let mut both = scheduled(NOW_S, "poweroff");
        both.jobs = jobs(&line("reboot")).jobs;
        check(&both, Reboot);
    }

    #[test]
    fn the_newest_run_level_counts() {
        use GoodbyeReason::{Reboot, Shutdown, Stopped};
        const BOOT: i16 = 2;
        const USER: i16 = 7;
        check(&utmp(&[(BOOT, 0), (RUN_LVL, b'5'), (USER, b'6')]), Stopped);
        check(
            &utmp(&[(RUN_LVL, b'5'), (USER, b'5'), (RUN_LVL, b'6')]),
            Reboot,
        );
        check(&utmp(&[(RUN_LVL, b'6'), (RUN_LVL, b'0')]), Shutdown);
        check(&utmp(&[]), Stopped);
        let mut torn = utmp(&[(RUN_LVL, b'6')]);
        torn.utmp.as_mut().unwrap().truncate(100);
        check(&torn, Stopped);
    }

    #[test]
    fn a_host_that_goes_down_is_not_one_that_comes_up() {
        let nologin = |text: &str| Signs {
            nologin: Some(text.as_bytes().to_vec()),
            ..Signs::default()
        };
        let down = "\"System is going down. Unprivileged users are not permitted to log in anymore. For technical details, see pam_nologin(8).\"\n";
        let up = "\"System is booting up. Unprivileged users are not permitted to log in yet.\"\n";
        check(&nologin(down), GoodbyeReason::Shutdown);
        check(&nologin(up), GoodbyeReason::Stopped);
        let mut both = scheduled(NOW_S, "reboot");
        both.nologin = Some(down.as_bytes().to_vec());
        check(&both, GoodbyeReason::Reboot);
        check(&Signs::default(), GoodbyeReason::Stopped);
    }

    #[test]
    fn the_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Signs::default());
        std::fs::create_dir_all(dir.path().join("systemd/shutdown")).unwrap();
        let want = scheduled(NOW_S, "reboot");
        let path = dir.path().join("systemd/shutdown/scheduled");
        std::fs::write(path, want.scheduled.as_ref().unwrap()).unwrap();
        assert_eq!(read(dir.path()), want);
    }
}
