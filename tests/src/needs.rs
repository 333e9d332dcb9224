//! What the system must have for a test to run: with `CI=true` a lack is a failure, otherwise the test says that it skips.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::faketime;
use crate::journal::REMOTE;
use crate::receivers::PYTHON;

/// Something that not every system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Root, and the right to mount and to make namespaces.
    Mounts,
    /// libfaketime.
    Faketime,
    /// Python's aiosmtpd.
    Aiosmtpd,
    /// Chromium and its driver.
    Chromium,
    /// Root, and the right to make network namespaces.
    Namespaces,
    /// nft, for packets that get lost.
    Nft,
    /// systemd's journal: what writes one, and journalctl, which reads it.
    Journal,
    /// The message bus of every Linux.
    DbusDaemon,
    /// strace, and the right to trace.
    Strace,
    /// Root, loop devices with ext4 on them, and xfs_io to cut their power.
    PowerCut,
}

impl Need {
    /// Whether it is there.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Need::Mounts => works("unshare", &["--mount", "--pid", "--fork", "true"]),
            Need::Faketime => faketime::library().is_some(),
            Need::Namespaces => works(
                "unshare",
                &["--net", "ip", "link", "add", "dw0", "type", "veth"],
            ),
            Need::Nft => works("unshare", &["--net", "nft", "list", "ruleset"]),
            Need::Journal => works(REMOTE, &["--version"]) && works("journalctl", &["--version"]),
            Need::DbusDaemon => works("dbus-daemon", &["--version"]),
            Need::Strace => works("strace", &["-o", "/dev/null", "true"]),
            Need::PowerCut => {
                works("xfs_io", &["-V"])
                    && works("mkfs.ext4", &["-V"])
                    && works("losetup", &["--find"])
            }
            Need::Aiosmtpd => {
                Path::new(PYTHON).exists() && works(PYTHON, &["-c", "import aiosmtpd"])
            }
            Need::Chromium => {
                works("chromedriver", &["--version"]) && works("chromium", &["--version"])
            }
        }
    }

    fn lack(self) -> &'static str {
        match self {
            Need::Mounts => "no right to mount (run as root, outside of an unprivileged container)",
            Need::Faketime => "libfaketime is missing (Debian package faketime)",
            Need::Namespaces => {
                "no right to make network namespaces, or no ip (run as root; Debian package iproute2)"
            }
            Need::Journal => {
                "journalctl or systemd-journal-remote is missing (Debian packages systemd, systemd-journal-remote)"
            }
            Need::Strace => "no strace, or no right to trace (Debian package strace)",
            Need::PowerCut => {
                "no root, no free loop device, or no xfs_io or mkfs.ext4 (Debian packages xfsprogs, e2fsprogs)"
            }
            Need::Nft => "nft is missing (Debian package nftables)",
            Need::DbusDaemon => "dbus-daemon is missing (Debian package dbus-daemon)",
            Need::Aiosmtpd => "aiosmtpd is missing (Debian package python3-aiosmtpd)",
            Need::Chromium => {
                "chromium or chromedriver is missing (Debian packages chromium, chromium-driver)"
            }
        }
    }
}

/// Whether all is there. Where something lacks, says so and that the test is skipped.
///
/// # Panics
/// Where something lacks and `CI=true`: there it must not be skipped silently.
#[must_use]
pub fn are_met(needs: &[Need]) -> bool {
    let Some(lacking) = needs.iter().find(|need| !need.is_met()) else {
        return true;
    };
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{}", lacking.lack());
    crate::say(&format!("SKIPPED: {}", lacking.lack()));
    false
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
