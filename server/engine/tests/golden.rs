//! The engine's saved state as it was written: what stands in `tests/golden` must be read, must be written again as the same bytes, and
//! must show what it showed then. What the engine decides is no matter here: stories and the season of `determinism.rs` hold that.
//!
//! `UPDATE_GOLDEN=1 cargo test -p dawnwatch-engine --test golden` writes the file of this version anew. From the first release on that is a
//! change of format: the version goes up, and the file of before stays and is read.

use std::fmt::Write as _;
use std::path::Path;

use dawnwatch_engine::{At, Engine, SAVED_VERSION, story};

/// What a state shows, in words: hosts, then incidents.
fn shown(engine: &mut Engine, at: At) -> String {
    let view = engine.view(at.wall);
    let mut text = String::new();
    for host in &view.hosts {
        let _ = writeln!(text, "{} {}", host.id, host.name);
    }
    for incident in &view.incidents {
        let (id, name, since) = (&incident.id, &incident.name, incident.since);
        let _ = writeln!(
            text,
            "{id} {name} {} {since} {}",
            incident.state, incident.what
        );
    }
    text
}

#[test]
fn the_saved_state_has_this_form() {
    let season = story::season(7, 1);
    let at = season.last().expect("a season has inputs").0;
    let name = |end: &str| {
        format!(
            "{}/tests/golden/engine-{SAVED_VERSION}.{end}",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let mut engine = Engine::new();
        for (at, input) in season {
            engine.step(at, input);
        }
        std::fs::create_dir_all(Path::new(&name("bin")).parent().unwrap()).unwrap();
        std::fs::write(name("bin"), engine.save()).unwrap();
        std::fs::write(name("txt"), shown(&mut engine, at)).unwrap();
    }
    let golden = std::fs::read(name("bin")).unwrap();
    let mut engine = Engine::restore(&golden).unwrap();
    assert!(
        engine.save() == golden,
        "the form has changed: {} bytes",
        engine.save().len()
    );
    assert_eq!(
        shown(&mut engine, at),
        std::fs::read_to_string(name("txt")).unwrap()
    );
}
