//! How many lines of one shape a minute are usual for a host at each hour of the day, and what is far over that.
//!
//! The usual is the highest minute that was seen around this hour, fading by a thirty-second a day: what happened before is
//! never a finding. Only shapes that come often are remembered by hour; a minute below the floor is never far over anything.

use serde::{Deserialize, Serialize};

/// A minute with fewer lines is no burst, whatever is usual: one line a second, half of the time.
pub(crate) const FLOOR: u32 = 30;
/// Peaks below this cannot lift any bound over the floor.
const PEAK_MIN: u16 = 6;
/// Hours of a day.
const HOURS: usize = 24;

/// The usual of one shape on one host: the highest minute by hour of the day, empty while it stays below what matters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usual {
    peaks: Vec<u16>,
    /// Minutes over the bound, one after the other; the last of them, and the highest.
    over: u8,
    over_minute: u32,
    over_lines: u32,
    /// The day (since 1970) that the peaks faded last.
    faded: u16,
}

/// What a minute was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Judged {
    /// As usual.
    Usual,
    /// Over the bound, and not yet for long enough.
    Rising,
    /// Over the bound for long enough: the bound.
    Burst {
        /// Lines a minute that would still have been usual.
        bound: u32,
    },
}

impl Usual {
    /// Judges a minute (since 1970, by UTC) with so many lines, and learns from it where it is usual.
    pub(crate) fn judge(&mut self, minute: i64, lines: u32, times: f64, hold: u8) -> Judged {
        self.fade(minute);
        let number = u32::try_from(minute).unwrap_or(0);
        if self.over > 0 && number > self.over_minute.saturating_add(1) {
            self.learn_what_is_over();
        }
        let bound = self.bound(minute, times);
        if lines > bound {
            self.over = self.over.saturating_add(1);
            self.over_minute = number;
            self.over_lines = self.over_lines.max(lines);
            return if self.over >= hold {
                Judged::Burst { bound }
            } else {
                Judged::Rising
            };
        }
        self.learn_what_is_over();
        self.learn(minute, lines);
        Judged::Usual
    }

    /// What was over the bound for a while is known from its end on: it is told once, or was too short to be told.
    fn learn_what_is_over(&mut self) {
        if self.over > 0 {
            let (minute, lines) = (i64::from(self.over_minute), self.over_lines);
            (self.over, self.over_lines) = (0, 0);
            self.learn(minute, lines);
        }
    }

    /// Takes a minute as usual, however high.
    pub(crate) fn learn(&mut self, minute: i64, lines: u32) {
        let lines = u16::try_from(lines).unwrap_or(u16::MAX);
        if lines <= PEAK_MIN {
            return;
        }
        if self.peaks.is_empty() {
            self.peaks = vec![0; HOURS];
        }
        let hour = hour(minute);
        self.peaks[hour] = self.peaks[hour].max(lines);
    }

    /// Highest number of lines a minute that is usual around the hour, times what is far over it.
    fn bound(&self, minute: i64, times: f64) -> u32 {
        let hour = hour(minute);
        let near = [hour + HOURS - 1, hour, hour + 1];
        let peak = near.iter().filter_map(|h| self.peaks.get(h % HOURS)).max();
        let peak = f64::from(peak.copied().unwrap_or(0));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a u16 times a bound that the configuration keeps below a million"
        )]
        let bound = (peak * times).clamp(0.0, 1e9) as u32;
        bound.max(FLOOR)
    }

    /// Once a day what was usual fades; a day's minutes are judged before it does.
    fn fade(&mut self, minute: i64) {
        let day = u16::try_from(minute.div_euclid(1_440)).unwrap_or(0);
        if day <= self.faded {
            return;
        }
        let days = if self.faded == 0 { 0 } else { day - self.faded };
        self.faded = day;
        for _ in 0..days.min(365) {
            for peak in &mut self.peaks {
                *peak -= *peak / 32 + u16::from(*peak > 0 && *peak < 32);
            }
        }
        if self.peaks.iter().all(|peak| *peak <= PEAK_MIN) {
            self.peaks = Vec::new();
        }
    }
}

fn hour(minute: i64) -> usize {
    usize::try_from(minute.rem_euclid(1_440) / 60).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_440;
    const START: i64 = 20_000 * DAY;

    fn judge(usual: &mut Usual, minute: i64, lines: u32) -> Judged {
        usual.judge(START + minute, lines, 4.0, 3)
    }

    #[test]
    fn a_burst_is_held_for_three_minutes() {
        let mut usual = Usual::default();
        assert_eq!(judge(&mut usual, 0, 31), Judged::Rising);
        assert_eq!(judge(&mut usual, 1, 500), Judged::Rising);
        assert_eq!(judge(&mut usual, 2, 31), Judged::Burst { bound: 30 });
        assert_eq!(judge(&mut usual, 3, 30), Judged::Usual);
        assert_eq!(judge(&mut usual, 4, 500), Judged::Usual, "told once");
        assert_eq!(judge(&mut usual, 5, 2_001), Judged::Rising, "held anew");
    }

    #[test]
    fn a_minute_that_comes_every_day_is_no_burst() {
        let mut usual = Usual::default();
        for day in 0..5 {
            let got = judge(&mut usual, day * DAY, 900);
            let want = if day == 0 {
                Judged::Rising
            } else {
                Judged::Usual
            };
            assert_eq!(got, want, "day {day}");
        }
    }

    #[test]
    fn what_came_at_this_hour_before_is_usual() {
        let mut usual = Usual::default();
        usual.learn(START + 120, 1_000);
        for minute in [60, 120, 180, 239] {
            assert_eq!(judge(&mut usual, minute, 4_000), Judged::Usual, "{minute}");
        }
        let mut usual = Usual::default();
        usual.learn(START + 120, 1_000);
        assert_eq!(judge(&mut usual, 240, 121), Judged::Rising, "another hour");
        assert_eq!(judge(&mut usual, DAY + 120, 4_001), Judged::Rising);
    }

    #[test]
    fn it_fades_and_is_forgotten() {
        let mut usual = Usual::default();
        let _day = usual.judge(START, 100, 1_000.0, 3);
        usual.learn(START, 1_000);
        let before = usual.bound(START, 4.0);
        let _later = usual.judge(START + 20 * DAY, 0, 4.0, 3);
        let after = usual.bound(START, 4.0);
        assert!(after < before && after > before / 3, "{before} {after}");
        let _much_later = usual.judge(START + 400 * DAY, 0, 4.0, 3);
        assert_eq!(
            usual,
            Usual {
                faded: usual.faded,
                over_minute: usual.over_minute,
                ..Usual::default()
            }
        );
    }

    #[test]
    fn rare_lines_take_no_room() {
        let mut usual = Usual::default();
        for minute in 0..3 * DAY {
            assert_eq!(judge(&mut usual, minute, 6), Judged::Usual);
        }
        assert!(usual.peaks.is_empty());
    }
}
