//! What hosts send: cards, batches, heartbeats, and the alerts that come of them.

use dawnwatch_proto::event::{GoodbyeReason, Started};
use dawnwatch_proto::{Event, EventBody, Gap, GapReason, HostId, Item, Tick};
use jiff::Timestamp;

use crate::clock::ms_between;
use crate::detect::absence;
use crate::detect::novelty::Of;
use crate::detect::reach::LIVES_MS;
use crate::effect::{ERASED, Entry};
use crate::engine::{Engine, Out};
use crate::host::{Goodbye, Host, How};
use crate::input::{At, Batch, Heartbeat, HostCard};
use crate::judging::Judged;
use crate::words;

/// A sample that is older than this when it comes is late: it may open and close alerts, and pages nobody.
const LATE_MS: i64 = 60_000;
/// What one tick vouches for: ticks come every 10 s.
const INTERVAL_MS: u32 = 10_000;
/// A return this long after a silence began still tells its cause.
const RETURN_MS: u64 = 600_000;

impl Engine {
    /// A host; one that identity has not announced yet gets a card from its id, so that nothing it says is lost.
    pub(crate) fn host(&mut self, id: HostId, at: At) -> &mut Host {
        let shown = &mut self.shown;
        self.state.hosts.entry(id).or_insert_with(|| {
            shown.forget();
            let name = id.to_string();
            let card = HostCard::new(id, name, at.wall);
            Host::new(card, at.boot_ms)
        })
    }

    pub(crate) fn card(&mut self, at: At, card: HostCard, out: &mut Out) {
        let (id, name) = (card.id, card.name.clone());
        let same = self.state.hosts.get(&id).is_some_and(|h| h.card == card);
        if !same {
            self.shown.forget();
        }
        let Some(host) = self.state.hosts.get_mut(&id) else {
            let retired = card.retired.then_some(at.wall);
            let mut host = Host::new(card, at.boot_ms);
            host.retired = retired;
            let erased = host.card.erased;
            self.state.hosts.insert(id, host);
            let what = if erased { ERASED } else { "joined" };
            self.host_changed(at, id, what.to_owned(), out);
            return;
        };
        let old = std::mem::replace(&mut host.card, card);
        let merged = host.card.merged.filter(|_| old.merged.is_none());
        let retires = host.card.retired && !old.retired;
        host.retired = match (host.card.retired, host.retired) {
            (true, since) => since.or(Some(at.wall)),
            (false, _) => None,
        };
        if self.state.hosts.get(&id).is_some_and(|h| h.card.erased) {
            if !old.erased {
                self.erase(id, &old, at, out);
            }
            return;
        }
        if old.name != name {
            self.host_changed(at, id, format!("renamed from {}", old.name), out);
        }
        if let Some(into) = merged {
            self.merged(id, into, at, out);
        } else if retires {
            self.state.logs.forget(id);
            self.host_changed(at, id, "retired".to_owned(), out);
            self.drop_slots(id, at, out);
        } else if old.retired && host_is_back(self.state.hosts.get(&id)) {
            self.host_changed(at, id, "is back from retirement".to_owned(), out);
        }
    }

    pub(crate) fn batch(&mut self, at: At, batch: Batch, out: &mut Out) {
        let id = batch.host;
        self.heard(id, at, batch.offset_ms.map(|offset| (offset, true)), out);
        for item in batch.items {
            match item {
                Item::Tick(tick) => self.sample(id, at, tick, out),
                Item::Event(event) => self.event(id, at, event, out),
                Item::Gap(gap) => {
                    let host = self.host(id, at);
                    let from = host.clock.corrected(gap.from, at.wall);
                    let to = host.clock.corrected(gap.to, at.wall);
                    host.gap(from, to, gap.ticks);
                    self.stamps.push((gap.from, from));
                    let lost = lost(&gap);
                    let text = match self.lost_by_going_back(from, to) {
                        Some(how) => format!("{lost} lost: the server was {how}"),
                        None => format!("{lost} dropped by its agent: {}", cause(gap.reason)),
                    };
                    self.changed(to, Some(id), text);
                }
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, at: At, heartbeat: &Heartbeat, out: &mut Out) {
        let id = heartbeat.host;
        let caught_up = heartbeat.backlog == 0;
        self.heard(id, at, Some((heartbeat.offset_ms, caught_up)), out);
        if caught_up {
            return;
        }
        let Some((schema, row)) = &heartbeat.row else {
            return;
        };
        let clock_ms = i64::try_from(at.boot_ms).unwrap_or(i64::MAX);
        let how = How {
            at: at.wall,
            clock_ms,
            live: true,
        };
        let mut found = Vec::new();
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        host.beat(&self.state.config.rules, how, *schema, row, &mut found);
        for one in found {
            self.apply(
                &Judged {
                    id,
                    at,
                    how,
                    late: false,
                },
                one,
                out,
            );
        }
    }

    /// Something came from the host: it lives.
    fn heard(&mut self, id: HostId, at: At, offset: Option<(i64, bool)>, out: &mut Out) {
        let host = self.host(id, at);
        let before = host.heard.replace((at.boot_ms, at.wall));
        let broke = before.is_none_or(|(ms, _)| at.boot_ms.saturating_sub(ms) > LIVES_MS);
        if broke || host.goodbye.is_some() {
            host.here_ms = at.boot_ms;
        }
        if let Some((offset_ms, caught_up)) = offset {
            host.clock.observe(offset_ms, caught_up);
        }
        // A goodbye is the last thing on a stream: whatever comes on the next one takes it back.
        if let Some(goodbye) = host.goodbye.take() {
            host.down.add(goodbye.at, at.wall);
            let away = words::duration(ms_between(goodbye.at, at.wall));
            let gone = absence::gone(goodbye.reason);
            let changes = &mut self.state.changes;
            let told = changes
                .iter_mut()
                .rev()
                .find(|c| c.host == Some(id) && c.text == gone);
            if let Some(told) = told {
                told.text = format!("{gone}, back after {away}");
            }
        }
        self.back(id, at, out);
    }

    fn sample(&mut self, id: HostId, at: At, tick: Tick, out: &mut Out) {
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let stamp = host.clock.stamp(tick.time, at.wall);
        self.stamps.push((tick.time, stamp));
        if let Some(goodbye) = host.farewell.take() {
            host.down.add(goodbye, stamp);
        }
        host.watched.tick(stamp, INTERVAL_MS);
        let how = How {
            at: stamp,
            clock_ms: stamp.as_millisecond(),
            live: false,
        };
        let late = ms_between(stamp, at.wall) > LATE_MS;
        if !late {
            self.pinged(id, at, stamp, (tick.schema, &tick.row));
        }
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let mut found = Vec::new();
        host.tick(
            &self.state.config.rules,
            how,
            tick.schema,
            tick.row,
            &mut found,
        );
        for one in found {
            self.apply(&Judged { id, at, how, late }, one, out);
        }
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        if !late && !host.slots.is_empty() {
            host.caught_up(how.clock_ms);
        }
        if !late {
            self.resumed(id, at, out);
        }
    }

    fn event(&mut self, id: HostId, at: At, event: Event, out: &mut Out) {
        let host = self.host(id, at);
        let stamp = match event.body {
            EventBody::Started(ref started) => {
                let booted = host
                    .facts
                    .as_ref()
                    .is_none_or(|f| f.boot_id != started.boot_id);
                if booted {
                    host.clock.boot();
                }
                host.clock.corrected(event.time, at.wall)
            }
            EventBody::Goodbye(_)
            | EventBody::Trouble { .. }
            | EventBody::Template(_)
            | EventBody::LogCounts(_)
            | EventBody::Line(_)
            | EventBody::Processes(_)
            | EventBody::Unknown => host.clock.corrected(event.time, at.wall),
        };
        self.stamps.push((event.time, stamp));
        let late = ms_between(stamp, at.wall) > LATE_MS;
        let of = Of {
            id,
            at,
            stamp,
            late,
        };
        match event.body {
            EventBody::Started(started) => self.agent_started(id, at, stamp, started, out),
            EventBody::Goodbye(reason) => self.goodbye(id, at, stamp, reason, out),
            EventBody::Trouble { subject, text } => {
                self.changed(stamp, Some(id), format!("{subject}: {text}"));
                self.host(id, at).trouble(stamp, subject, text);
            }
            EventBody::Template(template) => self.template(of, &template, out),
            EventBody::LogCounts(counts) => self.log_counts(of, &counts, out),
            EventBody::Line(line) => self.log_line(of, &line),
            EventBody::Processes(processes) => self.state.logs.processes(id, stamp, processes),
            // Kept by the history.
            EventBody::Unknown => {}
        }
    }

    fn goodbye(&mut self, id: HostId, at: At, stamp: Timestamp, why: GoodbyeReason, out: &mut Out) {
        let host = self.host(id, at);
        host.farewell = Some(stamp);
        if ms_between(stamp, at.wall) > LATE_MS {
            // It stopped while nobody listened; the next item of the stream says until when.
            self.explain(id, at, stamp, absence::gone(why), out);
            return;
        }
        host.goodbye = Some(Goodbye {
            reason: why,
            at: stamp,
            boot_ms: at.boot_ms,
        });
        self.host_changed(at, id, absence::gone(why).to_owned(), out);
        self.said_goodbye(id, at, stamp, why, out);
    }

    fn agent_started(&mut self, id: HostId, at: At, stamp: Timestamp, now: Started, out: &mut Out) {
        let host = self.host(id, at);
        let farewell = host.farewell.take();
        if let Some(goodbye) = farewell {
            host.down.add(goodbye, stamp);
        }
        let before = host.facts.replace(now.clone());
        let Some(before) = before else {
            let text = format!("agent {} reports for the first time", now.agent_version);
            self.changed_alike(stamp, id, text, "report for the first time".to_owned());
            return;
        };
        let rebooted = before.boot_id != now.boot_id;
        let fate = match (rebooted, now.last_stop_clean) {
            (true, true) => "restarted",
            (true, false) => "restarted without a goodbye: power loss, reset or panic",
            (false, true) => "agent restarted",
            (false, false) => "agent ended without a goodbye; the host ran on",
        };
        // A goodbye and its end are told already.
        if farewell.is_none() {
            self.changed_alike(stamp, id, fate.to_owned(), fate.to_owned());
        }
        if before.agent_version != now.agent_version {
            let text = format!("agent {} -> {}", before.agent_version, now.agent_version);
            let group = format!("got agent {}", now.agent_version);
            self.changed_alike(stamp, id, text, group);
        }
        if before.kernel != now.kernel {
            let text = format!("kernel {} -> {}", before.kernel, now.kernel);
            let group = format!("got kernel {}", now.kernel);
            self.changed_alike(stamp, id, text, group);
        }
        if farewell.is_none() {
            self.explain(id, at, stamp, fate, out);
        }
    }

    /// The host sends ticks again and its agent did not start anew: only the way between was cut.
    fn resumed(&mut self, id: HostId, at: At, out: &mut Out) {
        let returned = self.state.hosts.get(&id).and_then(|h| h.returned);
        if let Some((since, _)) = returned {
            self.explain(
                id,
                at,
                since,
                "the way to the host was cut; host and agent ran on",
                out,
            );
        }
    }

    /// Gives the silence that a moment lies in its cause, once.
    pub(crate) fn explain(
        &mut self,
        id: HostId,
        at: At,
        stamp: Timestamp,
        cause: &str,
        out: &mut Out,
    ) {
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let Some((since, returned_ms)) = host.returned else {
            return;
        };
        let fresh = at.boot_ms.saturating_sub(returned_ms) < RETURN_MS;
        if !fresh || ms_between(since, stamp) < -i64::from(INTERVAL_MS) {
            return;
        }
        host.returned = None;
        let number = self.state.incidents.latest(id);
        let incident = number.and_then(|n| self.state.incidents.change(n));
        if let Some(incident) = incident
            && incident.cause.is_none()
        {
            incident.cause = Some(cause.to_owned());
            out.record(Entry::Incident {
                id: incident.id(),
                host: id,
                state: incident.state.word().to_owned(),
                severity: incident.severity,
                at: at.wall,
                by: String::new(),
                what: format!("cause: {cause}"),
            });
        }
    }

    pub(crate) fn host_changed(&mut self, at: At, id: HostId, what: String, out: &mut Out) {
        let name = self
            .state
            .hosts
            .get(&id)
            .map_or_else(String::new, |h| h.card.name.clone());
        out.record(Entry::Host {
            id,
            name,
            what: what.clone(),
        });
        let group = what.clone();
        self.changed_alike(at.wall, id, what, group);
    }
}

fn host_is_back(host: Option<&Host>) -> bool {
    host.is_some_and(|h| !h.card.retired)
}

/// What a gap is of: `120 ticks and 3 events`.
fn lost(gap: &Gap) -> String {
    let of = |n: u64, noun| words::count(usize::try_from(n).unwrap_or(usize::MAX), noun);
    match (gap.ticks, gap.events) {
        (ticks, 0) => of(ticks, "tick"),
        (0, events) => of(events, "event"),
        (ticks, events) => format!("{} and {}", of(ticks, "tick"), of(events, "event")),
    }
}

/// Why an agent dropped something, as the review says it.
fn cause(reason: GapReason) -> &'static str {
    match reason {
        GapReason::SpoolFull => "its spool was full",
        GapReason::SpoolDamaged => "its spool was damaged",
        GapReason::DiskFull => "its disk was full",
        GapReason::TooOld => "older than its spool keeps",
        GapReason::Other => "a reason that this version does not know",
    }
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::{Kind, Schema, Series};

    use super::*;
    use crate::input::Input;

    #[test]
    fn what_a_heartbeat_brought_ahead_of_its_schema_is_no_loss() {
        let id = HostId(1);
        let schema = Schema::new(vec![Series::new("s", Kind::Gauge)]).id();
        let mut engine = Engine::new();
        let at = |second: i64| At {
            wall: Timestamp::from_second(1_764_021_600 + second).unwrap(),
            boot_ms: u64::try_from(second).unwrap() * 1_000,
            position: u64::try_from(second).unwrap() + 1,
        };
        let unfit = |engine: &mut Engine| {
            let notices = engine.view(at(500).wall).now.notices;
            notices.into_iter().find(|n| n.contains("fit no schema"))
        };
        engine.step(at(0), Input::Host(HostCard::new(id, "web01", at(0).wall)));
        for second in 1..100 {
            let heartbeat = Heartbeat {
                host: id,
                offset_ms: 0,
                backlog: 2,
                row: Some((schema, vec![second])),
            };
            engine.step(at(second), Input::Heartbeat(heartbeat));
        }
        assert_eq!(unfit(&mut engine), None);
        let tick = Tick {
            time: at(100).wall,
            schema,
            row: vec![100],
        };
        let batch = Batch {
            host: id,
            epoch: 1,
            first_seq: 1,
            items: vec![Item::Tick(tick)],
            offset_ms: None,
        };
        engine.step(at(100), Input::Batch(batch));
        let text = unfit(&mut engine).expect("a tick is one");
        assert!(text.contains("1 row"), "{text}");
    }

    #[test]
    fn a_gap_says_what_is_gone() {
        let check = |ticks, events, want| {
            let gap = Gap {
                from_seq: 1,
                to_seq: 9,
                from: Timestamp::UNIX_EPOCH,
                to: Timestamp::UNIX_EPOCH,
                ticks,
                events,
                reason: GapReason::SpoolFull,
            };
            assert_eq!(lost(&gap), want);
        };
        check(9, 0, "9 ticks");
        check(0, 1, "1 event");
        check(8, 1, "8 ticks and 1 event");
        check(0, 0, "0 ticks");
        check(u64::MAX, 0, "18446744073709551615 ticks");
    }
}
