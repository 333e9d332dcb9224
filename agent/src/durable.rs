//! Syncs the spool now and then, on a thread of its own: a slow disk delays neither ticks nor heartbeats.

use std::time::Duration;

use crate::alarm::Alarm;
use crate::uplink::Shared;

/// Time between two syncs of the spool: what a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// Longest wait for the last sync: a host that shuts down does not wait for its monitor's disk.
const LAST_SYNC_MAX: Duration = Duration::from_secs(10);

/// Syncs for ever. A sync that takes longer than the time between two of them is waited for, and no other begun.
pub async fn run(shared: &Shared) {
    let alarm = Alarm::new();
    loop {
        alarm.sleep(SYNC_EVERY).await;
        sync(shared).await;
    }
}

/// Syncs once more, but does not wait for ever.
pub async fn last(shared: &Shared) {
    if tokio::time::timeout(LAST_SYNC_MAX, sync(shared))
        .await
        .is_err()
    {
        tracing::warn!("the disk did not take what is spooled within {LAST_SYNC_MAX:?}");
    }
}

/// Syncs what is spooled at this moment.
pub async fn sync(shared: &Shared) {
    let Some(syncing) = shared.with_spool(|spool| spool.to_sync()) else {
        return;
    };
    let done = tokio::task::spawn_blocking(move || syncing.sync()).await;
    // It does not panic, and nobody aborts it.
    if let Ok(synced) = done {
        shared.with_spool(|spool| spool.synced(synced));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dawnwatch_segment::hooked::Hooked;
    use dawnwatch_segment::{Disk, RealDisk};

    use super::*;
    use crate::spool::hooks::Held;
    use crate::spool::{Limits, Spool, Start, sample};

    #[tokio::test]
    async fn a_slow_disk_holds_up_nothing_but_its_sync() {
        let dir = tempfile::tempdir().unwrap();
        let held = Arc::new(Held::default());
        let disk = Hooked {
            disk: RealDisk,
            hooks: Arc::clone(&held),
        };
        let limits = Limits {
            bytes_max: 1 << 30,
            items_max: u64::MAX,
        };
        let start = Start {
            id: 1,
            at: sample::time(0),
        };
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let spool = Spool::open(disk, &dir.path().join("spool"), limits, start).unwrap();
        let shared = Shared::new(spool, None);
        shared.event(sample::event_of(1));
        held.set(true);
        let mut is_synced = false;
        let ticking = async {
            for n in 2..=50 {
                let (tick, schema) = sample::tick(n);
                shared.tick(tick, &schema);
                tokio::task::yield_now().await;
            }
            // Only now may the disk finish: were it waited for, this would never be reached.
            held.set(false);
        };
        let syncing = async {
            sync(&shared).await;
            is_synced = true;
        };
        tokio::join!(syncing, ticking);
        assert!(is_synced);
        assert_eq!(shared.backlog(), 50);
        assert!(
            shared.with_spool(|spool| spool.to_sync()).is_some(),
            "49 came later"
        );
        sync(&shared).await;
        assert!(shared.with_spool(|spool| spool.to_sync()).is_none());
    }
}
