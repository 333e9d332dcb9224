//! What the watch publishes for readers: the engine's view after a position, and the list of sealed nights.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dawnwatch_engine::View;
use dawnwatch_proto::api::NightHead;
use tokio::sync::watch;

use crate::reserve::Reserve;

/// The latest view, and what position it stands at.
#[derive(Debug)]
pub struct Published {
    view: ArcSwap<View>,
    position: watch::Sender<u64>,
    nights: Mutex<Vec<NightHead>>,
    halted: AtomicBool,
    reserve: Arc<Reserve>,
}

impl Published {
    /// Starts with the nights that are on disk.
    #[must_use]
    pub fn new(view: View, nights: Vec<NightHead>, reserve: Arc<Reserve>) -> Published {
        let position = watch::Sender::new(0);
        Published {
            view: ArcSwap::from_pointee(view),
            position,
            nights: Mutex::new(nights),
            halted: AtomicBool::new(false),
            reserve,
        }
    }

    /// Replaces the view.
    pub fn publish(&self, position: u64, view: View) {
        self.view.store(Arc::new(view));
        self.position.send_replace(position);
    }

    /// Says whether judging waits for room on the disk.
    pub fn halt(&self, halted: bool) {
        self.halted.store(halted, Ordering::Relaxed);
    }

    /// Whether judging waits for room on the disk: nothing further should be taken in.
    #[must_use]
    pub fn halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// The room that is kept for a full disk.
    #[must_use]
    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Adds a night that was sealed.
    pub fn sealed(&self, head: NightHead) {
        let mut nights = self.nights.lock().unwrap_or_else(PoisonError::into_inner);
        nights.retain(|night| night.id != head.id);
        nights.push(head);
    }

    /// The latest view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The sealed nights, oldest first.
    #[must_use]
    pub fn nights(&self) -> Vec<NightHead> {
        self.nights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Follows the position of the view.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }
}
