//! Ways with known faults: what is found, how soon, and what stays quiet.

use super::*;
use crate::config::{Measure, default_rules};

const TICK_MS: i64 = 10_000;

fn rule() -> Rule {
    let rules = default_rules();
    let found = rules.into_iter().find(|r| r.measure == Measure::PingLoss);
    found.unwrap()
}

fn when(tick: i64) -> When {
    When {
        stamp: Timestamp::from_millisecond(tick * TICK_MS).unwrap(),
        boot_ms: u64::try_from(tick * TICK_MS).unwrap(),
    }
}

/// A way and its agent: five probes a tick.
struct Way {
    link: Link,
    tick: i64,
    lost_in_a_row: u32,
    answered: bool,
    rule: Rule,
}

impl Way {
    fn new() -> Way {
        Way {
            link: Link::new(when(0)),
            tick: 0,
            lost_in_a_row: 0,
            answered: false,
            rule: rule(),
        }
    }

    fn tick(&mut self, answers: [bool; 5]) {
        for answer in answers {
            self.answered |= answer;
            self.lost_in_a_row = if answer { 0 } else { self.lost_in_a_row + 1 };
        }
        let lost = answers.iter().filter(|answer| !**answer).count() as u64;
        let known = self.answered || self.lost_in_a_row >= 3;
        let report = Report {
            success: known.then_some(self.lost_in_a_row < 3),
            probes: Some((5, lost)),
            rtt: (lost < 5).then_some((0.001, 0.002, 0.003)),
            jitter: None,
        };
        self.tick += 1;
        self.link.take(when(self.tick), report, Some(&self.rule));
    }

    fn is_bad(&self) -> bool {
        self.link.state == State::Down || self.link.loss.is_some()
    }
}

#[test]
fn an_outage_shows_in_the_tick_of_its_third_lost_probe() {
    // Wherever in a tick it begins.
    for begin in 0..5 {
        let mut way = Way::new();
        for _ in 0..12 {
            way.tick([true; 5]);
        }
        let mut probes = 0;
        while way.link.state != State::Down {
            let answers = [0, 1, 2, 3, 4].map(|i| probes == 0 && i < begin);
            probes += answers.iter().filter(|answer| !**answer).count();
            way.tick(answers);
        }
        // Three probes, and what else lies in the tick that tells of them.
        assert!((3..3 + 5).contains(&probes), "{begin}: {probes}");
        assert!(way.link.loss.is_none(), "an outage is no loss");
        way.tick([true; 5]);
        assert_eq!(way.link.state, State::Up);
    }
}

#[test]
fn who_never_answered_is_not_down() {
    let mut way = Way::new();
    for _ in 0..1_000 {
        way.tick([false; 5]);
    }
    assert_eq!(way.link.state, State::Never);
    assert_eq!(way.link.outage, (5_000, 5_000));
    let report = Report {
        success: None,
        probes: None,
        rtt: None,
        jitter: None,
    };
    way.tick([true; 5]);
    way.link.take(when(way.tick + 1), report, Some(&way.rule));
    assert_eq!(
        way.link.state,
        State::Unknown,
        "what cannot be asked is not down either"
    );
}

#[test]
fn single_lost_packets_stay_quiet() {
    let mut way = Way::new();
    for tick in 0..8_640 {
        // One in every eighth tick: 2.5 %, all day.
        way.tick([true, true, tick % 8 != 0, true, true]);
        assert!(!way.is_bad(), "tick {tick}");
    }
}

#[test]
fn a_loss_is_found_and_ends() {
    let mut way = Way::new();
    for _ in 0..60 {
        way.tick([true; 5]);
    }
    let mut found = 0;
    while way.link.loss.is_none() {
        way.tick([true, false, true, true, found % 2 == 0]);
        found += 1;
    }
    assert!(
        found <= 6,
        "30 % are found within a minute, not after {found} ticks"
    );
    let mut clear = 0;
    while way.link.loss.is_some() {
        way.tick([true; 5]);
        clear += 1;
    }
    assert!((6..40).contains(&clear), "{clear} ticks");
}

/// Numbers that look like chance and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// The way of research's Gilbert-Elliott model: good and bad moments, and a share lost in the bad ones.
struct Weather {
    turns_bad: f64,
    turns_good: f64,
    loses: f64,
    bad: bool,
}

impl Weather {
    fn answers(&mut self, dice: &mut Dice) -> bool {
        let turns = if self.bad {
            self.turns_good
        } else {
            self.turns_bad
        };
        self.bad ^= dice.roll() < turns;
        !(self.bad && dice.roll() < self.loses)
    }
}

/// Runs days of a way with faults; returns faults, those found, and false minutes a day.
fn days(mut weather: Weather, days: i64, seed: u64) -> (u32, u32, f64) {
    let (mut way, mut dice) = (Way::new(), Dice(seed));
    let (mut faults, mut found, mut false_ticks) = (0, 0, 0_u32);
    // What is under way: share lost, ticks left, whether it was found; and how long the last one is over.
    let mut fault: Option<(f64, i64, bool)> = None;
    let mut quiet = 0_u32;
    // The first day is learned from.
    for tick in 0..(days + 1) * 8_640 {
        let learning = tick < 8_640;
        if fault.is_none() && !learning && quiet > 180 && dice.roll() < 1.0 / 1_440.0 {
            let outage = dice.roll() < 0.3;
            let share = if outage {
                1.0
            } else {
                0.05 + 0.45 * dice.roll()
            };
            #[allow(clippy::cast_possible_truncation, reason = "a few minutes")]
            let ticks = (6.0 + 54.0 * dice.roll()) as i64;
            fault = Some((share, ticks, false));
            faults += 1;
        }
        let share = fault.map_or(0.0, |(share, ..)| share);
        let answers = [(); 5].map(|()| weather.answers(&mut dice) && dice.roll() >= share);
        way.tick(answers);
        match &mut fault {
            Some((_, left, seen)) => {
                *seen |= way.is_bad();
                *left -= 1;
                if *left == 0 {
                    found += u32::from(*seen);
                    (fault, quiet) = (None, 0);
                }
            }
            None => {
                quiet += 1;
                // A loss that was found clears within minutes after it ended.
                let settled = quiet > 60;
                false_ticks += u32::from(way.is_bad() && settled && !learning);
            }
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a few days")]
    let minutes = f64::from(false_ticks) / 6.0 / days as f64;
    (faults, found, minutes)
}

#[test]
fn faults_are_found_and_chance_stays_quiet() {
    let wired = || Weather {
        turns_bad: 0.0005,
        turns_good: 0.5,
        loses: 0.5,
        bad: false,
    };
    let (faults, found, minutes) = days(wired(), 40, 7);
    let share = f64::from(found) / f64::from(faults);
    println!("wired: {found} of {faults} found, {minutes:.2} false minutes a day");
    assert!(faults > 100 && share >= 0.95, "{found} of {faults}");
    assert!(minutes <= 1.0, "{minutes} false minutes a day");

    let wireless = Weather {
        turns_bad: 0.01,
        turns_good: 0.25,
        loses: 0.5,
        bad: false,
    };
    let (faults, found, minutes) = days(wireless, 30, 11);
    println!("wireless: {found} of {faults} found, {minutes:.2} false minutes a day");
    // A wireless link has bursts that look like faults: known to be weak, and watched that it does not get worse.
    let share = f64::from(found) / f64::from(faults);
    assert!(
        share >= 0.85 && minutes <= 40.0,
        "{found} of {faults}, {minutes} false minutes a day"
    );
}
