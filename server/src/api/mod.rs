//! The JSON API, on a Unix socket in the data directory and on the port for people. Who may open the socket (root, or the
//! server's own user) needs no login; [`crate::web`] says who may do what. Reads come from the published view and from
//! history; acts go to the journal like everything else.
//!
//! The requests are listed in [`dawnwatch_proto::api`].

pub(crate) mod answer;
mod fleet;
mod history;
mod hosts;
mod logs;
pub mod points;
pub(crate) mod read;
mod search;
pub(crate) mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::handout::Handout;
use crate::history::History;
use crate::identity::Identity;
use crate::index::{Index, Poke};
use crate::journal::Submit;
use crate::published::Published;
use crate::targets::Targets;
use crate::vitals::Gauges;

pub(crate) use answer::{Answer, Body, Failure, failure};

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct State {
    /// The data directory.
    pub data: PathBuf,
    /// What time it is.
    pub clock: Clock,
    /// Points come from here.
    pub history: Arc<History>,
    /// Finds what is no longer in the view.
    pub index: Arc<Index>,
    /// Knows how far the ledger goes.
    pub poke: Arc<Poke>,
    /// What the server measures of itself.
    pub gauges: Arc<Gauges>,
    /// Everything else that is read.
    pub published: Arc<Published>,
    /// Tokens.
    pub identity: Arc<Identity>,
    /// Who pings whom.
    pub targets: Arc<Targets>,
    /// Acts go here.
    pub journal: mpsc::Sender<Submit>,
    /// Turns true when the server stops.
    pub stopped: watch::Receiver<bool>,
    /// The address to print in a join command.
    pub agents: String,
    /// The agent for hosts that have none.
    pub handout: Arc<Handout>,
}

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}: {source}", path.display())]
pub struct BindError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the socket, for root and the server's own user alone. The data directory is locked and closed to others, so a
/// socket that lies there is a dead one, and nobody can open the new one before its mode is set.
///
/// # Errors
/// What the system says.
pub fn bind(data: &Path) -> Result<UnixListener, BindError> {
    let path = data.join("api.sock");
    let bound = (|| {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(listener)
    })();
    bound.map_err(|source| BindError { path, source })
}

/// The routes of the API; each has its row in [`crate::web::access::ROUTES`].
pub fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v1/now", get(read::now))
        .route("/api/v1/hosts", get(read::hosts))
        .route("/api/v1/hosts/missing", get(read::missing))
        .route("/api/v1/hosts/import", post(hosts::import))
        .route("/api/v1/hosts/{name}/label", post(hosts::label))
        .route("/api/v1/hosts/{name}/rename", post(hosts::rename))
        .route("/api/v1/hosts/{name}/retire", post(hosts::retire))
        .route("/api/v1/hosts/{name}/erase", post(hosts::erase))
        .route("/api/v1/hosts/{name}/merge", post(hosts::merge))
        .route("/api/v1/hosts/{name}/forget", post(hosts::forget))
        .route("/api/v1/series", get(read::series))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/fleet", get(fleet::fleet))
        .route("/api/v1/incidents", get(read::incidents))
        .route("/api/v1/incidents/{id}", get(read::incident))
        .route("/api/v1/incidents/{id}/ack", post(write::acknowledge))
        .route("/api/v1/search", get(search::search))
        .route("/api/v1/review", get(read::review))
        .route("/api/v1/nights", get(read::nights))
        .route("/api/v1/nights/{id}/evidence", get(read::evidence))
        .route("/api/v1/rules", get(read::rules))
        .route("/api/v1/net", get(read::net))
        .route("/api/v1/logs", get(logs::lines))
        .route("/api/v1/templates", get(logs::templates))
        .route(
            "/api/v1/tokens",
            get(write::tokens).post(write::create_token),
        )
}
