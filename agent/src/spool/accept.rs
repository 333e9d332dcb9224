//! Events that must be kept whole or not at all, with a cursor that stands behind them.

use std::io;

use dawnwatch_proto::{Event, Item};

use super::Spool;

impl Spool {
    /// The position that the log had when it was opened, before anything of this run; none while it cannot be opened.
    #[must_use]
    pub fn found(&self) -> Option<u64> {
        self.found
    }

    /// Keeps events, none of them in memory alone. Just before, `note` hears the position that the last of them will have.
    /// Whether everything before them is durable.
    ///
    /// # Errors
    /// Says why nothing was kept. Where the disk fills up in the middle, the first ones are kept all the same.
    pub fn append_noted(
        &mut self,
        events: Vec<Event>,
        note: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<bool, String> {
        self.settle()?;
        let log = self.log.as_ref().ok_or("the spool is not open")?;
        let last = log.next_position() - 1;
        let is_durable = log.durable_position().max(self.unsynced.position()) >= last;
        note(last + events.len() as u64).map_err(|error| error.to_string())?;
        for event in events {
            let item = Item::Event(event);
            self.newest = super::times(&item).1;
            self.write(&item, None)
                .map_err(|error| self.refused(error))?;
        }
        Ok(is_durable)
    }

    /// Writes what waits: then the next event's position is known.
    fn settle(&mut self) -> Result<(), String> {
        self.write_waiting().map_err(|error| self.refused(error))
    }

    fn refused(&mut self, error: Option<dawnwatch_segment::Error>) -> String {
        let Some(error) = error else {
            return "the spool is not open".to_owned();
        };
        self.failed(&error);
        error.to_string()
    }
}
