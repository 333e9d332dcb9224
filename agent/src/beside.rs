//! Works that run beside each other on one thread, each asked only when it was woken itself.
//!
//! `select!` and `join!` ask all their branches whenever one of them is woken. A tick wakes its own branch, then the uplink, then the
//! uplink again for each step of the connection: with a dozen branches most of what is asked then is asked for nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Works that run until the first of them ends; what they hold is dropped with this.
pub(crate) struct Beside<'a> {
    works: Vec<Work<'a>>,
    door: Arc<Mutex<Option<Waker>>>,
}

struct Work<'a> {
    work: Pin<Box<dyn Future<Output = ()> + 'a>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Rings for one work, at the door of all.
struct Bell {
    has_rung: AtomicBool,
    door: Arc<Mutex<Option<Waker>>>,
}

impl<'a> Beside<'a> {
    /// None yet.
    pub(crate) fn new() -> Beside<'a> {
        Beside {
            works: Vec::new(),
            door: Arc::default(),
        }
    }

    /// One more. Those that come first are asked first where several were woken.
    #[must_use]
    pub(crate) fn with(mut self, work: impl Future<Output = ()> + 'a) -> Beside<'a> {
        let bell = Arc::new(Bell {
            has_rung: AtomicBool::new(true),
            door: Arc::clone(&self.door),
        });
        self.works.push(Work {
            work: Box::pin(work),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        });
        self
    }
}

impl Future for Beside<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            // Before any work is asked: what rings from here on is heard.
            let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            if !door
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                *door = Some(cx.waker().clone());
            }
        }
        for work in &mut self.works {
            if work.bell.has_rung.swap(false, Ordering::AcqRel) {
                let mut own = Context::from_waker(&work.waker);
                if work.work.as_mut().poll(&mut own).is_ready() {
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.has_rung.swap(true, Ordering::AcqRel) {
            let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = door.as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn};
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    /// Counts how often it is asked.
    async fn counted(work: impl Future<Output = ()>, count: &Cell<u32>) {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| {
            count.set(count.get() + 1);
            work.as_mut().poll(cx)
        })
        .await;
    }

    #[tokio::test]
    async fn only_who_is_woken_is_asked() {
        let (bell, idle, busy) = (Notify::new(), Cell::new(0), Cell::new(0));
        let ringing = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                bell.notify_one();
            }
            tokio::task::yield_now().await;
        };
        let hearing = async {
            loop {
                bell.notified().await;
            }
        };
        Beside::new()
            .with(counted(hearing, &busy))
            .with(counted(pending(), &idle))
            .with(ringing)
            .await;
        assert_eq!(idle.get(), 1, "asked once, and never woken");
        assert!(busy.get() >= 10, "{}", busy.get());
    }

    #[tokio::test]
    async fn the_first_that_ends_ends_all_and_what_they_held_is_dropped() {
        let held = Rc::new(());
        let other = Rc::clone(&held);
        let holding = async move {
            let _other = other;
            pending::<()>().await;
        };
        Beside::new().with(holding).with(async {}).await;
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_bell_of_another_thread_is_heard() {
        let (told, hearing) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            told.send(()).unwrap();
        });
        Beside::new()
            .with(pending())
            .with(async { hearing.await.unwrap() })
            .await;
        thread.join().unwrap();
    }
}
