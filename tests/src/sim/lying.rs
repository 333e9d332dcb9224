//! A simulated disk whose syncs of content are empty promises.

use std::io;
use std::sync::Arc;

use dawnwatch_segment::hooked::{Hooked, Hooks};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, DiskFile};

#[derive(Debug)]
struct Lying;

impl Hooks for Lying {
    fn sync_data(&self, _file: &mut dyn DiskFile) -> io::Result<()> {
        Ok(())
    }
}

/// The disk.
pub(super) fn lying(disk: SimDisk) -> Arc<dyn Disk> {
    let hooks = Arc::new(Lying);
    Arc::new(Hooked { disk, hooks })
}
