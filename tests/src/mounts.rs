//! Real filesystems that one process or one test has for itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait::until;

/// A namespace is set up within this.
const WITHIN: Duration = Duration::from_secs(10);

/// What is written at once when a filesystem is filled.
const CHUNK_BYTES: usize = 64 * 1024;

/// The words that start a program in namespaces of its own, with a tmpfs of this size that nobody else sees.
///
/// The program is PID 1 there and reads a `/proc` of its own, as an agent does on its host. It dies with what started it.
#[must_use]
pub fn private_tmpfs(point: &Path, size: &str) -> Vec<String> {
    let point = point.display();
    // What a preloaded library keeps in shared memory goes by process id, which is 1 in each of these.
    // And what other tests have mounted meanwhile is not to be seen either: some of it is full.
    let others = std::env::temp_dir().join("");
    let others = others.display();
    let script = format!(
        "awk -v dir={others} 'index($2, dir) == 1 {{ print $2 }}' /proc/mounts | xargs -r umount --lazy && \
         mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs -o size={size} tmpfs {point} && exec \"$0\" \"$@\""
    );
    let unshare = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--mount-proc",
        "--fork",
        "--kill-child=KILL",
    ];
    unshare
        .into_iter()
        .chain(["sh", "-c", &script])
        .map(str::to_owned)
        .collect()
}

/// The process that [`private_tmpfs`] led to, by the id of the process that was started.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn inner(pid: u32) -> u32 {
    until("the process in its namespace", WITHIN, || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// Kills the process that [`private_tmpfs`] led to, as the kernel would; what started it ends with it.
///
/// # Panics
/// Where there is none.
pub fn kill_inner(pid: u32) {
    let inner = i32::try_from(inner(pid))
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let kill = rustix::process::Signal::KILL;
    rustix::process::kill_process(inner.expect("a process id"), kill).expect("it is killed");
}

/// A path as the process sees it.
#[must_use]
pub fn seen_by(pid: u32, path: &Path) -> PathBuf {
    let inside = path.strip_prefix("/").unwrap_or(path);
    PathBuf::from(format!("/proc/{pid}/root")).join(inside)
}

/// A tmpfs that the test sees too; unmounted at the end.
#[derive(Debug)]
pub struct Tmpfs {
    /// Where it is.
    pub point: PathBuf,
}

impl Tmpfs {
    /// Mounts one on a fresh directory.
    ///
    /// # Panics
    /// Where it cannot be mounted: [`crate::needs`] says whether one may.
    #[must_use]
    pub fn mount(point: &Path, size: &str) -> Tmpfs {
        fs::create_dir_all(point).expect("a directory to mount on");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(point);
        assert!(
            mount.status().is_ok_and(|status| status.success()),
            "tmpfs not mounted"
        );
        Tmpfs {
            point: point.to_owned(),
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.point)
            .status();
    }
}

/// Writes a file until a filesystem is used up to this share, or until it takes no more.
///
/// # Panics
/// Where the file cannot be made.
pub fn fill(file: &Path, share: f64) {
    let dir = file.parent().expect("a file lies in a directory");
    let mut out = File::create(file).expect("the file that fills");
    let chunk = vec![0x5a; CHUNK_BYTES];
    while used(dir) < share {
        if out.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// The used share of a filesystem, as an unprivileged person sees it.
fn used(dir: &Path) -> f64 {
    let stat = rustix::fs::statvfs(dir).expect("the filesystem answers");
    #[allow(clippy::cast_precision_loss, reason = "a few thousand blocks")]
    let free = stat.f_bavail as f64 / stat.f_blocks as f64;
    1.0 - free
}
