//! `doctor`: the table of what is well and what is not.

use std::path::Path;

use super::{Failure, runtime, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::doctor::{Health, examine, table};

pub(super) fn main(config: &Config, state: &Path) -> Result<(), Failure> {
    let checks = runtime()?.block_on(examine(config, state, Clock.wall()));
    say(table(&checks).trim_end());
    match checks.iter().find(|check| check.health == Health::Fail) {
        None => Ok(()),
        Some(worst) => Err(Failure::new(
            worst.code,
            format!("{}: {}", worst.what, worst.said),
        )),
    }
}
