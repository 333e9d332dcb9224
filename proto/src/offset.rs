//! How far an agent's clock is off, told from messages that take time on their way.
//!
//! The offset is the agent's clock minus the server's. A message of the agent shows it too small by what the message took, one of
//! the server shows it too large: the truth lies between, and both together differ by the round trip. What the round trip
//! explains is no error of a clock; what it does not explain is taken at the middle, where it is wrong by half of it at most.

use std::collections::VecDeque;

/// How many messages of the server are looked back on: at one acknowledgement a minute, a clock that drifts by 100 ppm moves by less
/// than a twentieth of a second within them.
const MESSAGES: usize = 8;

/// A round trip longer than this was none: keep-alives end a connection that answers later, so one clock was set in between.
const ROUND_TRIP_MS_MAX: i64 = 20_000;

/// The largest that the offset can be, by the last few messages of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Most {
    recent_ms: VecDeque<i64>,
}

impl Most {
    /// Takes in the offset that a message of the server showed.
    pub fn heard(&mut self, most_ms: i64) {
        self.recent_ms.push_back(most_ms);
        if self.recent_ms.len() > MESSAGES {
            self.recent_ms.pop_front();
        }
    }

    /// The offset, after a message of the agent that showed it as `least_ms`: zero where the round trip explains it, and `least_ms`
    /// itself where no round trip is known. What was heard before and contradicts it is forgotten: a clock was set.
    pub fn offset_ms(&mut self, least_ms: i64) -> i64 {
        self.recent_ms.retain(|most_ms| *most_ms >= least_ms);
        let quickest = self.recent_ms.iter().copied().min();
        match quickest {
            Some(most_ms) if most_ms.saturating_sub(least_ms) <= ROUND_TRIP_MS_MAX => {
                if (least_ms..=most_ms).contains(&0) {
                    0
                } else {
                    i64::midpoint(least_ms, most_ms)
                }
            }
            Some(_) | None => least_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server's messages showed, then one of the agent's.
    fn check(most_ms: &[i64], least_ms: i64, want_ms: i64) {
        let mut most = Most::default();
        for most_ms in most_ms {
            most.heard(*most_ms);
        }
        assert_eq!(most.offset_ms(least_ms), want_ms, "{most_ms:?} {least_ms}");
    }

    #[test]
    fn what_the_round_trip_explains_is_no_error() {
        // No round trip is known.
        check(&[], -2_100, -2_100);
        check(&[], 40, 40);
        // A slow line, and clocks that agree.
        check(&[850], -2_100, 0);
        check(&[850, 900, 4_000], -9_000, 0);
        // Clocks that differ: by the middle of what is possible.
        check(&[-299_990], -300_010, -300_000);
        check(&[301_600], 299_200, 300_400);
        // A slow line, and a clock that is five seconds behind.
        check(&[-4_150], -5_850, -5_000);
        // One second behind, and the line explains more than that.
        check(&[0], -2_000, 0);
        // The message that took least counts.
        check(&[3_000, -4_900, 8_000], -5_100, -5_000);
    }

    #[test]
    fn a_clock_that_was_set_is_no_round_trip() {
        // Set forward: what was heard before is impossible.
        check(&[10, 12], 3_000, 3_000);
        check(&[10, 3_004], 3_000, 3_002);
        // Set back by an hour.
        check(&[10], -3_600_000, -3_600_000);
        check(&[10, -3_599_996], -3_600_000, -3_599_998);
        check(&[i64::MAX], i64::MIN, i64::MIN);
        check(&[i64::MIN], i64::MAX, i64::MAX);
    }

    #[test]
    fn what_was_heard_long_ago_is_forgotten() {
        let mut most = Most::default();
        for ms in 0..100 {
            most.heard(ms);
        }
        assert_eq!(most.recent_ms.len(), MESSAGES);
        assert_eq!(most.offset_ms(-200), 0);
    }
}
