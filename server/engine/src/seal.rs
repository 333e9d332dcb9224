//! Sealing: each night once, whatever the server or its clock did in between.

use std::collections::VecDeque;
use std::sync::Arc;

use dawnwatch_proto::api::{self, NightHead};
use dawnwatch_proto::review::{Change, Messages, Review};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::add_ms;
use crate::coverage::Watched;
use crate::detect::absence::SERVER;
use crate::detect::novelty;
use crate::effect::{Effect, Entry};
use crate::engine::{Engine, Out, WATCHED_KEPT_MS};
use crate::incident::{State, Told};
use crate::input::At;
use crate::night::Night;
use crate::review::{self, HostInput, ReviewInput};

/// Heads of sealed nights kept, so that none is sealed twice: a year's worth.
const HEADS_MAX: usize = 400;
/// Messages about reviews remembered.
const TOLD_MAX: usize = 400;
/// A jump of the wall clock beyond this may be a mistake that is about to be mended.
const JUMP_MS: i64 = 6 * 3_600_000;
/// Sealing waits this long after such a jump.
const JUMP_HOLD_MS: u64 = 3_600_000;
/// Nights sealed in one step: a server that was off for two weeks makes up for them, one off for a year does not.
const AT_ONCE_MAX: usize = 14;

/// What is sealed already.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealing {
    /// Nights up to this sealing time are dealt with.
    upto: Option<Timestamp>,
    pub(crate) heads: VecDeque<NightHead>,
    /// The last sealed review.
    pub(crate) last: Option<Box<Review>>,
    pub(crate) told: VecDeque<Told>,
    /// No sealing before this boot time.
    hold_until_ms: u64,
    /// A span of wall time that never was: the clock jumped over it.
    jumped: Option<(Timestamp, Timestamp)>,
}

impl Sealing {
    /// The server's wall clock jumped.
    pub(crate) fn clock_stepped(&mut self, at: At, by_ms: i64) {
        if by_ms > JUMP_MS {
            self.jumped = Some((add_ms(at.wall, by_ms.saturating_neg()), at.wall));
        } else if by_ms < -JUMP_MS {
            self.jumped = None;
        }
        if by_ms.saturating_abs() > JUMP_MS {
            self.hold_until_ms = at.boot_ms.saturating_add(JUMP_HOLD_MS);
        }
    }

    /// Remembers a message about a review.
    pub(crate) fn tell(&mut self, told: Told) {
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(told);
    }

    fn is_over(&self, night: &Night) -> bool {
        let jumped = |(from, to): (Timestamp, Timestamp)| from <= night.start && night.end <= to;
        self.heads.iter().any(|head| head.id == night.id) || self.jumped.is_some_and(jumped)
    }
}

impl Engine {
    /// Seals what is due.
    pub(crate) fn seal(&mut self, at: At, out: &mut Out) {
        if at.boot_ms < self.state.sealing.hold_until_ms {
            return;
        }
        // A clock that starts in 1970, or that was wrong by years for a while, must not be walked through night by night.
        let oldest = add_ms(at.wall, -WATCHED_KEPT_MS);
        let mut upto = self
            .state
            .sealing
            .upto
            .unwrap_or(at.wall)
            .clamp(oldest, at.wall);
        let mut due = Vec::new();
        while due.len() < AT_ONCE_MAX {
            let night = match &self.next_seal {
                Some((after, night)) if *after == upto => night.clone(),
                Some(_) | None => self.nights.next_seal(upto),
            };
            self.next_seal = Some((upto, night.clone()));
            if at.wall < night.seal_at || night.seal_at <= upto {
                break;
            }
            upto = night.seal_at;
            if !self.state.sealing.is_over(&night) {
                due.push(night);
            }
        }
        if due.len() == AT_ONCE_MAX {
            upto = at.wall;
        }
        self.state.sealing.upto = Some(upto);
        for night in due {
            self.seal_night(at, &night, out);
        }
    }

    fn seal_night(&mut self, at: At, night: &Night, out: &mut Out) {
        let review = self.review(night, at.wall, Some(at.wall));
        let sealing = &mut self.state.sealing;
        if sealing.heads.len() >= HEADS_MAX {
            sealing.heads.pop_front();
        }
        sealing.heads.push_back(NightHead {
            id: review.id.clone(),
            start: review.start,
            end: review.end,
            sealed: at.wall,
            verdict: review.verdict,
            sentence: review.sentence.clone(),
        });
        sealing.last = Some(Box::new(review.clone()));
        out.effects
            .push(Effect::SealNight(Box::new(review.clone())));
        out.record(Entry::Sealed {
            night: review.id.clone(),
            hash: String::new(),
        });
        self.tell_review(at, &review, out);
        self.restored_is_told(at, night.end, out);
    }

    /// The review of a night as it stands at a moment.
    pub(crate) fn review(
        &self,
        night: &Night,
        now: Timestamp,
        sealed: Option<Timestamp>,
    ) -> Review {
        let state = &self.state;
        let touches = |until: Option<Timestamp>| until.is_none_or(|until| until >= night.start);
        let incidents: Vec<Arc<api::Incident>> = state
            .incidents
            .all
            .values()
            .filter(|i| touches(i.until) && i.since < night.end)
            .map(|i| self.incident_known(i))
            .collect();
        let (missing, nothing) = (self.missing(), Watched::default());
        let hosts = self.host_inputs(night, now, &missing, &nothing);
        let until = night.end.min(now);
        let changes: Vec<Change> = state
            .changes
            .iter()
            .filter(|c| night.start <= c.at && c.at < night.end)
            .map(|c| Change {
                at: c.at,
                text: self.change_text(c),
                group: c.group.clone(),
            })
            .collect();
        let jumps: Vec<(Timestamp, i64)> = state.server.jumps.iter().copied().collect();
        let dropped = state
            .hosts
            .values()
            .map(|h| h.dropped_within(night.start, until));
        review::build(&ReviewInput {
            night,
            now,
            sealed,
            config: &state.config,
            incidents: &incidents,
            hosts: &hosts,
            server_up: &state.server.up,
            first_start: state.server.first,
            jumps: &jumps,
            changes: &changes,
            tonight: &[],
            messages: &self.messages(night.start, until),
            learning: self.night_of_learning(night),
            ticks_dropped: dropped.fold(0, u64::saturating_add),
            signed_off: 0,
        })
    }

    /// Hosts as the review of a night sees them, and names that never joined.
    fn host_inputs<'a>(
        &'a self,
        night: &Night,
        now: Timestamp,
        missing: &'a [api::Missing],
        nothing: &'a Watched,
    ) -> Vec<HostInput<'a>> {
        self.state
            .hosts
            .values()
            // What was never readable is a finding, and nothing that anybody could have watched.
            .filter(|host| host.heard.is_some())
            .map(|host| HostInput {
                id: host.card.id,
                name: &host.card.name,
                importance: self.facts(host).importance.unwrap_or_default(),
                // Joined by a clock that was wrong: it counts all the same.
                joined: if host.card.joined > now {
                    night.start
                } else {
                    host.card.joined
                },
                retired: host.retired,
                expected: self
                    .facts(host)
                    .hours
                    .and_then(|week| self.expected_within(&week, night.start, night.end)),
                watched: &host.watched,
                down: &host.down,
                reason: self.unwatched_reason(host),
            })
            .chain(missing.iter().map(|missing| HostInput {
                id: SERVER,
                name: &missing.name,
                importance: missing.importance,
                joined: missing.since,
                retired: None,
                expected: None,
                watched: nothing,
                down: nothing,
                reason: "named and never joined".to_owned(),
            }))
            .collect()
    }

    /// Which night of learning a night is; none once all is learned.
    fn night_of_learning(&self, night: &Night) -> Option<(u32, u32)> {
        let first = self.state.server.first?;
        let nth = novelty::nights_since(&self.nights, first, night.start).max(1);
        (nth <= novelty::LEARNING_NIGHTS).then_some((nth, novelty::LEARNING_NIGHTS))
    }

    /// What was told to whom within a window.
    fn messages(&self, from: Timestamp, to: Timestamp) -> Messages {
        let state = &self.state;
        let within = |at: Timestamp| from <= at && at <= to;
        let channels = state
            .config
            .channels
            .iter()
            .map(|c| c.name.clone())
            .collect();
        let mut messages = Messages {
            channels,
            ..Messages::default()
        };
        let all = state.incidents.all.values();
        let told = all.clone().flat_map(|i| &i.told).chain(&state.sealing.told);
        for told in told.filter(|t| within(t.decided)) {
            messages.sent += 1;
            match told.fate.as_str() {
                "arrived" => messages.arrived += 1,
                "lost" => messages.lost += 1,
                _ => messages.pending += 1,
            }
        }
        for incident in all {
            let fired = incident
                .alerts
                .iter()
                .filter(|a| within(a.fired))
                .map(|a| a.times);
            messages.events = fired.fold(messages.events, u32::saturating_add);
            let told = incident.told.iter().any(|t| within(t.decided));
            let taken = incident.state != State::Open && incident.taken.is_some();
            messages.confirmed += u32::from(told && taken);
        }
        messages
    }
}
