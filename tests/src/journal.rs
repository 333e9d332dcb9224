//! Journals of systemd: files that `systemd-journal-remote` writes and `journalctl` reads, with entries of the test's.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

/// What writes journals; it lies beside the commands, in no directory of `PATH`.
pub const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

/// An entry: the program, its syslog severity, its message, which may have any byte in it.
pub type Entry<'a> = (&'a str, u8, &'a str);

/// Adds a file of entries to a directory of journals; the names of files must differ.
///
/// # Panics
/// Where it cannot be written: [`crate::needs`] says whether it can.
pub fn write(directory: &Path, name: &str, at: Timestamp, entries: &[Entry<'_>]) {
    let mut export: Vec<u8> = Vec::new();
    for (i, (program, severity, message)) in entries.iter().enumerate() {
        let micros = at.as_microsecond() + i64::try_from(i).expect("few entries");
        // Of one boot, whose entries journalctl orders by their monotonic time: it must grow from file to file.
        let head = format!(
            "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={micros}\n\
             _BOOT_ID=0123456789abcdef0123456789abcdef\nPRIORITY={severity}\n\
             SYSLOG_IDENTIFIER={program}\n_SYSTEMD_UNIT={program}.service\nMESSAGE\n"
        );
        export.extend(head.as_bytes());
        // With its length before it, so that it may have lines of its own.
        let length = u64::try_from(message.len()).expect("a length");
        export.extend(length.to_le_bytes());
        export.extend(message.as_bytes());
        export.extend(b"\n\n");
    }
    // Made elsewhere and moved into place whole: the agent never sees half a journal.
    let aside = tempfile::tempdir_in(directory.parent().expect("a directory around it"))
        .expect("a temporary directory");
    let (from, to) = (
        aside.path().join("export"),
        aside.path().join("new.journal"),
    );
    fs::write(&from, export).expect("the entries are written");
    let done = Command::new(REMOTE).arg("-o").arg(&to).arg(&from).output();
    let done = done.expect("systemd-journal-remote runs");
    assert!(done.status.success(), "{done:?}");
    fs::rename(&to, directory.join(format!("{name}.journal"))).expect("the journal is there");
}
