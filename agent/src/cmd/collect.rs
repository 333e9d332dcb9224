//! `collect --once`: what this host measures, as Prometheus text.

use clap::Args;

use super::{Failure, exit, say};
use crate::collect::{Collectors, show};
use crate::config::Config;

/// Shows what this host measures.
#[derive(Debug, Args)]
pub(super) struct Collect {
    /// Reads once and ends.
    #[arg(long)]
    once: bool,
}

impl Collect {
    pub(super) fn main(&self, config: &Config) -> Result<(), Failure> {
        if !self.once {
            let text = "say collect --once: measuring for ever is what run does";
            return Err(Failure::new(exit::USAGE, text));
        }
        let mut collectors = Collectors::new(config.roots());
        collectors.looks().look();
        let reading = collectors.read();
        say(show(&reading).trim_end());
        Ok(())
    }
}
