//! What one channel sends next, and when. Pure: time and chance are arguments.
//!
//! Order: messages about one incident leave in the order in which they were decided, so that nobody hears of an end
//! before its beginning; apart from that critical first, then the oldest.

use std::collections::{BTreeSet, VecDeque};

use dawnwatch_engine::effect::{Content, Notification};
use dawnwatch_proto::review::{Severity, Verdict};

use super::Again;
use super::retry::{Bucket, Retry, retry_after_ms};

/// Waiting messages of one channel: an outage of days at the engine's cap of pages stays far below.
const WAITING_MAX: usize = 10_000;

/// Keys of ended messages that are remembered, so that a repeat is dropped: some hours of a storm.
const ENDED_MAX: usize = 10_000;

/// The messages of one channel.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bucket: Bucket,
    /// The far end asked for silence until then.
    quiet_until_ms: u64,
    ended: VecDeque<String>,
    ended_keys: BTreeSet<String>,
}

#[derive(Debug)]
struct Waiting {
    notification: Notification,
    retry: Retry,
    last_error: String,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Send this.
    Send(Box<Notification>),
    /// Nothing is due for this many milliseconds.
    Wait(u64),
    /// Nothing waits at all.
    Idle,
}

/// What became of a notification on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It will be sent.
    Yes,
    /// Its key waits or ended already.
    Repeat,
    /// There is no room.
    Full,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            waiting: VecDeque::new(),
            bucket: Bucket::new(),
            quiet_until_ms: 0,
            ended: VecDeque::new(),
            ended_keys: BTreeSet::new(),
        }
    }

    /// How many wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes one in.
    pub(super) fn push(&mut self, notification: Notification, now_ms: u64) -> Taken {
        let key = &notification.key;
        if self.ended_keys.contains(key) || self.position(key).is_some() {
            return Taken::Repeat;
        }
        if self.waiting.len() >= WAITING_MAX {
            return Taken::Full;
        }
        self.waiting.push_back(Waiting {
            notification,
            retry: Retry::new(now_ms),
            last_error: "waits for its turn".to_owned(),
        });
        Taken::Yes
    }

    /// What to do next. What is handed out stays in the queue until it ended or failed.
    pub(super) fn next(&mut self, now_ms: u64) -> Step {
        let mut first: Option<(u64, bool, usize)> = None;
        let mut begun: BTreeSet<&str> = BTreeSet::new();
        let mut wake_ms = u64::MAX;
        for (i, waiting) in self.waiting.iter().enumerate() {
            if let Some(at) = waiting.retry.struggles_at_ms() {
                wake_ms = wake_ms.min(at);
            }
            let incident = waiting.notification.incident.as_str();
            if !incident.is_empty() && !begun.insert(incident) {
                continue;
            }
            // Everything due by now ranks alike, so that a critical one overtakes.
            let due_ms = waiting.retry.due_ms().max(now_ms);
            let rank = (due_ms, !is_critical(&waiting.notification), i);
            if first.is_none_or(|so_far| rank < so_far) {
                first = Some(rank);
            }
        }
        let Some((due_ms, _, i)) = first else {
            return Step::Idle;
        };
        let ready_ms = due_ms
            .max(self.quiet_until_ms)
            .max(self.bucket.ready_ms(now_ms));
        if ready_ms > now_ms {
            return Step::Wait(ready_ms.min(wake_ms).saturating_sub(now_ms));
        }
        self.bucket.take(now_ms);
        Step::Send(Box::new(self.waiting[i].notification.clone()))
    }

    /// It arrived or was refused for good: it leaves the queue, its key is remembered.
    pub(super) fn ended(&mut self, key: &str) {
        if let Some(i) = self.position(key) {
            self.waiting.remove(i);
        }
        if self.ended_keys.insert(key.to_owned()) {
            self.ended.push_back(key.to_owned());
        }
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.ended_keys.remove(&oldest);
        }
    }

    /// It failed and will be tried again.
    pub(super) fn failed(&mut self, key: &str, why: &str, again: Again, now_ms: u64, chance: u64) {
        match again {
            Again::After(pause) => {
                let until_ms = now_ms.saturating_add(retry_after_ms(pause));
                self.quiet_until_ms = self.quiet_until_ms.max(until_ms);
            }
            Again::Backoff | Again::Greylist => {}
        }
        if let Some(i) = self.position(key) {
            let waiting = &mut self.waiting[i];
            waiting.retry.failed(again, now_ms, chance);
            why.clone_into(&mut waiting.last_error);
        }
    }

    /// Those that have been tried for long, each told once: key and last error.
    pub(super) fn struggling(&mut self, now_ms: u64) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for waiting in &mut self.waiting {
            if waiting.retry.struggles(now_ms) {
                out.push((waiting.notification.key.clone(), waiting.last_error.clone()));
            }
        }
        out
    }

    /// The channel was set anew: everything is due at once.
    pub(super) fn start_over(&mut self, now_ms: u64) {
        self.quiet_until_ms = 0;
        for waiting in &mut self.waiting {
            waiting.retry.start_over(now_ms);
        }
    }

    /// Empties the queue.
    pub(super) fn take_keys(&mut self) -> Vec<String> {
        self.waiting
            .drain(..)
            .map(|waiting| waiting.notification.key)
            .collect()
    }

    /// Why the last attempt at a waiting message failed.
    #[cfg(test)]
    pub(super) fn last_error(&self, key: &str) -> Option<&str> {
        self.position(key)
            .map(|i| self.waiting[i].last_error.as_str())
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.waiting
            .iter()
            .position(|waiting| waiting.notification.key == key)
    }
}

fn is_critical(notification: &Notification) -> bool {
    match &notification.content {
        Content::Incident(content) => content.incident.severity == Severity::Critical,
        Content::Review(review) => review.verdict == Verdict::Critical,
        Content::Test => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::notify::render::samples;
    use crate::notify::retry::STRUGGLING_MS;

    /// Keys in the order in which they are sent, each arriving at once.
    fn drain(queue: &mut Queue, mut now_ms: u64) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            match queue.next(now_ms) {
                Step::Send(notification) => {
                    queue.ended(&notification.key);
                    out.push(notification.key);
                }
                Step::Wait(ms) => now_ms += ms,
                Step::Idle => return out,
            }
        }
    }

    fn message(key: &str, incident: &str, severity: Severity) -> Notification {
        let mut notification = samples::opened();
        notification.key = key.to_owned();
        notification.incident = incident.to_owned();
        if let Content::Incident(content) = &mut notification.content {
            content.incident.severity = severity;
        }
        notification
    }

    fn queue_of(messages: &[(&str, &str, Severity)]) -> Queue {
        let mut queue = Queue::new();
        for (key, incident, severity) in messages {
            assert_eq!(queue.push(message(key, incident, *severity), 0), Taken::Yes);
        }
        queue
    }

    #[test]
    fn critical_first_then_the_oldest() {
        use Severity::{Critical, Warning};
        let mut queue = queue_of(&[
            ("a", "I-1", Warning),
            ("b", "I-2", Critical),
            ("c", "I-3", Warning),
            ("d", "I-4", Critical),
        ]);
        assert_eq!(drain(&mut queue, 0), ["b", "d", "a", "c"]);
    }

    #[test]
    fn the_end_of_an_incident_never_overtakes_its_beginning() {
        use Severity::{Critical, Warning};
        let mut queue = queue_of(&[
            ("1-opened", "I-1", Warning),
            ("1-closed", "I-1", Critical),
            ("2-opened", "I-2", Warning),
        ]);
        let Step::Send(first) = queue.next(0) else {
            panic!("nothing to send");
        };
        assert_eq!(first.key, "1-opened");
        queue.failed("1-opened", "500", Again::Backoff, 0, 0);
        assert_eq!(drain(&mut queue, 0), ["2-opened", "1-opened", "1-closed"]);
    }

    #[test]
    fn repeats_are_dropped_while_waiting_and_after_the_end() {
        let mut queue = queue_of(&[("a", "I-1", Severity::Critical)]);
        let again = || message("a", "I-1", Severity::Critical);
        assert_eq!(queue.push(again(), 0), Taken::Repeat);
        assert_eq!(drain(&mut queue, 0), ["a"]);
        assert_eq!(queue.push(again(), 0), Taken::Repeat);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_is_remembered_and_what_waits_is_bounded() {
        let mut queue = Queue::new();
        for i in 0..=ENDED_MAX {
            queue.ended(&i.to_string());
        }
        assert_eq!(queue.ended_keys.len(), ENDED_MAX);
        assert_eq!(
            queue.push(message("0", "", Severity::Info), 0),
            Taken::Yes,
            "forgotten"
        );
        for i in 1..WAITING_MAX {
            let notification = message(&format!("w{i}"), "", Severity::Info);
            queue.waiting.push_back(Waiting {
                notification,
                retry: Retry::new(0),
                last_error: String::new(),
            });
        }
        assert_eq!(queue.push(message("x", "", Severity::Info), 0), Taken::Full);
    }

    #[test]
    fn retry_after_holds_the_whole_channel() {
        let mut queue = queue_of(&[
            ("a", "I-1", Severity::Critical),
            ("b", "I-2", Severity::Critical),
        ]);
        let minute = Again::After(Duration::from_secs(60));
        queue.failed("a", "429", minute, 0, 0);
        assert_eq!(queue.next(0), Step::Wait(60_000));
        queue.start_over(10);
        assert!(
            matches!(queue.next(10), Step::Send(_)),
            "set anew, tried at once"
        );
    }

    #[test]
    fn struggling_is_told_once_and_wakes_the_worker_in_time() {
        let mut queue = queue_of(&[("a", "I-1", Severity::Critical)]);
        assert_eq!(queue.struggling(STRUGGLING_MS - 1), []);
        queue.failed("a", "no answer", Again::Greylist, STRUGGLING_MS - 10, 0);
        assert_eq!(queue.next(STRUGGLING_MS - 10), Step::Wait(10));
        let told = queue.struggling(STRUGGLING_MS);
        assert_eq!(told, [("a".to_owned(), "no answer".to_owned())]);
        assert_eq!(queue.struggling(STRUGGLING_MS + 1), []);
        let Step::Wait(ms) = queue.next(STRUGGLING_MS) else {
            panic!("sent too early");
        };
        assert_eq!(ms, 60_000 - 10);
    }
}
