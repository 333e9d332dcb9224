//! An alarm that wakes the agent once, when it is due.
//!
//! The runtime's own timers lie in a wheel of coarse slots: a second ahead the thread is woken twice or three times, to put the timer
//! into a finer slot, and each time costs a twentieth of a tick. The kernel's timer wakes it when it is due and not before.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// One timer of the kernel; where there is none, the runtime's does.
#[derive(Debug)]
pub(crate) struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    /// Makes a timer, within a runtime that waits for descriptors.
    #[allow(
        deprecated,
        reason = "its successor is unsafe because a descriptor may not be what it says; this one is owned"
    )]
    pub(crate) fn new() -> Alarm {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let made = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(std::io::Error::from)
            .and_then(AsyncFd::new);
        if let Err(error) = &made {
            tracing::debug!(%error, "no timer of the kernel");
        }
        Alarm(made.ok())
    }

    /// Waits so long, as the monotonic clock counts.
    pub(crate) async fn sleep(&self, duration: Duration) {
        let is_over = match &self.0 {
            Some(timer) => wait(timer, duration).await.is_ok(),
            None => false,
        };
        if !is_over {
            tokio::time::sleep(duration).await;
        }
    }
}

async fn wait(timer: &AsyncFd<OwnedFd>, duration: Duration) -> std::io::Result<()> {
    // Nothing at all would switch the timer off.
    let duration = duration.max(Duration::from_nanos(1));
    let value = Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    };
    let never = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let once = Itimerspec {
        it_interval: never,
        it_value: value,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        match rustix::io::read(timer, &mut [0_u8; 8]) {
            Ok(_) => return Ok(()),
            // It rang for an earlier wait that was given up.
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Alarm;
    use crate::clock::Clock;

    #[tokio::test]
    async fn it_rings_when_it_is_due_and_again_for_the_next_wait() {
        let alarm = Alarm::new();
        assert!(alarm.0.is_some(), "this kernel has timers");
        for ms in [0, 30, 1, 50] {
            let began = Clock.boot_ms();
            alarm.sleep(Duration::from_millis(ms)).await;
            assert!(Clock.boot_ms() - began + 1 >= ms);
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_end_the_next_one() {
        let alarm = Alarm::new();
        let hasty = tokio::time::timeout(
            Duration::from_millis(5),
            alarm.sleep(Duration::from_millis(20)),
        );
        assert!(hasty.await.is_err());
        std::thread::sleep(Duration::from_millis(40));
        let began = Clock.boot_ms();
        alarm.sleep(Duration::from_millis(60)).await;
        assert!(Clock.boot_ms() - began + 1 >= 60);
    }

    #[tokio::test]
    async fn without_a_timer_the_runtime_waits() {
        let began = Clock.boot_ms();
        Alarm(None).sleep(Duration::from_millis(20)).await;
        assert!(Clock.boot_ms() - began + 1 >= 20);
    }
}
