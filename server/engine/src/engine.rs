//! The engine: one input in, a list of effects out, nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dawnwatch_proto::HostId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{add_ms, ms_between};
use crate::config::Config;
use crate::coverage::Watched;
use crate::detect::reach::Reach;
use crate::effect::{Effect, Entry};
use crate::host::Host;
use crate::incident::{AlertRef, Incidents, State as IncidentState};
use crate::input::{Act, At, Batch, Heartbeat, Input, Named, Notice, Order, Started};
use crate::logs::Logs;
use crate::night::{Night, Nights, Span};
use crate::own::crashes::Crashes;
use crate::own::vitals::Strain;
use crate::policy::Repeats;
use crate::seal::Sealing;
use crate::shapes::ShownShapes;
use crate::view::Shown;
use crate::words;

/// After a start of the server hosts get this long to come back before they count as silent.
pub(crate) const GRACE_MS: u64 = 60_000;
/// Inputs come every second; a server that saw none for this long stood still (suspended, starved) and watched nobody.
const STALL_MS: u64 = 30_000;
/// Changes remembered for reviews and messages: 250 a night for 40 nights.
const CHANGES_MAX: usize = 10_000;
/// Jumps of the server's clock remembered: a clock that jumps more often is broken, and the latest say so.
const JUMPS_MAX: usize = 64;
/// Watched time is kept this long, for the review of any night that can still be made.
pub(crate) const WATCHED_KEPT_MS: i64 = 40 * 86_400_000;
/// Clocks are compared this often: as often as a host says what time it is.
const SKEW_EVERY_MS: u64 = 10_000;
/// What is old is looked for this often.
const PRUNE_EVERY_MS: u64 = 3_600_000;

/// The judge. All its state is its own; all it says is in the effects.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) state: State,
    pub(crate) nights: Nights,
    /// The night or working span that time was in last, with whether it is a night; and the night that is sealed next after a moment: the calendar is
    /// asked once a span, not once a tick.
    span: Option<(Span, bool)>,
    pub(crate) next_seal: Option<(Timestamp, Night)>,
    /// Corrected times of the items of the last batch: as the host gave them, and as they are.
    pub(crate) stamps: Vec<(Timestamp, Timestamp)>,
    /// What readers were shown last.
    pub(crate) shown: Shown,
    pub(crate) shapes_shown: ShownShapes,
}

/// What outlives a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) incidents: Incidents,
    pub(crate) server: Server,
    pub(crate) changes: VecDeque<Changed>,
    pub(crate) sealing: Sealing,
    pub(crate) repeats: Repeats,
    /// Alerts about the server itself that fire, by rule.
    pub(crate) server_alerts: BTreeMap<String, AlertRef>,
    pub(crate) last: Option<At>,
    pruned_ms: u64,
    /// A configuration was taken up before.
    configured: bool,
    skew_ms: u64,
    /// Hosts that people named, by name in lower case.
    pub(crate) named: BTreeMap<String, Named>,
    /// Who is reached by whom.
    pub(crate) reach: Reach,
    pub(crate) logs: Logs,
    /// How the server itself fares.
    pub(crate) strain: Strain,
    pub(crate) crashes: Crashes,
}

/// What the engine knows of the server it runs in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Boot time of the last start, or of the end of a stall.
    pub(crate) since_ms: u64,
    pub(crate) up: Watched,
    /// When it started for the first time.
    pub(crate) first: Option<Timestamp>,
    /// Jumps of its wall clock: the time after it, and milliseconds.
    pub(crate) jumps: VecDeque<(Timestamp, i64)>,
    pub(crate) notices: BTreeMap<String, Notice>,
    /// Ways back that it went, the latest last: what was done, and the span whose inputs are gone.
    pub(crate) restored: VecDeque<(String, Timestamp, Timestamp)>,
}

/// A change that a review tells of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) at: Timestamp,
    pub(crate) host: Option<HostId>,
    pub(crate) text: String,
    /// What many hosts may do alike, in words that fit "180 hosts …"; empty where it stands alone.
    pub(crate) group: String,
}

/// What a step brings about, collected.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) effects: Vec<Effect>,
    /// Incidents whose alerts changed.
    pub(crate) touched: BTreeSet<u64>,
}

impl Out {
    pub(crate) fn record(&mut self, entry: Entry) {
        self.effects.push(Effect::Record(entry));
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::new()
    }
}

impl Engine {
    /// An engine that was told nothing yet.
    #[must_use]
    pub fn new() -> Engine {
        Engine::from_state(State::default())
    }

    pub(crate) fn from_state(state: State) -> Engine {
        let nights = Nights::new(&state.config.calendar).unwrap_or_default();
        Engine {
            state,
            nights,
            span: None,
            next_seal: None,
            stamps: Vec::new(),
            shown: Shown::default(),
            shapes_shown: ShownShapes::default(),
        }
    }

    /// Takes one input in and says what must be done. The only door.
    pub fn step(&mut self, at: At, input: Input) -> Vec<Effect> {
        let mut out = Out::default();
        self.stamps.clear();
        self.pass_time(at, &input, &mut out);
        match input {
            // On its way when its host was erased.
            Input::Schema { host: id, .. }
            | Input::Batch(Batch { host: id, .. })
            | Input::Heartbeat(Heartbeat { host: id, .. })
                if self.is_erased(id) => {}
            Input::Config(config) => self.configure(at, *config, &mut out),
            Input::Started(started) => self.started(at, &started, &mut out),
            Input::ClockStep { by_ms } => self.clock_stepped(at, by_ms, &mut out),
            Input::Host(card) => self.card(at, card, &mut out),
            Input::Schema { host, schema } => {
                self.host(host, at).schema(&schema);
            }
            Input::Batch(batch) => self.batch(at, batch, &mut out),
            Input::Heartbeat(heartbeat) => self.heartbeat(at, &heartbeat, &mut out),
            Input::Tick => self.tick(at, &mut out),
            Input::Order(order) => self.order(at, &order, &mut out),
            Input::Delivered(delivered) => self.delivered(at, delivered, &mut out),
            Input::Server(notice) => self.notice(at, notice, &mut out),
            Input::Named(named) => self.named(at, *named, &mut out),
            Input::Vitals(vitals) => self.vitals(at, &vitals, &mut out),
            Input::Twice(twice) => self.twice(at, &twice, &mut out),
            Input::Restored(restored) => self.restored(at, restored, &mut out),
        }
        self.settle(at, &mut out);
        self.state.last = Some(at);
        if !out.effects.is_empty() {
            self.shown.news();
        }
        out.effects
    }

    /// The corrected times of the items of the batch that was stepped last, in their order: what history stores.
    pub fn stamps(&self) -> impl ExactSizeIterator<Item = Timestamp> {
        self.stamps.iter().map(|(_, stamp)| *stamp)
    }

    /// The corrected time of an item of the batch that was stepped last, by the time its host gave it; a time that is not of
    /// that batch stays as it is. Where a host gave one time twice this is the first: [`Engine::stamps`] tells them apart.
    #[must_use]
    pub fn stamped(&self, _host: HostId, time: Timestamp) -> Timestamp {
        self.stamps
            .iter()
            .find(|(given, _)| *given == time)
            .map_or(time, |(_, stamp)| *stamp)
    }

    /// Notes that the server is up, and notices when it stood still.
    fn pass_time(&mut self, at: At, input: &Input, out: &mut Out) {
        let Some(last) = self.state.last else {
            self.state.server.since_ms = at.boot_ms;
            return;
        };
        if matches!(input, Input::Started(_)) {
            return;
        }
        let passed_ms = at.boot_ms.saturating_sub(last.boot_ms);
        if passed_ms > STALL_MS {
            self.state.server.since_ms = at.boot_ms;
            let span = words::duration(i64::try_from(passed_ms).unwrap_or(i64::MAX));
            self.say(
                at,
                format!("server stood still for {span}: nothing was watched"),
                out,
            );
            return;
        }
        let passed_ms = i64::try_from(passed_ms).unwrap_or(0);
        let from = add_ms(at.wall, -passed_ms);
        self.state.server.up.add(from, at.wall);
    }

    fn configure(&mut self, at: At, config: Config, out: &mut Out) {
        match Nights::new(&config.calendar) {
            Ok(nights) => {
                self.nights = nights;
                (self.span, self.next_seal) = (None, None);
            }
            Err(error) => {
                let text = format!("calendar not taken up, the one before stays in force: {error}");
                let calendar = std::mem::take(&mut self.state.config.calendar);
                self.state.config = config;
                self.state.config.calendar = calendar;
                self.shown.forget();
                let subject = "calendar".to_owned();
                let notice = Notice {
                    subject,
                    text,
                    critical: false,
                };
                self.notice(at, notice, out);
                self.rules_changed(at, out);
                return;
            }
        }
        self.over_notice(at, "calendar", out);
        if self.state.config == config {
            return;
        }
        self.state.config = config;
        self.shown.forget();
        if std::mem::replace(&mut self.state.configured, true) {
            self.say(at, "configuration taken up".to_owned(), out);
        }
        self.rules_changed(at, out);
    }

    /// Alerts of rules that are gone or switched off end.
    fn rules_changed(&mut self, at: At, out: &mut Out) {
        let ids: Vec<HostId> = self.state.hosts.keys().copied().collect();
        for id in ids {
            self.drop_slots(id, at, out);
        }
        self.log_rules_changed(at, out);
        self.channels_changed(at, out);
    }

    fn started(&mut self, at: At, started: &Started, out: &mut Out) {
        self.state.server.since_ms = at.boot_ms;
        self.over_with_the_last_run(at, out);
        let Some(last_up) = started.last_up else {
            // Before the first start there was nothing to watch: no outage.
            self.state.server.first.get_or_insert(at.wall);
            let text = format!("server {} started for the first time", started.version);
            self.say(at, text, out);
            return;
        };
        let stop = if started.clean {
            ""
        } else {
            "; its last stop was not clean"
        };
        if !started.clean {
            self.state.crashes.count(at);
        }
        let down = words::duration(ms_between(last_up, at.wall));
        let text = format!("server {} started{stop}; was down {down}", started.version);
        self.say(at, text, out);
        self.server_restarting(at, out);
    }

    fn clock_stepped(&mut self, at: At, by_ms: i64, out: &mut Out) {
        for host in self.state.hosts.values_mut() {
            host.clock.server_stepped(by_ms);
        }
        self.state.sealing.clock_stepped(at, by_ms);
        let server = &mut self.state.server;
        // A first start that a wrong clock put into the future would leave nothing to be watched until then.
        server.first = server.first.map(|first| first.min(at.wall));
        if server.jumps.len() >= JUMPS_MAX {
            server.jumps.pop_front();
        }
        server.jumps.push_back((at.wall, by_ms));
        let way = if by_ms < 0 { "back" } else { "ahead" };
        let span = words::duration(by_ms.saturating_abs());
        self.say(at, format!("server clock jumped {way} by {span}"), out);
    }

    fn order(&mut self, at: At, order: &Order, out: &mut Out) {
        let (incident, note) = match &order.act {
            Act::Acknowledge { incident, note } => (incident, note),
            Act::Noted { about, what } => {
                return out.record(Entry::Person {
                    by: order.by.clone(),
                    about: about.clone(),
                    what: what.clone(),
                });
            }
            Act::Rewritten { night, hash } => {
                let (night, hash) = (night.clone(), hash.clone());
                return out.record(Entry::Evidence { night, hash });
            }
        };
        let number = Incidents::number(incident);
        let Some(incident) = number.and_then(|n| self.state.incidents.change(n)) else {
            return;
        };
        let noted = format!("{}: {note}", order.by);
        if !note.is_empty() && !incident.notes.contains(&noted) {
            incident.notes.push(noted);
        }
        if incident.state != IncidentState::Open {
            return;
        }
        incident.state = IncidentState::Acknowledged;
        incident.taken = Some((order.by.clone(), at.wall));
        out.record(Entry::Incident {
            id: incident.id(),
            host: incident.host,
            state: incident.state.word().to_owned(),
            severity: incident.severity,
            at: at.wall,
            by: order.by.clone(),
            what: incident.what(),
        });
    }

    /// Time passed: absence, reminders, sealing.
    fn tick(&mut self, at: At, out: &mut Out) {
        let night = self.is_night(at.wall);
        self.state.repeats.at(night);
        self.absence(at, out);
        self.fates(at, out);
        self.reach(at, out);
        self.logs_over(at, out);
        if at.boot_ms.saturating_sub(self.state.skew_ms) >= SKEW_EVERY_MS {
            self.state.skew_ms = at.boot_ms;
            self.skew(at, out);
            self.twice_over(at, out);
            self.names(at, out);
        }
        self.settle(at, out);
        self.remind(at, night, out);
        self.seal(at, out);
        if at.boot_ms.saturating_sub(self.state.pruned_ms) >= PRUNE_EVERY_MS {
            self.state.pruned_ms = at.boot_ms;
            self.prune(at);
        }
    }

    /// Whether nobody is at work.
    pub(crate) fn is_night(&mut self, wall: Timestamp) -> bool {
        if let Some((span, night)) = &self.span
            && span.contains(wall)
        {
            return *night;
        }
        let night = !self.nights.attended(wall);
        self.span = Some((self.nights.at(wall), night));
        night
    }

    fn prune(&mut self, at: At) {
        self.state.incidents.prune(at.wall);
        self.prune_reach();
        self.state.logs.prune(at.wall);
        let before = add_ms(at.wall, -WATCHED_KEPT_MS);
        self.state.server.up.prune(before);
        self.state
            .server
            .jumps
            .retain(|(jumped, _)| *jumped >= before);
        for host in self.state.hosts.values_mut() {
            host.watched.prune(before);
            host.down.prune(before);
        }
    }

    /// Something about the server itself, for ledger and review.
    pub(crate) fn say(&mut self, at: At, text: String, out: &mut Out) {
        out.record(Entry::Server { what: text.clone() });
        self.changed(at.wall, None, text);
    }

    /// Remembers a change; the oldest makes room.
    pub(crate) fn changed(&mut self, at: Timestamp, host: Option<HostId>, text: String) {
        if self.state.changes.len() >= CHANGES_MAX {
            self.state.changes.pop_front();
        }
        let group = String::new();
        self.state.changes.push_back(Changed {
            at,
            host,
            text,
            group,
        });
    }

    /// Remembers a change that many may share a line for.
    pub(crate) fn changed_in_group(&mut self, at: Timestamp, text: String, group: String) {
        self.changed(at, None, text);
        if let Some(change) = self.state.changes.back_mut() {
            change.group = group;
        }
    }

    /// Remembers a change that many hosts may make alike.
    pub(crate) fn changed_alike(&mut self, at: Timestamp, id: HostId, text: String, group: String) {
        self.changed(at, Some(id), text);
        if let Some(change) = self.state.changes.back_mut() {
            change.group = group;
        }
    }
}
