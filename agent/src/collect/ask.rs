//! What collectors ask the kernel by calls: functions in a struct, so that fixtures can answer in its place.

use std::ffi::CStr;
use std::fs::File;
use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The calls that collectors make.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    /// How full the filesystem is that a path is on.
    pub usage: fn(&CStr) -> io::Result<Usage>,
    /// Whether mounts were added, removed or remounted since this table of mounts was opened or last asked about.
    pub mounts_changed: fn(&File) -> bool,
    /// A stopwatch in microseconds from any origin: measures how long a reading takes, never what time it is.
    pub elapsed_us: fn() -> i64,
    /// What the host's clock shows, in whole seconds since 1970: a value to send, never the stamp of one.
    pub unix_s: fn() -> i64,
    /// CPU time that this process has used, in milliseconds.
    pub own_cpu_ms: fn() -> i64,
    /// The machine's architecture, as `uname -m` says it.
    pub machine: fn() -> String,
    /// Bytes of a memory page.
    pub page_bytes: u32,
    /// The unit of CPU time in `/proc/stat`, a second: USER_HZ, 100 wherever it was seen, never assumed.
    pub ticks_per_second: u32,
}

/// How full a filesystem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in all.
    pub size: u64,
    /// Bytes that root may still write.
    pub free: u64,
    /// Bytes that anybody may still write.
    pub avail: u64,
    /// Inodes in all; 0 where the filesystem does not count them.
    pub files: u64,
    /// Inodes that are free.
    pub files_free: u64,
    /// Whether this process may not write to it, for whatever reason: a hint, never shown.
    pub readonly: bool,
}

impl Default for Asks {
    fn default() -> Asks {
        Asks {
            usage,
            mounts_changed,
            elapsed_us,
            unix_s: || clock_gettime(ClockId::Realtime).tv_sec,
            own_cpu_ms,
            machine,
            page_bytes: u32::try_from(rustix::param::page_size()).unwrap_or(4096),
            ticks_per_second: u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100),
        }
    }
}

fn usage(path: &CStr) -> io::Result<Usage> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Usage {
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bfree.saturating_mul(stat.f_frsize),
        avail: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: stat.f_files,
        files_free: stat.f_ffree,
        readonly: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// The kernel marks a table of mounts as exceptional once after each change.
fn mounts_changed(table: &File) -> bool {
    let mut fds = [PollFd::new(table, PollFlags::PRI)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Where asking fails, reading the table anew is right as well.
    !matches!(poll(&mut fds, Some(&at_once)), Ok(0))
}

fn elapsed_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .wrapping_mul(1_000_000)
        .wrapping_add(now.tv_nsec / 1_000)
}

fn own_cpu_ms() -> i64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec
        .wrapping_mul(1_000)
        .wrapping_add(used.tv_nsec / 1_000_000)
}

fn machine() -> String {
    rustix::system::uname()
        .machine()
        .to_string_lossy()
        .into_owned()
}
