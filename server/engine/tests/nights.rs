//! The golden stories of `nights/`: each is run through the real engine and must come out as it is written.
//!
//! `UPDATE_NIGHTS=1 cargo test -p dawnwatch-engine --test nights` writes what came out; read the difference before keeping it.

use std::path::PathBuf;

use dawnwatch_engine::story;

#[test]
fn every_story_ends_as_told() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nights");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "night"));
    paths.sort();
    assert!(
        paths.len() >= 10,
        "only {} stories in {}",
        paths.len(),
        folder.display()
    );
    let update = std::env::var_os("UPDATE_NIGHTS").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let told = std::fs::read_to_string(&path).unwrap();
        let came_out = story::run(&told).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if told == came_out {
            continue;
        }
        if update {
            std::fs::write(&path, &came_out).unwrap();
        } else {
            wrong.push(format!(
                "{}\n{}",
                path.display(),
                difference(&told, &came_out)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first lines that differ.
fn difference(told: &str, came_out: &str) -> String {
    let (told, came_out): (Vec<&str>, Vec<&str>) =
        (told.lines().collect(), came_out.lines().collect());
    let from = told
        .iter()
        .zip(&came_out)
        .take_while(|(a, b)| a == b)
        .count();
    let show = |lines: &[&str], sign: &str| -> String {
        lines
            .iter()
            .skip(from)
            .take(5)
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    format!(
        "line {}:\n{}{}",
        from + 1,
        show(&told, "-"),
        show(&came_out, "+")
    )
}

#[test]
fn a_wrong_command_says_where() {
    let error = story::run("start 2026-10-02 17:00\nhots web01\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: \"hots web01\": no such command");
}
