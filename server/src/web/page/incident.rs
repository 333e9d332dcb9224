//! `/incidents/{id}`: what, since when, why, the evidence, who was told; and taking it.

use std::sync::Arc;

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use dawnwatch_proto::api::{Act, Alert, Incident, Role, Told};
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::review::text::{
    duration, number, seconds_between, severity, since, subject, when,
};
use dawnwatch_proto::untrusted::term;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::chart::{Chart, Line, Plot, Slot};
use super::finding::{href, tone};
use super::happened::Lines;
use super::moment::Moment;
use super::visit::{Shell, Visit};
use crate::api::answer::unavailable;
use crate::api::read::find_incident;
use crate::api::write::take;
use crate::web::person::Person;

/// Log lines are shown from so long before its start to so long after.
const AROUND: SignedDuration = SignedDuration::from_mins(30);

/// Alerts drawn: each has a chart. A host on fire has a few dozen.
const ALERTS_MAX: usize = 12;

/// Notifications shown, the latest of them.
const TOLD_MAX: usize = 30;

#[derive(Debug, Template)]
#[template(path = "incident.html")]
struct Page {
    shell: Shell,
    id: String,
    subject: String,
    what: String,
    severity: &'static str,
    tone: &'static str,
    state: String,
    span: String,
    since: Moment,
    length: String,
    turned: Option<(Moment, String)>,
    until: Option<Moment>,
    cause: String,
    owner: String,
    taken: Option<(String, Moment)>,
    host: Option<Host>,
    /// The token of the form that takes it, where there is somebody who may and something to take.
    take: Option<String>,
    alerts: Vec<Shown>,
    alerts_all: usize,
    alerts_more: usize,
    lines: Lines,
    told: Vec<ToldShown>,
    told_more: usize,
    why: Vec<String>,
}

#[derive(Debug)]
struct Host {
    href: String,
    name: String,
}

#[derive(Debug)]
struct Shown {
    rule: String,
    severity: &'static str,
    tone: &'static str,
    state: String,
    why: String,
    times: String,
    series: String,
    numbers: String,
    chart: Option<Chart>,
}

#[derive(Debug)]
struct ToldShown {
    at: Moment,
    channel: String,
    reason: String,
    fate: String,
}

/// `GET /incidents/{id}`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Response {
    let incident = match find_incident(&visit.state, &id) {
        Ok(incident) => incident,
        Err(failure) => return visit.failed(failure),
    };
    let (history, zone, now) = (
        Arc::clone(&visit.state.history),
        visit.zone.clone(),
        visit.at,
    );
    let (host, since) = (incident.host, incident.since);
    let around = (
        since.saturating_sub(AROUND).unwrap_or(Timestamp::MIN),
        since.saturating_add(AROUND).unwrap_or(Timestamp::MAX),
    );
    let before = visit.state.identity.merged_into(host);
    let read = move || Lines::read(&history, (host, &before), around, &zone, now);
    let read = tokio::task::spawn_blocking(read);
    let lines = read.await;
    let lines =
        lines.map_err(|_| unavailable("the log lines could not be read; see the server's log"));
    visit.answer(lines.map(|lines| draw(&visit, &incident, lines)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Taking {
    #[serde(default)]
    note: String,
}

/// `POST /incidents/{id}/ack`: the person who is logged in takes it.
pub(super) async fn acknowledge(
    visit: Visit,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    Form(taking): Form<Taking>,
) -> Response {
    let act = Act {
        by: String::new(),
        note: taking.note.trim().to_owned(),
    };
    match take(&visit.state, &id, &person, act).await {
        Ok(incident) => Redirect::to(&href(&incident.id)).into_response(),
        Err(failure) => visit.failed(failure),
    }
}

fn draw(visit: &Visit, incident: &Incident, lines: Lines) -> Page {
    let (zone, now) = (&visit.zone, visit.at);
    let id = term(&incident.id);
    let named = subject(&incident.name, incident.service.as_deref());
    let exact = |at| Moment::exact(at, zone);
    let person = visit
        .person
        .as_ref()
        .filter(|person| person.role >= Role::Operator);
    let open = incident.state != "closed";
    let host = visit
        .view
        .hosts
        .iter()
        .find(|host| host.id == incident.host);
    let mut shell = visit.shell(format!("{id} {named}"), "/incidents");
    shell.charts = true;
    let told_more = incident.told.len().saturating_sub(TOLD_MAX);
    Page {
        shell,
        subject: named,
        what: term(&incident.what),
        severity: severity(incident.severity),
        tone: tone(incident.severity),
        state: term(&incident.state),
        span: since(incident.since, incident.turned.as_ref(), zone, now),
        since: exact(incident.since),
        length: duration(seconds_between(
            incident.since,
            incident.until.unwrap_or(now),
        )),
        turned: incident
            .turned
            .as_ref()
            .map(|turned| (exact(turned.at), term(&turned.from))),
        until: incident.until.map(exact),
        cause: term(&incident.cause),
        owner: incident
            .owner
            .as_deref()
            .map_or_else(|| "nobody".to_owned(), term),
        taken: incident
            .taken
            .as_ref()
            .map(|(who, at)| (term(who), exact(*at))),
        host: host.map(|host| Host {
            href: super::host_href(&host.name),
            name: term(&host.name),
        }),
        take: person.filter(|_| open).map(|person| person.csrf.clone()),
        alerts: incident
            .alerts
            .iter()
            .take(ALERTS_MAX)
            .map(|alert| alert_shown(visit, alert))
            .collect(),
        alerts_all: incident.alerts.len(),
        alerts_more: incident.alerts.len().saturating_sub(ALERTS_MAX),
        lines,
        told: incident.told[told_more..]
            .iter()
            .map(|told| told_shown(visit, told))
            .collect(),
        told_more,
        why: incident.why.iter().map(|text| term(text)).collect(),
        id,
    }
}

fn alert_shown(visit: &Visit, alert: &Alert) -> Shown {
    let time = |at| when(at, &visit.zone, visit.at);
    let mut times = format!("since {}", time(alert.since));
    if let Some(fired) = alert.fired {
        times.push_str(&format!(", fired {}", time(fired)));
    }
    if let Some(until) = alert.until {
        times.push_str(&format!(", until {}", time(until)));
    }
    if alert.late {
        times.push_str(", found in late data");
    }
    Shown {
        rule: term(&alert.rule),
        severity: severity(alert.severity),
        tone: tone(alert.severity),
        state: term(&alert.state),
        why: term(&alert.why),
        times,
        series: term(&alert.series),
        numbers: format!(
            "now {}, worst {}, bound {}",
            number(alert.observed),
            number(alert.worst),
            number(alert.bound)
        ),
        chart: evidence(visit, alert),
    }
}

/// The samples around the start of an alert, the bound, and the span that it has lasted in them.
fn evidence(visit: &Visit, alert: &Alert) -> Option<Chart> {
    let (first, last) = (alert.evidence.first()?.0, alert.evidence.last()?.0);
    if alert.evidence.len() < 2 {
        return None;
    }
    let slots = alert.evidence.iter().map(|(at, value)| Slot {
        at_ms: at.as_millisecond(),
        value: value.is_finite().then_some((*value, *value)),
    });
    let plot = Plot {
        title: "Samples around its start".to_owned(),
        unit: unit(alert),
        from: first,
        to: last,
        lines: vec![Line {
            name: "observed".to_owned(),
            slots: slots.collect(),
        }],
        bound: Some(alert.bound),
        shades: vec![(alert.since, alert.until.unwrap_or(last))],
        top: None,
    };
    Some(Chart::new(&plot, &visit.zone, visit.at))
}

/// Rules judge shares and seconds more often than the series they read are named by.
fn unit(alert: &Alert) -> Unit {
    if alert.why.contains('%') && alert.bound.abs() <= 1.0 {
        return Unit::Ratio;
    }
    Unit::Count
}

fn told_shown(visit: &Visit, told: &Told) -> ToldShown {
    let fate = match told.at {
        Some(at) => format!("{} {}", term(&told.fate), when(at, &visit.zone, visit.at)),
        None => term(&told.fate),
    };
    let answer = match told.answer.as_str() {
        "" => String::new(),
        answer => format!(" ({})", term(answer)),
    };
    ToldShown {
        at: visit.moment(told.decided),
        channel: term(&told.channel),
        reason: term(&told.reason),
        fate: format!("{fate}{answer}"),
    }
}
