//! How the server itself is: alive, ready, and in numbers for whoever gathers them.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dawnwatch_engine::vitals::VitalSign;
use dawnwatch_proto::Kind;

use crate::api::State;

/// The view is published every second; one older than this says that the watch or the journal before it stands still.
const STEP_MS_MAX: i64 = 5_000;

/// An input that waits longer than this for the disk is acknowledged to nobody: agents hold what they measure.
const LAG_MS_MAX: u64 = 5_000;

/// The routes; each has its row in [`super::access::ROUTES`].
pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn alive() -> &'static str {
    "alive\n"
}

/// Ready is: what comes in is judged. The body says what is not.
async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let (age_ms, lag_ms) = (step_age_ms(&state), state.gauges.lag_ms());
    let wrong = if state.published.halted() {
        "the disk is full: nothing is taken in or judged until there is room\n".to_owned()
    } else if state.published.reserve().is_given() {
        "the disk is full: nothing is taken in from agents until there is room; judging goes on\n"
            .to_owned()
    } else if lag_ms > LAG_MS_MAX {
        format!(
            "the disk is slow or stands still: what came in waits for it since {} s\n",
            lag_ms / 1_000
        )
    } else if age_ms > STEP_MS_MAX {
        format!("nothing was judged for {} s\n", age_ms / 1_000)
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, wrong).into_response()
}

fn step_age_ms(state: &State) -> i64 {
    let judged = state.published.view().now.at.as_millisecond();
    (state.clock.wall().as_millisecond() - judged).max(0)
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let read = tokio::task::spawn_blocking(move || text(&state)).await;
    match read {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text(state: &State) -> String {
    let view = state.published.view();
    let mut out = Exposition::default();
    let age = step_age_ms(state) as f64 / 1_000.0;
    out.gauge("judged_age_seconds", "Age of the last judged input.", age);
    let position = *state.published.follow().borrow();
    out.counter(
        "inputs_judged_total",
        "Inputs judged since the first start.",
        position as f64,
    );
    let halted = f64::from(u8::from(state.published.halted()));
    out.gauge("halted", "1 while a full disk holds everything up.", halted);
    let refusing = f64::from(u8::from(state.published.reserve().is_given()));
    out.gauge(
        "refusing",
        "1 while a full disk keeps the server from taking in what agents bring.",
        refusing,
    );
    out.gauge("hosts", "Hosts that are joined.", f64::from(view.now.hosts));
    out.gauge(
        "hosts_live",
        "Hosts heard from in the last 30 seconds.",
        f64::from(view.now.hosts_live),
    );
    out.gauge(
        "incidents_open",
        "Incidents that are open or taken.",
        view.now.open.len() as f64,
    );
    for one in state.gauges.read().measures() {
        out.series(&one);
    }
    out.0
}

/// Prometheus' text form. Names and texts are ours alone, so nothing is escaped.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.sample("gauge", name, help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.sample("counter", name, help, value);
    }

    fn sample(&mut self, kind: &str, name: &str, help: &str, value: f64) {
        let name = format!("dawnwatch_server_{name}");
        self.describe(kind, &name, help);
        self.value(&name, value);
    }

    /// A series of the server's own; those that differ in labels alone follow each other and are described once.
    fn series(&mut self, one: &VitalSign) {
        let kind = match one.series.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let name = &one.series.name;
        if !self.0.contains(&format!("# TYPE {name} ")) {
            self.describe(kind, name, one.help);
        }
        self.value(&one.series.to_string(), one.series.value(one.raw));
    }

    fn describe(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, series: &str, value: f64) {
        let _ = writeln!(self.0, "{series} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_prometheus() {
        let mut out = Exposition::default();
        out.gauge("hosts", "Hosts.", 42.0);
        out.counter("inputs_judged_total", "Inputs.", 1.5);
        assert_eq!(
            out.0,
            "# HELP dawnwatch_server_hosts Hosts.\n# TYPE dawnwatch_server_hosts gauge\ndawnwatch_server_hosts 42\n\
             # HELP dawnwatch_server_inputs_judged_total Inputs.\n# TYPE dawnwatch_server_inputs_judged_total counter\n\
             dawnwatch_server_inputs_judged_total 1.5\n"
        );
    }
}
