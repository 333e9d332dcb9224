//! Port 7440, and the Unix socket: one router for both, behind one guard.
//!
//! - [`access`]: the table of routes x roles.
//! - [`guard`]: what stands before every handler, and the headers of every answer.
//! - [`person`]: who asks, as handlers see it.
//! - [`listener`]: connections, TLS, their bounds and timeouts.
//! - [`tls`]: the page's own certificate.
//! - `login`, `form`, `cookie`: logging in and out, one-time links. [`session`], [`throttle`]: the memory behind it, pure.
//! - `people`: people by the API. `health`: the server itself in numbers.
//! - `page`: the pages.
//!
//! Invariants: nothing is served beyond loopback without encryption. A route without a row in the table is refused. A GET
//! changes nothing.

pub mod access;
mod cookie;
mod form;
pub mod guard;
mod health;
pub mod listener;
mod login;
mod page;
mod people;
pub mod person;
pub mod session;
pub mod throttle;
pub mod tls;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use axum::{Extension, Router, middleware};
use dawnwatch_engine::input::{Act, Input, Order};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::api::{self, State};
use crate::config::WebSettings;
use crate::identity::people::{Code, People};
use crate::journal::Submit;
use cookie::Cookie;
use guard::{Caller, Way};
use person::Person;
use session::Sessions;
use throttle::Throttle;

/// Largest request body: an act with a remark is far below it.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What guard and logins work with.
#[derive(Debug)]
pub struct Web {
    /// What the handlers share.
    pub state: Arc<State>,
    /// What `[web]` sets.
    pub settings: WebSettings,
    /// Names that browsers may call this server by, in lower case.
    pub names: Vec<String>,
    /// Who may log in.
    pub people: Arc<People>,
    /// How people reach the page; none where it is off.
    pub site: Option<Site>,
    /// Tells this server's cookies from those of others.
    mark: String,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    hashes: Arc<Semaphore>,
}

/// How people reach the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The first page, ending in a slash.
    pub url: String,
    /// What to run first where it listens on loopback alone.
    pub tunnel: Option<String>,
}

impl Site {
    /// A one-time link.
    #[must_use]
    pub fn link(&self, code: &Code) -> String {
        format!("{}setup?code={}", self.url, code.text)
    }
}

impl Web {
    /// Puts together what the guard works with; `names` are the machine's own.
    #[must_use]
    pub fn new(
        state: Arc<State>,
        settings: WebSettings,
        names: &[String],
        people: Arc<People>,
        site: Option<Site>,
    ) -> Arc<Web> {
        let names = settings.names.iter().chain(names);
        let names = names.map(|name| name.to_ascii_lowercase()).collect();
        let mark = data_encoding::HEXLOWER.encode(&state.identity.pin()[..4]);
        Arc::new(Web {
            state,
            settings,
            names,
            people,
            site,
            mark,
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            hashes: Arc::new(Semaphore::new(login::HASHES)),
        })
    }

    /// Who is logged in, if anybody is: by a token for scripts, else by a browser's session.
    fn person(&self, headers: &HeaderMap, caller: Caller) -> Option<Person> {
        if let Some(bearer) = headers.get(header::AUTHORIZATION) {
            let token = bearer.to_str().ok()?.strip_prefix("Bearer ")?;
            let person = self.people.of_token(token.trim())?;
            return Some(Person {
                id: person.id,
                name: person.name,
                role: person.role,
                csrf: String::new(),
            });
        }
        let secret = Cookie::Session.read(headers, &self.mark, caller.secure)?;
        let session = self.sessions().used(&secret, self.state.clock.boot_ms())?;
        let person = self.people.get(&session.person);
        let person = person.filter(|person| {
            person.generation == session.generation && person.role == session.role
        });
        let Some(person) = person else {
            self.sessions().end(&secret);
            return None;
        };
        Some(Person {
            id: person.id,
            name: person.name,
            role: person.role,
            csrf: session.csrf,
        })
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes in the ledger, through the journal, what somebody did. Where the journal is far behind, the server's log has it.
    pub fn note(&self, by: &str, about: &str, what: String) {
        tracing::info!(by, about, what, "people");
        let order = Order {
            by: by.to_owned(),
            act: Act::Noted {
                about: about.to_owned(),
                what,
            },
        };
        let input = Submit::Input(Box::new(Input::Order(order)), None);
        if self.state.journal.try_send(input).is_err() {
            tracing::warn!(
                by,
                about,
                "the journal is behind: what a person did is in this log alone"
            );
        }
    }

    /// Notes wrong passwords since the last call, together.
    pub fn note_failures(&self) {
        let told = self.throttle().untold();
        for failures in told {
            let whom = if failures.person.is_some() {
                ""
            } else {
                " for unknown names"
            };
            let what = format!(
                "{} wrong passwords{whom} from {}",
                failures.count, failures.address
            );
            self.note("server", failures.person.as_deref().unwrap_or(""), what);
        }
    }
}

/// Everything that is answered, behind the guard.
pub fn router(web: &Arc<Web>) -> Router {
    api::router()
        .merge(page::router())
        .merge(login::router())
        .merge(people::router())
        .merge(health::router())
        .fallback(missing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(web),
            guard::guard,
        ))
        .layer(Extension(Arc::clone(web)))
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

async fn missing(visit: page::Visit, uri: Uri) -> Response {
    page::missing(&visit, wants_json(uri.path()))
}

/// Whether who asks for this path reads JSON.
fn wants_json(path: &str) -> bool {
    path.starts_with("/api/") || ["/healthz", "/readyz", "/metrics"].contains(&path)
}
