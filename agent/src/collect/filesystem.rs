//! How full the local filesystems are, and whether they can be written to.
//!
//! Mounts and their read-only flag come from PID 1's table, for the agent's own service may see all of them read-only;
//! where that table cannot be read, `node_filesystem_readonly` is `MISSING`, never 1. Which mounts: [`mounts`].
//!
//! Caveat: `statvfs` runs on the collecting thread. It does not wait for a local disk, but it may for ever on a network
//! filesystem, so those are not measured.
//!
//! [`mounts`]: super::mounts

use std::ffi::CString;

use dawnwatch_proto::{MISSING, Series};

use super::ask::{Asks, Usage};
use super::file::KernelFile;
use super::metric::{Metric, quantum_bytes, steps};
use super::mounts::{Chosen, Mount, choose};
use super::slots::Slots;
use super::text::raw;
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most filesystems that are shown: with the other subjects at their bounds, a host stays under its bound of series.
const FILESYSTEMS_MAX: usize = 64;

/// What this collector shows. The quantum of the sizes is chosen for each filesystem when it is first seen.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge("node_filesystem_size_bytes", "Filesystem size in bytes."),
    Metric::gauge(
        "node_filesystem_free_bytes",
        "Filesystem free space in bytes.",
    ),
    Metric::gauge(
        "node_filesystem_avail_bytes",
        "Filesystem space available to non-root users in bytes.",
    ),
    Metric::gauge("node_filesystem_files", "Filesystem total file nodes."),
    Metric::gauge(
        "node_filesystem_files_free",
        "Filesystem total free file nodes.",
    ),
    Metric::gauge("node_filesystem_readonly", "Filesystem read-only status."),
    Metric::gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
    ),
];

/// What it means that PID 1 is out of sight.
const UNKNOWN: &str =
    "is /proc mounted with hidepid?): whether a filesystem turned read-only is not watched";

/// The table of mounts is read at least every minute of ticks.
const TABLE_READS: u32 = 6;

/// How many of the metrics are sizes.
const SIZES: usize = 3;

/// Columns of a filesystem.
const COLUMNS: usize = 7;

/// The collector of mounted filesystems.
#[derive(Debug)]
pub(crate) struct Filesystems {
    host: KernelFile,
    own: KernelFile,
    asks: Asks,
    /// The table that `mounts` and `complaints` were made from.
    table: Vec<u8>,
    by_host: bool,
    reads: u32,
    mounts: Vec<Asked>,
    complaints: Vec<String>,
    filesystems: Slots<Filesystem>,
}

/// A mount, ready to be asked.
#[derive(Debug)]
struct Asked {
    mount: Mount,
    path: CString,
    key: Vec<u8>,
    /// What `statvfs` said of writing when last asked.
    readonly: Option<bool>,
}

/// A filesystem that has columns.
#[derive(Debug)]
struct Filesystem {
    labels: [(&'static str, String); 3],
    quantum: u32,
    row: [i64; COLUMNS],
}

impl Filesystems {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Filesystems {
        Filesystems {
            host: KernelFile::new(roots.proc.join("1/mountinfo")).unbounded(),
            own: KernelFile::new(roots.proc.join("self/mountinfo")).unbounded(),
            asks: roots.asks,
            table: Vec::new(),
            by_host: false,
            reads: 0,
            mounts: Vec::new(),
            complaints: Vec::new(),
            filesystems: Slots::new(FILESYSTEMS_MAX),
        }
    }

    /// Whether the table of mounts may be another than at the last read.
    ///
    /// The kernel takes longer to write that table than all else that is read here, so it is asked for a change first.
    /// It does not tell of a filesystem that turns itself read-only: `statvfs` shows that where the agent's service is
    /// not read-only anyway, and a look once a minute shows it everywhere.
    fn may_differ(&self) -> bool {
        let table = if self.by_host { &self.host } else { &self.own };
        let unread = self.reads.is_multiple_of(TABLE_READS);
        unread
            || table
                .file()
                .is_none_or(|file| (self.asks.mounts_changed)(file))
    }

    /// Reads the table of mounts, and chooses anew if it is another than before.
    fn list(&mut self) -> Result<(), CollectError> {
        let by_host = self.host.read().is_ok();
        if !by_host {
            self.own.read()?;
        }
        let text = if by_host {
            self.host.text()
        } else {
            self.own.text()
        };
        if text == self.table && by_host == self.by_host {
            return Ok(());
        }
        if by_host {
            self.own.read()?;
        }
        let text = if by_host {
            self.host.text()
        } else {
            self.own.text()
        };
        let chosen = choose(text, self.own.text());
        self.table.clear();
        self.table.extend_from_slice(text);
        self.by_host = by_host;
        self.complaints = complaints(&chosen);
        if !by_host {
            let path = self.host.path().display();
            self.complaints
                .push(format!("{path} cannot be read ({UNKNOWN}"));
        }
        self.mounts = chosen.mounts.into_iter().filter_map(Asked::new).collect();
        Ok(())
    }
}

impl Collector for Filesystems {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        if self.may_differ() {
            // Where this fails, the next read tries again.
            self.reads = 0;
            self.list()?;
        }
        self.reads = self.reads.wrapping_add(1);
        out.complaints.extend_from_slice(&self.complaints);
        self.filesystems.begin();
        for asked in &mut self.mounts {
            let usage = (self.asks.usage)(&asked.path);
            if let Err(error) = &usage {
                let path = asked.path.to_string_lossy();
                out.complaints.push(format!(
                    "ask how full {path} is: {error}; it is not watched"
                ));
            }
            let usage = usage.ok();
            if asked.turned(usage.map(|usage| usage.readonly)) {
                self.reads = 0;
            }
            let make = || Filesystem::new(&asked.mount, usage);
            if let Some(filesystem) = self.filesystems.see(&asked.key, make) {
                let readonly = self.by_host.then_some(asked.mount.readonly);
                filesystem.row = filesystem.row(usage, readonly);
            }
        }
        let changed = self.filesystems.end();
        if self.filesystems.refused() > 0 {
            let more = self.filesystems.refused();
            out.complaints.push(format!(
                "more than {FILESYSTEMS_MAX} filesystems: {more} are not watched"
            ));
        }
        for (_, filesystem) in self.filesystems.listed() {
            out.row
                .extend(filesystem.map_or([MISSING; COLUMNS], |filesystem| filesystem.row));
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (_, filesystem) in self.filesystems.known() {
            for (i, metric) in METRICS.iter().enumerate() {
                let mut one = metric.series();
                if i < SIZES {
                    one = one.quantum(filesystem.quantum, 1);
                }
                for (name, value) in &filesystem.labels {
                    one = one.label(name, value);
                }
                series.push(one);
            }
        }
    }
}

impl Asked {
    /// None where the mount point holds a NUL, which no kernel allows.
    fn new(mount: Mount) -> Option<Asked> {
        let path = CString::new(mount.point.clone()).ok()?;
        let parts = [
            &mount.point,
            mount.device.as_bytes(),
            mount.fstype.as_bytes(),
        ];
        let key = parts.join(&0);
        Some(Asked {
            mount,
            path,
            key,
            readonly: None,
        })
    }

    /// Whether this process may write there and could not before, or the other way round.
    fn turned(&mut self, readonly: Option<bool>) -> bool {
        let before = self.readonly;
        self.readonly = readonly.or(before);
        before.is_some() && before != self.readonly
    }
}

impl Filesystem {
    fn new(mount: &Mount, usage: Option<Usage>) -> Filesystem {
        let point = String::from_utf8_lossy(&mount.point).into_owned();
        Filesystem {
            labels: [
                ("device", mount.device.clone()),
                ("fstype", mount.fstype.clone()),
                ("mountpoint", point),
            ],
            quantum: quantum_bytes(usage.map_or(0, |usage| usage.size)),
            row: [MISSING; COLUMNS],
        }
    }

    fn row(&self, usage: Option<Usage>, readonly: Option<bool>) -> [i64; COLUMNS] {
        let readonly = readonly.map_or(MISSING, i64::from);
        let Some(usage) = usage else {
            return [MISSING, MISSING, MISSING, MISSING, MISSING, readonly, 1];
        };
        [
            steps(usage.size, self.quantum),
            steps(usage.free, self.quantum),
            steps(usage.avail, self.quantum),
            raw(usage.files),
            raw(usage.files_free),
            readonly,
            0,
        ]
    }
}

fn complaints(chosen: &Chosen) -> Vec<String> {
    let mut complaints = Vec::new();
    for point in &chosen.hidden {
        let point = String::from_utf8_lossy(point);
        complaints.push(format!(
            "{point} is hidden from the agent by its service's sandbox (such as ProtectHome); it is not watched"
        ));
    }
    if chosen.long > 0 {
        let text = "mounts have names that are too long to be sent; they are not watched";
        complaints.push(format!("{} {text}", chosen.long));
    }
    complaints
}
