//! What an installed agent needs of its host: binary, user, state directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{Failure, exit};

/// Where the binary lies, by hand or from a package.
pub(super) const BINARY: &str = "/usr/bin/dawnwatch-agent";

/// The user that the agent runs as.
pub(super) const USER: &str = "dawnwatch-agent";

/// Longest user database that is read: ten thousand users are under a tenth of it.
const PASSWD_BYTES_MAX: u64 = 16 << 20;

/// Deepest directory in a state directory; what lies below is not ours.
const STATE_DEPTH_MAX: u32 = 4;

/// The numbers of a user of this system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

fn cannot(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(exit::CANNOT_CREATE, format!("cannot {what}: {error}"))
}

/// Puts this very binary into its place. Says whether anything changed; a kill leaves the old one or the new one.
pub(super) fn place_binary() -> Result<bool, Failure> {
    let own = std::env::current_exe().map_err(|error| cannot("find this binary", error))?;
    let place = Path::new(BINARY);
    if same_file(&own, place) {
        return Ok(false);
    }
    let placed = (|| {
        let bytes = fs::read(&own)?;
        if fs::read(place).is_ok_and(|there| there == bytes) {
            return Ok(false);
        }
        let next = place.with_extension("next");
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&next)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::rename(&next, place)?;
        Ok(true)
    })();
    placed.map_err(|error: io::Error| cannot(&format!("write {BINARY}"), error))
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(a).is_some() && id(a) == id(b)
}

pub(super) fn remove_binary() -> Result<(), Failure> {
    gone(fs::remove_file(BINARY)).map_err(|error| cannot(&format!("delete {BINARY}"), error))
}

/// The agent's user, made if need be; says whether it was.
pub(super) fn user() -> Result<(User, bool), Failure> {
    if let Some(user) = known_user()? {
        return Ok((user, false));
    }
    make_user()?;
    let made = known_user()?;
    let missing = || {
        cannot(
            &format!("make the user {USER}"),
            "it is not in /etc/passwd; make it there by hand, as a system user",
        )
    };
    made.map(|user| (user, true)).ok_or_else(missing)
}

/// The agent's user, if this system has it. Only the file is read: a static binary knows no other database.
pub(super) fn known_user() -> Result<Option<User>, Failure> {
    let mut text = String::new();
    let read = File::open("/etc/passwd")
        .and_then(|file| file.take(PASSWD_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| cannot("read /etc/passwd", error))?;
    Ok(find_user(&text, USER))
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(|field| field.parse().ok());
    Some(User {
        uid: numbers.next()??,
        gid: numbers.next()??,
    })
}

/// By the tool that this system has: shadow's, else busybox's.
fn make_user() -> Result<(), Failure> {
    let home = crate::state::DEFAULT_DIR;
    let tools: [(&str, &[&str]); 2] = [
        (
            "useradd",
            &[
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                home,
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ],
        ),
        (
            "adduser",
            &["-S", "-D", "-H", "-h", home, "-s", "/sbin/nologin", USER],
        ),
    ];
    let mut last = "neither useradd nor adduser is there".to_owned();
    for (tool, arguments) in tools {
        match Command::new(tool)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
        {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                last = format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = format!("{tool}: {error}"),
        }
    }
    Err(cannot(&format!("make the user {USER}"), last))
}

/// Makes the state directory the user's own. What an agent that ran as root left there becomes the user's too, but only while
/// root owns the directory: in a directory of another's, root follows no name.
pub(super) fn state_dir(state: &Path, user: &User) -> Result<(), Failure> {
    let failed = |error| cannot(&format!("give {} to {USER}", state.display()), error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(failed)?;
    let meta = fs::symlink_metadata(state).map_err(failed)?;
    if !meta.is_dir() {
        return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    if meta.uid() == user.uid {
        return Ok(());
    }
    if meta.uid() != 0 {
        let text = format!(
            "{} belongs to user {}: give it to {USER}, or move it away",
            state.display(),
            meta.uid()
        );
        return Err(Failure::new(exit::CANNOT_CREATE, text));
    }
    give(state, user, STATE_DEPTH_MAX).map_err(failed)
}

/// Contents first: as long as root owns the directory, nobody else can put other things in their place.
fn give(dir: &Path, user: &User, depth: u32) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && depth > 0 {
            give(&entry.path(), user, depth - 1)?;
        } else {
            lchown(entry.path(), Some(user.uid), Some(user.gid))?;
        }
    }
    lchown(dir, Some(user.uid), Some(user.gid))
}

/// Runs a command of the agent's own as its user, and gives its failure on.
pub(super) fn as_user(arguments: &[&str], user: &User) -> Result<(), Failure> {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .uid(user.uid)
        .gid(user.gid)
        .current_dir("/");
    let output = command.stderr(Stdio::piped()).output();
    let output = output.map_err(|error| cannot(&format!("run {BINARY} as {USER}"), error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(super::super::failure_of(&output))
}

pub(super) fn purge(state: &Path) -> Result<(), Failure> {
    gone(fs::remove_dir_all(state))
        .map_err(|error| cannot(&format!("delete {}", state.display()), error))?;
    if known_user()?.is_some() {
        // A user that stays harms nothing, and some systems have no userdel.
        let _ = Command::new("userdel")
            .arg(USER)
            .stdin(Stdio::null())
            .output();
    }
    Ok(())
}

/// What is gone already was removed well.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndawnwatch-agent2:x:5:5::/:/\n\
                      dawnwatch-agent:x:998:997::/var/lib/dawnwatch-agent:/usr/sbin/nologin\n";
        assert_eq!(find_user(passwd, USER), Some(User { uid: 998, gid: 997 }));
        for odd in [
            "",
            "dawnwatch-agent",
            "dawnwatch-agent:x:one:2::/:/",
            "xdawnwatch-agent:x:1:2::/:/",
        ] {
            assert_eq!(find_user(odd, USER), None, "{odd}");
        }
    }

    #[test]
    fn one_file_by_two_names_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        assert!(!same_file(&a, &b));
        fs::write(&a, "x").unwrap();
        fs::hard_link(&a, &b).unwrap();
        assert!(same_file(&a, &b));
    }
}
