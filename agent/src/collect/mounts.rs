//! Which mounts are measured: a pure function over `/proc/PID/mountinfo`.
//!
//! As node_exporter shows them: one for each mount point, without the kernel's own filesystems and those of containers.
//! Beyond its defaults we leave out
//! - network and user-space filesystems (nfs, cifs, 9p, ceph, fuse...): asking how full they are may hang for ever,
//! - what lives below `/run` and in the pods of a kubelet: it comes and goes with sessions and containers,
//! - bind mounts of a directory or file of a filesystem that is listed already (subvolumes of btrfs are kept).

use std::collections::BTreeMap;

use dawnwatch_proto::series::LABEL_BYTES_MAX;

use super::text::{fields, lines};

/// Filesystems that hold nobody's data: node_exporter's default list, and later additions to it.
const TYPES_IGNORED: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Filesystems whose answer depends on somebody else: `statvfs` on them may never return.
const TYPES_REMOTE: &[&str] = &[
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "nfsd",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// Places whose mounts are not shown, nor anything below.
const PLACES_IGNORED: &[&str] = &["/dev", "/proc", "/sys"];

/// Places below which mounts are not shown.
const PLACES_IGNORED_BELOW: &[&str] = &[
    "/run",
    "/var/lib/containers/storage",
    "/var/lib/docker",
    "/var/lib/kubelet/pods",
];

/// A mount that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is.
    pub(crate) point: Vec<u8>,
    /// What is mounted, as `mount` shows it.
    pub(crate) device: String,
    /// Its kind.
    pub(crate) fstype: String,
    /// Whether it is read-only, or the whole filesystem is.
    pub(crate) readonly: bool,
}

/// What is measured, and what should be but cannot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Sorted by mount point.
    pub(crate) mounts: Vec<Mount>,
    /// Mount points that stand in the host's table but are covered by something else for this process.
    pub(crate) hidden: Vec<Vec<u8>>,
    /// Mounts whose names are over the bound of a label.
    pub(crate) long: usize,
}

/// Chooses from the host's table; `own` is this process's table, in which a mount must be too.
pub(crate) fn choose(host: &[u8], own: &[u8]) -> Chosen {
    let (host, own) = (by_point(host), by_point(own));
    let wanted: Vec<&Line<'_>> = host.values().filter(|line| line.is_wanted()).collect();
    let mut chosen = Chosen::default();
    for line in &wanted {
        if is_double(line, &wanted) {
            continue;
        }
        let point = unescaped(line.point);
        if own
            .get(line.point)
            .is_none_or(|own| own.number != line.number)
        {
            chosen.hidden.push(point);
            continue;
        }
        let text = |field| String::from_utf8_lossy(&unescaped(field)).into_owned();
        let (device, fstype) = (text(line.source), text(line.fstype));
        let longest = String::from_utf8_lossy(&point).len().max(device.len());
        if longest > LABEL_BYTES_MAX || point.contains(&0) {
            chosen.long += 1;
            continue;
        }
        chosen.mounts.push(Mount {
            point,
            device,
            fstype,
            readonly: line.readonly,
        });
    }
    chosen
}

/// Whether a mount shows a part of a filesystem that another mount shows better.
fn is_double(line: &Line<'_>, wanted: &[&Line<'_>]) -> bool {
    let is_part = |line: &Line<'_>| line.root != b"/" && line.fstype != b"btrfs";
    if !is_part(line) {
        return false;
    }
    let rank = |line: &Line<'_>| (is_part(line), line.point.len());
    wanted.iter().any(|other| {
        let better = (rank(other), other.point) < (rank(line), line.point);
        other.number == line.number && better
    })
}

/// The topmost mount of each mount point: what was mounted last hides what is below.
fn by_point(table: &[u8]) -> BTreeMap<&[u8], Line<'_>> {
    lines(table)
        .filter_map(parse)
        .map(|line| (line.point, line))
        .collect()
}

/// A line of the table, names still escaped.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    number: &'a [u8],
    root: &'a [u8],
    point: &'a [u8],
    fstype: &'a [u8],
    source: &'a [u8],
    readonly: bool,
}

impl Line<'_> {
    fn is_wanted(&self) -> bool {
        let same = |names: &[&str]| names.iter().any(|name| name.as_bytes() == self.fstype);
        let fuse = self.fstype.starts_with(b"fuse.");
        let below = |place: &&str| {
            let rest = self.point.strip_prefix(place.as_bytes());
            rest.is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        let at = |place: &&str| self.point == place.as_bytes() || below(place);
        let ignored = PLACES_IGNORED.iter().any(at) || PLACES_IGNORED_BELOW.iter().any(below);
        !(fuse || ignored || same(TYPES_IGNORED) || same(TYPES_REMOTE))
    }
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = fields(line).skip(2);
    let (number, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    let options = fields.next()?;
    fields.find(|field| *field == b"-")?;
    let (fstype, source) = (fields.next()?, fields.next()?);
    let readonly = [options, fields.next().unwrap_or_default()]
        .iter()
        .any(|options| {
            options
                .split(|byte| *byte == b',')
                .any(|option| option == b"ro")
        });
    Some(Line {
        number,
        root,
        point,
        fstype,
        source,
        readonly,
    })
}

/// Undoes the kernel's octal escapes of blanks, line ends and backslashes.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) =
            (byte, tail)
        {
            out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = tail;
        } else {
            out.push(*byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Points of the chosen mounts, `!` before those that are read-only.
    fn check(table: &str, want: &[&str]) {
        let chosen = choose(table.as_bytes(), table.as_bytes());
        let points: Vec<String> = chosen
            .mounts
            .iter()
            .map(|mount| {
                let mark = if mount.readonly { "!" } else { "" };
                format!("{mark}{}", String::from_utf8_lossy(&mount.point))
            })
            .collect();
        assert_eq!(points, want, "{table}");
    }

    #[test]
    fn the_usual_mounts() {
        check(
            "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
             26 25 0:5 / /dev rw,nosuid - devtmpfs udev rw\n\
             27 25 0:6 / /proc rw - proc proc rw\n\
             28 25 0:7 / /sys rw - sysfs sysfs rw\n\
             29 26 0:8 / /dev/shm rw - tmpfs tmpfs rw\n\
             30 25 0:9 / /run rw - tmpfs tmpfs rw,size=1g\n\
             31 30 0:10 / /run/user/1000 rw - tmpfs tmpfs rw\n\
             32 25 8:2 / /devel rw - xfs /dev/sda2 rw\n\
             33 25 0:11 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
             34 25 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro\n\
             35 25 0:12 / /var/lib/kubelet/pods/x/volumes/y rw - tmpfs tmpfs rw\n",
            &["/", "/devel", "/run"],
        );
    }

    #[test]
    fn what_may_hang_is_not_asked() {
        for fstype in [
            "nfs",
            "nfs4",
            "cifs",
            "fuse.sshfs",
            "fuse",
            "9p",
            "ceph",
            "virtiofs",
        ] {
            check(
                &format!("40 25 0:50 / /data rw - {fstype} store:/data rw\n"),
                &[],
            );
        }
        check("40 25 8:50 / /data rw - fuseblk /dev/sdb1 rw\n", &["/data"]);
    }

    #[test]
    fn read_only_by_mount_or_by_filesystem() {
        check(
            "25 1 8:1 / / rw,relatime - ext4 /dev/sda1 ro,errors=remount-ro\n",
            &["!/"],
        );
        check("25 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw\n", &["!/"]);
        check(
            "25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n",
            &["/"],
        );
    }

    #[test]
    fn bind_mounts_show_nothing_twice() {
        let root = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let bind = "26 25 8:1 /srv/a /chroot/a rw - ext4 /dev/sda1 rw\n";
        let other = "27 25 8:1 /srv/b /chroot/bb rw - ext4 /dev/sda1 rw\n";
        check(&format!("{root}{bind}{other}"), &["/"]);
        check(&format!("{other}{bind}"), &["/chroot/a"]);
        let home = "28 25 0:40 /@home /home rw - btrfs /dev/sdb rw\n";
        let pool = "29 25 0:40 /@ /pool rw - btrfs /dev/sdb rw\n";
        check(&format!("{home}{pool}"), &["/home", "/pool"]);
    }

    #[test]
    fn the_last_mount_hides_those_below() {
        let first = "25 1 8:1 / /data ro - ext4 /dev/sda1 rw\n";
        let over = "26 25 8:2 / /data rw - ext4 /dev/sda2 rw\n";
        check(&format!("{first}{over}"), &["/data"]);
        check(&format!("{over}{first}"), &["!/data"]);
    }

    #[test]
    fn names_are_unescaped() {
        let line = r"25 1 8:1 / /my\040data\134x rw - ext4 /dev/mapper/a\040b rw";
        let chosen = choose(line.as_bytes(), line.as_bytes());
        assert_eq!(chosen.mounts[0].point, br"/my data\x");
        assert_eq!(chosen.mounts[0].device, "/dev/mapper/a b");
    }

    #[test]
    fn a_mount_that_this_process_does_not_see_is_said() {
        let host =
            "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 25 8:5 / /home rw - ext4 /dev/sda5 rw\n";
        let own = "25 1 8:1 / / ro - ext4 /dev/sda1 rw\n26 25 0:60 / /home ro - tmpfs tmpfs rw\n";
        let chosen = choose(host.as_bytes(), own.as_bytes());
        assert_eq!(chosen.hidden, [b"/home".to_vec()]);
        assert_eq!((chosen.mounts.len(), chosen.mounts[0].readonly), (1, false));
    }

    #[test]
    fn a_name_over_the_bound_is_counted() {
        let point = "x".repeat(LABEL_BYTES_MAX);
        let line = format!("25 1 8:1 / /{point} rw - ext4 /dev/sda1 rw\n");
        let chosen = choose(line.as_bytes(), line.as_bytes());
        assert_eq!((chosen.mounts.len(), chosen.long), (0, 1));
    }

    #[test]
    fn broken_lines_are_skipped() {
        check(
            "\n25\n25 1 8:1 / /x rw ext4 /dev/sda1 rw\n25 1 8:1 / /y rw - ext4\n",
            &[],
        );
        check("25 1 8:1 / /y rw - ext4 /dev/sda1\n", &["/y"]);
    }

    proptest! {
        #[test]
        fn any_bytes_do(table in "([0-9: /a-z,\\\\\n-]{0,200})") {
            let chosen = choose(table.as_bytes(), table.as_bytes());
            prop_assert!(chosen.hidden.is_empty());
        }
    }
}
