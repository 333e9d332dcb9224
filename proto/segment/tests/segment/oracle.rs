//! Knows what a log must hold, from what the log answered and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_segment::{Error, Log, Recovery};

use crate::Seen;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// All that was handed to the log, acknowledged or not.
    handed: BTreeMap<u64, Vec<u8>>,
    /// The highest position a sync returned.
    durable: u64,
    /// Positions below this may be gone.
    released: u64,
    count: u64,
    /// Positions that a power cut took before they were synced, with later ones left.
    holes: BTreeSet<u64>,
}

impl Oracle {
    pub(crate) fn append(&mut self, log: &mut Log, group: u64) -> Result<(), Error> {
        let first = log.next_position();
        let mut payloads = Vec::new();
        for position in first..first + group {
            self.count += 1;
            let padding = usize::from(u8::try_from(self.count * 37 % 90).unwrap_or(0));
            let payload = format!("{position} number {} {:padding$}", self.count, "").into_bytes();
            self.handed.insert(position, payload.clone());
            payloads.push(payload);
        }
        assert_eq!(log.append_many(&payloads)?, first..first + group);
        Ok(())
    }

    pub(crate) fn sync(&mut self, log: &mut Log) -> Result<(), Error> {
        self.durable = log.sync()?;
        assert_eq!(self.durable + 1, log.next_position());
        Ok(())
    }

    pub(crate) fn release(&mut self, log: &mut Log, below: u64) -> Result<(), Error> {
        self.released = self.released.max(below);
        log.release(below)?;
        Ok(())
    }

    /// The log goes on at a position: what was handed over from there on is gone for good.
    pub(crate) fn goes_on_at(&mut self, next: u64) {
        self.handed.split_off(&next);
        self.holes.split_off(&next);
    }

    pub(crate) fn opened(&mut self, recovery: &Recovery) -> Result<(), String> {
        if recovery.next_position <= self.durable {
            return Err(format!(
                "{} is durable, goes on at {}",
                self.durable, recovery.next_position
            ));
        }
        self.goes_on_at(recovery.next_position);
        // A power cut may leave later frames and take earlier ones, but only of those not synced.
        for (from, to) in &recovery.damage {
            for position in *from..*to {
                if position <= self.durable && !self.holes.contains(&position) {
                    return Err(format!("{position} was durable and is damaged"));
                }
                self.handed.remove(&position);
                self.holes.insert(position);
            }
        }
        Ok(())
    }

    /// Checks what was read from position 1 on.
    pub(crate) fn check(&self, seen: &Seen) -> Result<(), String> {
        let mut last = 0;
        for (position, payload) in &seen.frames {
            if *position <= last {
                return Err(format!("{position} after {last}"));
            }
            last = *position;
            if self.handed.get(position) != Some(payload) {
                return Err(format!("{position} was never appended like this"));
            }
        }
        let there: BTreeSet<u64> = seen.frames.iter().map(|(p, _)| *p).collect();
        for position in self.released.max(1)..=self.durable {
            if !there.contains(&position) && !self.holes.contains(&position) {
                return Err(format!(
                    "{position} was durable and is lost; {:?}",
                    seen.damage
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }
}
