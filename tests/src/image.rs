//! A filesystem in a file on a loop device, whose power can be cut: what was not synced is gone after the next mount.
//!
//! Cut are ext4's own journal and the page cache, not the disk below: what a disk loses that lies about its own cache cannot
//! be tried here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::FallocateFlags;

use crate::wait::until_true;

/// Nothing on it is open any more within this.
const WITHIN: Duration = Duration::from_secs(20);

/// The image, mounted. It is unmounted and its loop device given back when it is dropped.
#[derive(Debug)]
pub struct Image {
    /// Where it is mounted.
    pub point: PathBuf,
    file: PathBuf,
}

impl Image {
    /// Makes an ext4 of so many megabytes and mounts it.
    ///
    /// # Panics
    /// Where that cannot be done: [`crate::needs`] says whether one may.
    #[must_use]
    pub fn mount(dir: &Path, megabytes: u64) -> Image {
        let (file, point) = (dir.join("disk.img"), dir.join("disk"));
        let made = File::create(&file).and_then(|made| made.set_len(megabytes * 1024 * 1024));
        made.expect("a sparse file");
        fs::create_dir_all(&point).expect("a directory to mount on");
        let mut make = Command::new("mkfs.ext4");
        run(make.args(["-q", "-F"]).arg(&file));
        let image = Image { point, file };
        image.mount_again();
        image
    }

    /// Mounts it after a cut.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    pub fn mount_again(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.file).arg(&self.point));
    }

    /// Cuts the power: nothing reaches the image from here on. Who uses it should stand still, else a sync under way may say that it
    /// was done.
    ///
    /// # Panics
    /// Where it cannot be cut.
    pub fn cut(&self) {
        let mut cut = Command::new("xfs_io");
        run(cut.args(["-x", "-c", "shutdown"]).arg(&self.point));
    }

    /// Turns it read-only under all that runs, as the kernel does where ext4 finds its disk at fault.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn fail(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "remount,abort"]).arg(&self.point));
    }

    /// Takes all room but so many kilobytes by one file, which is given back.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn fill(&self, kilobytes: u64) -> PathBuf {
        let path = self.point.join("ballast");
        let file = File::create(&path).expect("the file that fills");
        let mut bytes = self.free_bytes().saturating_sub(kilobytes * 1024);
        // Its own map takes some blocks: less, until it fits.
        while bytes > 0 && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err()
        {
            bytes = bytes.saturating_sub(16 * 1024);
        }
        path
    }

    /// What root can still write.
    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.point).expect("the filesystem answers");
        stat.f_bfree * stat.f_frsize
    }

    /// Unmounts it. Nothing on it may be in use.
    ///
    /// # Panics
    /// Where it stays in use.
    pub fn unmount(&self) {
        until_true("the image to be unmounted", WITHIN, || {
            let mut unmount = Command::new("umount");
            unmount.arg(&self.point).stderr(Stdio::null());
            unmount.status().is_ok_and(|status| status.success())
        });
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily: also where something still stands on it. The loop device goes with the last of it.
        let mut unmount = Command::new("umount");
        unmount.args(["-l"]).arg(&self.point).stderr(Stdio::null());
        let _ = unmount.status();
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
