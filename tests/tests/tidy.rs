//! House rules as tests over the sources. Each rule is a pure function with its own small table, so that none can pass
//! by never looking.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, inline tests not counted: what fits a head.
const LINES_MAX: usize = 500;

/// Which crates of the house each crate may name. Agent, server and command never see each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("proto/segment", &["dawnwatch-proto"]),
    ("agent", &["dawnwatch-proto", "dawnwatch-segment"]),
    ("server/engine", &["dawnwatch-proto"]),
    (
        "server",
        &["dawnwatch-proto", "dawnwatch-segment", "dawnwatch-engine"],
    ),
    ("cli", &["dawnwatch-proto"]),
    (
        "tests",
        &[
            "dawnwatch-proto",
            "dawnwatch-segment",
            "dawnwatch-agent",
            "dawnwatch-engine",
            "dawnwatch-server",
        ],
    ),
];

/// What the judge must do without: clocks, chance, files, sockets, hash order.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "tokio",
    "tracing",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// All files of the repository with this ending, without what is built or hidden.
fn files(ending: &str) -> Vec<(String, String)> {
    let root = root();
    let (mut open, mut out) = (vec![root.clone()], Vec::new());
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let skipped = name == "target" || name == ".git" || name.ends_with("/target");
            if kind.is_dir() {
                if skipped {
                    continue;
                }
                open.push(path);
            } else if kind.is_file() && name.ends_with(ending) {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                out.push((name, text));
            }
        }
    }
    out.sort();
    out
}

fn assert_none(rule: &str, offenders: &[String]) {
    assert!(
        offenders.is_empty(),
        "{rule}:\n  {}",
        offenders.join("\n  ")
    );
}

/// The part before inline tests.
fn product(source: &str) -> &str {
    match source.find("#[cfg(test)]\nmod tests {") {
        Some(end) => &source[..end],
        None => source,
    }
}

/// The lines that are code.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a line has this name as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(inside) && !line[at + word.len()..].starts_with(inside)
    })
}

/// Names of all crates that a Cargo.toml depends on, in any of its tables of dependencies.
fn dependencies(manifest: &str) -> Vec<&str> {
    let (mut inside, mut out) = (false, Vec::new());
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            if let Some((_, name)) = table.split_once("dependencies.") {
                out.push(name);
            }
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            out.push(&line[..end]);
        }
    }
    out.retain(|name| !name.is_empty() && !name.starts_with('#'));
    out
}

/// A place on somebody's machine that has no business in a repository.
fn machine_path(text: &str) -> Option<&'static str> {
    const PLACES: [&str; 3] = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "briefs"),
        concat!("/ro", "ot/."),
    ];
    PLACES.into_iter().find(|place| {
        text.match_indices(place)
            .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric()))
    })
}

#[test]
fn the_rules_can_fail() {
    let source = "//! doc\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
    assert_eq!(product(source).lines().count(), 2);
    assert_eq!(code("// a\nb\n  /// c\n").collect::<Vec<_>>(), ["b"]);
    for (line, word, want) in [
        ("use sled::Db;", "sled", true),
        ("assembled", "sled", false),
        ("sled_x", "sled", false),
    ] {
        assert_eq!(names(line, word), want, "{line}");
    }
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n# c\n[dev-dependencies]\nd = { path = \"d\" }\n[dependencies.e]\nversion = \"1\"\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["a", "b", "d", "e"]);
    for (text, found) in [
        (concat!("cd /wo", "rk/main"), true),
        ("a/work/b is a mount", false),
        ("/var/lib", false),
    ] {
        assert_eq!(machine_path(text).is_some(), found, "{text}");
    }
}

#[test]
fn the_walk_sees_the_house() {
    for (ending, known) in [
        (".rs", "server/engine/src/lib.rs"),
        ("Cargo.toml", "proto/segment/Cargo.toml"),
        ("/run", ".ci/run"),
    ] {
        assert!(
            files(ending).iter().any(|(name, _)| name == known),
            "{known} was not seen"
        );
    }
    assert!(
        files(".rs")
            .iter()
            .all(|(name, _)| !name.starts_with("target/"))
    );
}

#[test]
fn files_fit_a_head() {
    let long = |(name, text): &(String, String)| {
        let count = product(text).lines().count();
        let tests = name.ends_with("/tests.rs") || name.contains("/tests/");
        (count > LINES_MAX && !tests).then(|| format!("{name}: {count} lines"))
    };
    let long: Vec<String> = files(".rs").iter().filter_map(long).collect();
    assert_none(
        &format!("files over {LINES_MAX} lines (split them by idea)"),
        &long,
    );
}

#[test]
fn each_file_says_what_it_is() {
    let mute = |(name, text): &(String, String)| {
        let said = text.lines().any(|line| line.starts_with("//!")) || name.ends_with("/tests.rs");
        (!said).then(|| name.clone())
    };
    let mute: Vec<String> = files(".rs").iter().filter_map(mute).collect();
    assert_none("files without a module doc (//! at the top)", &mute);
}

#[test]
fn crates_obey_the_lints_and_the_arrows() {
    let mut manifests = files("Cargo.toml");
    // A workspace of its own, which holds nothing but ways into the tests.
    manifests.retain(|(name, _)| name != "tests/fuzz/Cargo.toml");
    let mut offenders = Vec::new();
    for (name, text) in manifests.iter().filter(|(name, _)| name != "Cargo.toml") {
        let folder = name.trim_end_matches("/Cargo.toml");
        if !text.contains("[lints]\nworkspace = true\n") {
            offenders.push(format!("{folder}: no [lints] workspace = true"));
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(of, _)| *of == folder) else {
            offenders.push(format!("{folder}: not in the table of arrows"));
            continue;
        };
        for dependency in dependencies(text) {
            if dependency.starts_with("dawnwatch-") && !allowed.contains(&dependency) {
                offenders.push(format!("{folder} depends on {dependency}"));
            }
            if dependency == "sled" && folder != "server" {
                offenders.push(format!("{folder} depends on sled"));
            }
        }
    }
    assert_none("arrows", &offenders);
    assert_eq!(
        manifests.len(),
        ARROWS.len() + 1,
        "a crate of the table is gone"
    );
}

#[test]
fn sled_lives_in_the_index_alone() {
    let mut offenders = Vec::new();
    for (name, text) in files(".rs") {
        let home = name.starts_with("server/src/index") || name == "tests/tests/tidy.rs";
        if !home && code(&text).any(|line| names(line, "sled")) {
            offenders.push(name);
        }
    }
    assert_none("sled is named outside server/src/index", &offenders);
}

#[test]
fn the_engine_is_pure() {
    let mut offenders = Vec::new();
    for (name, text) in files(".rs") {
        let pure = name.starts_with("server/engine/src/")
            && !name.starts_with("server/engine/src/bin/")
            && !name.ends_with("/tests.rs");
        if !pure {
            continue;
        }
        for word in IMPURE {
            if code(product(&text)).any(|line| names(line, word)) {
                offenders.push(format!("{name}: {word}"));
            }
        }
    }
    assert_none(
        "the engine knows no clock, chance, file, socket or hash order",
        &offenders,
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut offenders = Vec::new();
    for (name, text) in files(".rs") {
        for (i, line) in text.lines().enumerate() {
            let marks = [
                concat!("todo", "!("),
                concat!("unimplemented", "!("),
                concat!("FIX", "ME"),
            ];
            if marks.iter().any(|mark| line.contains(mark)) {
                offenders.push(format!("{name}:{}", i + 1));
            }
        }
    }
    assert_none("unfinished", &offenders);
}

#[test]
fn no_machine_shows_through() {
    let mut offenders = Vec::new();
    for ending in [
        ".rs", ".toml", ".md", ".sh", ".yml", ".proto", "/run", "/try-it",
    ] {
        for (name, text) in files(ending) {
            if let Some(place) = machine_path(&text) {
                offenders.push(format!("{name}: {place}"));
            }
        }
    }
    for line in fs::read_to_string(root().join("Cargo.lock"))
        .unwrap()
        .lines()
    {
        let foreign =
            line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index");
        if foreign {
            offenders.push(format!("Cargo.lock: {line}"));
        }
    }
    assert_none("paths or package hosts of a machine", &offenders);
}

#[test]
fn the_papers_are_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "LICENSE",
        "tests/run",
        ".ci/run",
        "deploy/try-it",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap_or_default();
        assert!(text.len() > 50, "{name} is missing or empty");
    }
}
