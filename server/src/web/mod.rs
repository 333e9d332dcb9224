//! Port 7440, and the Unix socket: one router for both, behind one guard.
//!
//! - [`access`]: the table of routes x roles.
//! - [`guard`]: what stands before every handler, and the headers of every answer.
//! - [`person`]: who asks, as handlers see it.
//! - [`listener`]: connections, TLS, their bounds and timeouts.
//! - [`tls`]: the page's own certificate.
//! - `page`: the pages.
//!
//! Invariants: nothing is served beyond loopback without encryption. A route without a row in the table is refused. A GET
//! changes nothing.

pub mod access;
pub mod guard;
pub mod listener;
mod page;
pub mod person;
pub mod tls;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::{Extension, Router, middleware};
use tokio::net::UnixListener;

use crate::api::{self, State};
use crate::config::WebSettings;
use guard::{Caller, Way};
use person::Person;

/// Largest request body: an act with a remark is far below it.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the guard works with.
#[derive(Debug)]
pub struct Web {
    /// What the handlers share.
    pub state: Arc<State>,
    /// What `[web]` sets.
    pub settings: WebSettings,
    /// Names that browsers may call this server by, in lower case.
    pub names: Vec<String>,
}

impl Web {
    /// Puts together what the guard works with; `names` are the machine's own.
    #[must_use]
    pub fn new(state: Arc<State>, settings: WebSettings, names: &[String]) -> Arc<Web> {
        let names = settings.names.iter().chain(names);
        let names = names.map(|name| name.to_ascii_lowercase()).collect();
        Arc::new(Web {
            state,
            settings,
            names,
        })
    }

    /// Who is logged in, if anybody is.
    fn person(&self, _headers: &HeaderMap, _caller: Caller) -> Option<Person> {
        None
    }
}

/// Everything that is answered, behind the guard.
pub fn router(web: &Arc<Web>) -> Router {
    api::router()
        .merge(page::router())
        .fallback(missing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(web),
            guard::guard,
        ))
        .with_state(Arc::clone(&web.state))
}

/// Serves the Unix socket until the server stops.
pub async fn serve_socket(listener: UnixListener, web: Arc<Web>) {
    let mut stopped = web.state.stopped.clone();
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let router = router(&web).layer(Extension(Way::Socket));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop);
    if let Err(error) = served.await {
        tracing::error!(%error, "API failed");
    }
}

async fn missing(uri: Uri) -> Response {
    page::missing(wants_json(uri.path()))
}

/// Whether who asks for this path reads JSON.
fn wants_json(path: &str) -> bool {
    path.starts_with("/api/")
}
