//! What the server of a story measures of itself: `server free=0.04 lag=5`; until it is named it says nothing.

use crate::input::Input;
use crate::vitals::Vitals;

use super::world::World;

/// Size of its data directory: 100 GB.
const SIZE_BYTES: f64 = 100e9;
const DAY_MS: f64 = 86_400_000.0;

/// How the server fares.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerModel {
    /// Free share of the data directory, and how much of it all is used up a day.
    free: f64,
    grow: f64,
    vitals: Vitals,
}

impl ServerModel {
    /// Ten seconds pass.
    pub(super) fn pass(&mut self, ms: u64) -> Input {
        self.free = (self.free - self.grow * ms as f64 / DAY_MS).max(0.0);
        self.vitals.free_bytes = bytes(self.free * SIZE_BYTES);
        self.vitals.size_bytes = bytes(SIZE_BYTES);
        if self.vitals.outbox > 0 {
            self.vitals.outbox_oldest_ms += ms;
        }
        Input::Vitals(Box::new(self.vitals))
    }
}

impl World {
    /// `free=0.04 grow=0.1 lag=5 sync=3 outbox=2`: shares, shares a day, seconds, messages that wait from here on.
    pub(super) fn server(&mut self, values: &[&str]) -> Result<(), String> {
        let model = self.server.get_or_insert(ServerModel {
            free: 0.9,
            grow: 0.0,
            vitals: Vitals::default(),
        });
        for value in values {
            let (what, number) = value.split_once('=').ok_or("what=number")?;
            let number: f64 = number
                .parse()
                .map_err(|_| format!("{number} is no number"))?;
            match what {
                "free" => model.free = number,
                "grow" => model.grow = number,
                "lag" => model.vitals.lag_ms = bytes(number * 1_000.0),
                "sync" => model.vitals.sync_max_us = bytes(number * 1_000_000.0),
                "outbox" => {
                    model.vitals.outbox = bytes(number);
                    model.vitals.outbox_oldest_ms = 0;
                }
                _ => return Err("free, grow, lag, sync or outbox".to_owned()),
            }
        }
        Ok(())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "stories use small numbers, and what is below nothing is nothing"
)]
fn bytes(value: f64) -> u64 {
    value.max(0.0) as u64
}
