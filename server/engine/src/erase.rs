//! A host is erased: what the engine knows of it goes, and what must stay (when it was watched, which incidents there were)
//! stays under a pseudonym.
//!
//! Kept, because coverage and numbers of nights that are not sealed yet rest on it: spans of watching, the incidents' times,
//! rules and severities. Gone: name, labels, log lines, shapes that it alone had, processes, samples, series, pings to it.
//!
//! Caveat: the examples of shapes that it shared with others are emptied, for nobody knows whose line they were.

use dawnwatch_proto::HostId;
use dawnwatch_proto::probe::Role;

use crate::effect::ERASED;
use crate::engine::{Engine, Out};
use crate::host::Host;
use crate::incident::{AlertRef, Incident, Kind};
use crate::input::{At, HostCard};
use crate::named::same_name;
use crate::scrub::{Scrub, UNQUOTED};

impl Engine {
    /// Forgets a host whose card, already in place, says that it was erased; `old` is the one before, of the same names.
    pub(crate) fn erase(&mut self, id: HostId, old: &HostCard, at: At, out: &mut Out) {
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let pseudonym = host.card.name.clone();
        let mut scrub = Scrub::default();
        scrub.host(id, &pseudonym);
        let names: Vec<&String> = std::iter::once(&old.name).chain(&old.aliases).collect();
        for name in &names {
            scrub.name(id, name);
        }
        self.scrub_texts(&scrub);
        self.drop_slots(id, at, out);
        self.end_findings_of(id, at, out);
        self.scrub_shapes(id, &scrub);
        for name in &names {
            self.unreached(name, at, out);
        }
        self.state
            .named
            .retain(|_, named| !names.iter().any(|name| same_name(&named.facts.name, name)));
        if let Some(host) = self.state.hosts.get_mut(&id) {
            *host = bare(host);
        }
        for host in self.state.hosts.values_mut() {
            let is_it = |(role, target): &(Role, String)| {
                matches!(role, Role::Mesh | Role::Host) && names.contains(&target)
            };
            host.links.retain(|key, _| !is_it(key));
        }
        self.shown.forget();
        self.shapes_shown = crate::shapes::ShownShapes::default();
        self.host_changed(at, id, ERASED.to_owned(), out);
    }

    pub(crate) fn is_erased(&self, id: HostId) -> bool {
        self.state.hosts.get(&id).is_some_and(|h| h.card.erased)
    }

    fn scrub_texts(&mut self, scrub: &Scrub) {
        let numbers: Vec<u64> = self.state.incidents.all.keys().copied().collect();
        for number in numbers {
            if let Some(incident) = self.state.incidents.change(number) {
                scrub_incident(incident, scrub);
            }
        }
        let changes = &mut self.state.changes;
        changes.retain(|change| !change.host.is_some_and(|host| scrub.has(host)));
        for change in changes {
            scrub.texts([&mut change.text, &mut change.group]);
        }
        for notice in self.state.server.notices.values_mut() {
            scrub.text(&mut notice.text);
        }
        for head in &mut self.state.sealing.heads {
            scrub.text(&mut head.sentence);
        }
        if let Some(last) = &mut self.state.sealing.last {
            scrub.review(last);
        }
    }

    fn scrub_shapes(&mut self, id: HostId, scrub: &Scrub) {
        let logs = &mut self.state.logs;
        let had = logs.forget_all(id);
        logs.scrub(&had, scrub);
    }

    /// Ends the findings about log lines of this host alone; nothing will be heard of them again.
    fn end_findings_of(&mut self, id: HostId, at: At, out: &mut Out) {
        let incidents = &self.state.incidents;
        let alone = |alert: &AlertRef| {
            let incident = incidents.get(alert.incident);
            incident.is_some_and(|i| i.kind == Kind::Log && i.host == id && i.hosts.len() < 2)
        };
        let mut ended = Vec::new();
        self.state.logs.alerts.retain(|_, firing| {
            let own = alone(&firing.alert);
            if own && !firing.over {
                ended.push(firing.alert);
            }
            !own
        });
        for alert in ended {
            self.resolve(alert, at.wall, "host erased", out);
        }
    }
}

/// What stays of a host.
fn bare(host: &Host) -> Host {
    let mut bare = Host::new(host.card.clone(), host.known_ms);
    bare.retired = host.retired;
    bare.heard = host.heard;
    bare.watched = host.watched.clone();
    bare.down = host.down.clone();
    bare.gaps.clone_from(&host.gaps);
    bare
}

fn scrub_incident(incident: &mut Incident, scrub: &Scrub) {
    let own = scrub.has(incident.host);
    scrub.text(&mut incident.name);
    scrub.texts(incident.cause.iter_mut());
    scrub.texts(&mut incident.notes);
    scrub.texts(&mut incident.policy);
    scrub.texts(incident.told.iter_mut().map(|told| &mut told.answer));
    scrub.lines(&mut incident.lines);
    for alert in &mut incident.alerts {
        scrub.texts([
            &mut alert.subject,
            &mut alert.series,
            &mut alert.what,
            &mut alert.why,
        ]);
        if !own {
            continue;
        }
        alert.evidence.clear();
        if incident.kind == Kind::Log {
            // It quotes the host's own lines.
            UNQUOTED.clone_into(&mut alert.why);
            alert.subject.clear();
        }
    }
}
