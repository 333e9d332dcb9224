use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use dawnwatch_engine::effect::Content;
use jiff::Timestamp;

use super::*;
use crate::notify::receiver::{Answer, FarEnd, PATIENCE, web};
use crate::notify::render::samples;
use crate::notify::{ChannelKind, Secret, WebhookSettings};

const OK: Answer = Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
const BROKEN: Answer = Answer::Raw("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");

/// A clock that stands still until it is moved.
#[derive(Clone)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn new() -> Hand {
        Hand(Arc::new(AtomicU64::new(1_000_000)))
    }

    fn move_on(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let hand = self.0.clone();
        Arc::new(move || Now {
            wall: Timestamp::UNIX_EPOCH,
            boot_ms: hand.load(Ordering::SeqCst),
        })
    }
}

fn channel_to(name: &str, far_end: &FarEnd) -> ChannelSettings {
    ChannelSettings {
        name: name.to_owned(),
        kind: ChannelKind::Webhook(WebhookSettings {
            url: Secret::new(far_end.url("http")),
            secret: None,
            ca_file: None,
        }),
    }
}

fn message(key: &str, channel: &str) -> Notification {
    let mut out = samples::opened();
    out.key = key.to_owned();
    out.incident = format!("incident of {key}");
    out.channel = channel.to_owned();
    out
}

/// An outbox and what it tells.
fn start(channels: &[ChannelSettings], hand: &Hand) -> (Outbox, mpsc::Receiver<Delivered>) {
    let (sender, told) = mpsc::channel();
    let sender = StdMutex::new(sender);
    let outbox = Outbox::start(channels, hand.clock(), move |delivered| {
        let _ = sender.lock().unwrap().send(delivered);
    });
    (outbox.unwrap(), told)
}

impl Hand {
    /// Moves on second by second until the far end was called again; a failure is noted after the call, at a time that
    /// only the worker knows.
    fn until_called(&self, far_end: &FarEnd) -> String {
        loop {
            if let Some(heard) = far_end.heard_within(Duration::from_millis(5)) {
                return heard.headers["idempotency-key"].clone();
            }
            self.move_on(1_000);
        }
    }
}

fn told(told: &mpsc::Receiver<Delivered>) -> (String, Outcome, String) {
    let delivered = told.recv_timeout(PATIENCE).expect("nothing was told");
    (delivered.key, delivered.outcome, delivered.answer)
}

fn outcome(key: &str, outcome: Outcome, answer: &str) -> (String, Outcome, String) {
    (key.to_owned(), outcome, answer.to_owned())
}

#[test]
fn a_failure_is_tried_again_under_the_same_key() {
    let far_end = web(vec![BROKEN, Answer::Close, OK], None);
    let hand = Hand::new();
    let (outbox, heard) = start(&[channel_to("ops", &far_end)], &hand);
    outbox.send(message("k1", "ops"));
    outbox.send(message("k1", "ops"));
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(hand.until_called(&far_end));
    }
    assert_eq!(keys, ["k1", "k1", "k1"]);
    assert_eq!(told(&heard), outcome("k1", Outcome::Arrived, "200"));
    assert_eq!(outbox.waiting(), 0, "the repeat was dropped");
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn a_hanging_channel_holds_up_nobody_else() {
    let hangs = web(vec![Answer::Hang], None);
    let works = web(vec![OK], None);
    let hand = Hand::new();
    let channels = [channel_to("hangs", &hangs), channel_to("works", &works)];
    let (outbox, heard) = start(&channels, &hand);
    outbox.send(message("k1", "hangs"));
    hangs.heard();
    outbox.send(message("k2", "works"));
    assert_eq!(told(&heard), outcome("k2", Outcome::Arrived, "200"));
    assert_eq!(outbox.waiting(), 1);
    assert!(
        !outbox.stop(Duration::ZERO),
        "the attempt is still under way"
    );
}

#[test]
fn struggling_is_told_once_after_five_minutes_and_then_it_goes_on() {
    let far_end = web(vec![BROKEN, BROKEN, OK], None);
    let hand = Hand::new();
    let (outbox, heard) = start(&[channel_to("ops", &far_end)], &hand);
    outbox.send(message("k1", "ops"));
    far_end.heard();
    while outbox.lanes["ops"].shared.lock().queue.last_error("k1") != Some("500") {
        std::thread::yield_now();
    }
    hand.move_on(301_000);
    assert_eq!(told(&heard), outcome("k1", Outcome::Struggling, "500"));
    hand.until_called(&far_end);
    hand.until_called(&far_end);
    assert_eq!(told(&heard), outcome("k1", Outcome::Arrived, "200"));
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn what_is_refused_is_told_once_and_never_sent_again() {
    let no = Answer::Raw("HTTP/1.1 404 No\r\ncontent-length: 5\r\n\r\nwhat?");
    let far_end = web(vec![no, OK], None);
    let hand = Hand::new();
    let (outbox, heard) = start(&[channel_to("ops", &far_end)], &hand);
    outbox.send(message("k1", "ops"));
    assert_eq!(told(&heard), outcome("k1", Outcome::Refused, "404 what?"));
    outbox.send(message("k1", "ops"));
    outbox.send(message("k2", "ops"));
    assert_eq!(told(&heard), outcome("k2", Outcome::Arrived, "200"));
    assert_eq!(far_end.heard().headers["idempotency-key"], "k1");
    assert_eq!(far_end.heard().headers["idempotency-key"], "k2");
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn a_message_for_a_channel_that_is_not_there_is_refused() {
    let (outbox, heard) = start(&[], &Hand::new());
    outbox.send(message("k1", "nowhere"));
    let why = "no channel named nowhere is configured";
    assert_eq!(told(&heard), outcome("k1", Outcome::Refused, why));
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn a_reload_sends_what_waits_by_the_new_settings() {
    let old = web(vec![BROKEN], None);
    let new = web(vec![OK], None);
    let hand = Hand::new();
    let (mut outbox, heard) = start(&[channel_to("ops", &old)], &hand);
    outbox.send(message("k1", "ops"));
    old.heard();
    outbox.replace_channels(&[channel_to("ops", &new)]).unwrap();
    assert_eq!(hand.until_called(&new), "k1");
    assert_eq!(told(&heard), outcome("k1", Outcome::Arrived, "200"));
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn what_waits_for_a_removed_channel_is_refused() {
    let far_end = web(vec![BROKEN], None);
    let hand = Hand::new();
    let (mut outbox, heard) = start(&[channel_to("ops", &far_end)], &hand);
    outbox.send(message("k1", "ops"));
    far_end.heard();
    outbox.replace_channels(&[]).unwrap();
    let why = "channel ops was taken out of the configuration";
    assert_eq!(told(&heard), outcome("k1", Outcome::Refused, why));
    outbox.send(message("k2", "ops"));
    assert_eq!(told(&heard).1, Outcome::Refused);
    assert!(outbox.stop(PATIENCE));
}

#[test]
fn stopping_keeps_what_waits_untold() {
    let far_end = web(vec![BROKEN], None);
    let (outbox, heard) = start(&[channel_to("ops", &far_end)], &Hand::new());
    outbox.send(message("k1", "ops"));
    far_end.heard();
    assert!(outbox.stop(PATIENCE));
    assert_eq!(
        heard.try_recv().map(|d| d.key),
        Err(mpsc::TryRecvError::Disconnected)
    );
}

#[test]
fn a_sender_that_panics_costs_no_message() {
    struct Breaks(u32);
    impl Notifier for Breaks {
        fn deliver(&mut self, notification: &Notification, _: Now) -> Result<String, Failure> {
            self.0 += 1;
            assert!(self.0 > 1, "the first attempt breaks");
            assert!(matches!(notification.content, Content::Incident(_)));
            Ok(format!("attempt {}", self.0))
        }
    }
    let hand = Hand::new();
    let (sender, heard) = mpsc::channel();
    let sender = StdMutex::new(sender);
    let (alive, _ended) = channel();
    let mut launch = Launch {
        clock: hand.clock(),
        delivered: Arc::new(move |delivered| drop(sender.lock().unwrap().send(delivered))),
        alive,
    };
    let lane = launch.lane("breaks", None, Box::new(Breaks(0))).unwrap();
    lane.shared
        .lock()
        .queue
        .push(message("k1", "breaks"), 1_000_000);
    lane.shared.wake.notify_all();
    while heard.try_recv().is_err() {
        hand.move_on(100);
        std::thread::yield_now();
    }
    lane.shared.stop(Stop::Keep);
    lane.worker.join().unwrap();
}
