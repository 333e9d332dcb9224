//! Which files are logs: patterns to paths.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::family::{is_compressed, is_rotated_from};

/// What is read where nothing is configured; what is not there or not readable is left out without a word.
pub(crate) const DEFAULT_FILES: [&str; 16] = [
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/auth.log",
    "/var/log/secure",
    "/var/log/kern.log",
    "/var/log/daemon.log",
    "/var/log/mail.log",
    "/var/log/maillog",
    "/var/log/cron",
    "/var/log/cron.log",
    "/var/log/nginx/*.log",
    "/var/log/apache2/*.log",
    "/var/log/httpd/*log",
    "/var/log/mysql/*.log",
    "/var/log/postgresql/*.log",
    "/var/log/redis/*.log",
];

/// Never read: our own, and what is no text.
const NEVER: [&str; 8] = [
    "dawnwatch*",
    "wtmp",
    "btmp",
    "utmp",
    "lastlog",
    "faillog",
    "*.journal",
    "tallylog",
];

/// Most files that are read; further ones are counted and told.
pub(crate) const FILES_MAX: usize = 256;

/// Most names that one pattern looks at.
const NAMES_MAX: usize = 16_384;

/// The files that patterns name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// By path.
    pub(crate) files: Vec<PathBuf>,
    /// Beyond the bound.
    pub(crate) more: usize,
}

/// Finds files by patterns. Two names of one file are one; rotated and compressed ones are left to their family.
pub(crate) fn find(patterns: &[String], exclude: &[String]) -> Found {
    let mut found: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    for pattern in patterns {
        let mut names_left = NAMES_MAX;
        for path in expand(pattern, &mut names_left) {
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            if meta.is_file() && !is_left_out(&path, exclude) {
                found.insert(path, (meta.dev(), meta.ino()));
            }
        }
    }
    let names: Vec<PathBuf> = found.keys().cloned().collect();
    let is_rotated = |path: &Path| {
        let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let Some(own) = name(path) else { return true };
        names
            .iter()
            .filter(|other| other.parent() == path.parent())
            .any(|other| name(other).is_some_and(|of| is_rotated_from(&own, &of)))
    };
    let mut seen = Vec::new();
    let mut out = Found::default();
    for (path, place) in found {
        if is_rotated(&path) || seen.contains(&place) {
            continue;
        }
        if out.files.len() == FILES_MAX {
            out.more += 1;
            continue;
        }
        seen.push(place);
        out.files.push(path);
    }
    out
}

fn is_left_out(path: &Path, exclude: &[String]) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let is_never = NEVER.iter().any(|never| is_match(never, name)) || is_compressed(name);
    let is_excluded = |e: &String| is_match(e, &path.to_string_lossy()) || is_match(e, name);
    is_never || exclude.iter().any(is_excluded)
}

/// Whether a file at this path would be read, if there were one.
pub(crate) fn fits(path: &Path, patterns: &[String], exclude: &[String]) -> bool {
    let path_text = path.to_string_lossy();
    let is_fit = |pattern: &String| {
        let parts = |text| str::split(text, '/').filter(|part| !part.is_empty());
        let is_as_deep = parts(pattern).count() == parts(&path_text).count();
        is_as_deep
            && parts(pattern)
                .zip(parts(&path_text))
                .all(|(p, t)| is_match(p, t))
    };
    patterns.iter().any(is_fit) && !is_left_out(path, exclude)
}

/// Whether a file was made after this, Unix milliseconds; a filesystem that does not tell says no.
pub(crate) fn is_younger(path: &Path, than_ms: i64) -> bool {
    let Ok(created) = fs::metadata(path).and_then(|meta| meta.created()) else {
        return false;
    };
    let since = created
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    // The filesystem's clock is coarser than ours.
    i64::try_from(since.as_millis()).unwrap_or(0) > than_ms - 1_000
}

/// Whether a pattern can be used.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check(pattern: &str) -> Result<(), &'static str> {
    if !pattern.starts_with('/') {
        return Err("must begin with /");
    }
    if pattern.contains("**") || pattern.contains(['[', ']', '{', '}']) {
        return Err("knows * and ? only, each within one name");
    }
    Ok(())
}

/// All paths that fit a pattern.
fn expand(pattern: &str, names_left: &mut usize) -> Vec<PathBuf> {
    let mut open = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for dir in open {
            if !part.contains(['*', '?']) {
                next.push(dir.join(part));
                continue;
            }
            let Ok(entries) = fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries.flatten() {
                if *names_left == 0 {
                    break;
                }
                *names_left -= 1;
                let name = entry.file_name();
                if name
                    .to_str()
                    .is_some_and(|name| !name.starts_with('.') && is_match(part, name))
                {
                    next.push(dir.join(name));
                }
            }
        }
        open = next;
    }
    open
}

/// Whether a text fits a pattern of `*` and `?`. Linear but for the last star, so no pattern is slow.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b) if *b == b'?' || *b == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, text, want) in [
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.log", "ab.log", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(is_match(pattern, text), want, "{pattern} {text}");
        }
        assert!(!is_match(&"*a".repeat(1_000), &"b".repeat(10_000)));
    }

    #[test]
    fn each_file_is_found_once_and_under_its_first_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [
            "a.log",
            "b.log",
            "a.log.1",
            "a.log.2.gz",
            "wtmp",
            "dawnwatch-agent.log",
            "c.txt",
            "skip.log",
        ] {
            fs::write(path(name), name).unwrap();
        }
        fs::hard_link(path("b.log"), path("z.log")).unwrap();
        std::os::unix::fs::symlink(path("a.log"), path("link.log")).unwrap();
        fs::create_dir(path("dir.log")).unwrap();
        let pattern = path("*").to_string_lossy().into_owned();
        let found = find(&[pattern.clone(), pattern], &["skip*".to_owned()]);
        assert_eq!(found.files, [path("a.log"), path("b.log"), path("c.txt")]);
        assert_eq!(found.more, 0);
    }

    #[test]
    fn a_path_fits_whether_or_not_anything_is_there() {
        let patterns = ["/var/log/*.log".to_owned(), "/srv/*/log/out".to_owned()];
        for (path, want) in [
            ("/var/log/a.log", true),
            ("/var/log/skip.log", false),
            ("/var/log/b/a.log", false),
            ("/var/log/a.txt", false),
            ("/srv/shop/log/out", true),
            ("/srv/log/out", false),
        ] {
            let fits = fits(Path::new(path), &patterns, &["skip*".to_owned()]);
            assert_eq!(fits, want, "{path}");
        }
    }

    #[test]
    fn odd_patterns_are_refused() {
        for (pattern, good) in [
            ("/var/log/*.log", true),
            ("var/log", false),
            ("/var/**/x", false),
            ("/x/[a]", false),
        ] {
            assert_eq!(check(pattern).is_ok(), good, "{pattern}");
        }
    }
}
