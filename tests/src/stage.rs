//! A server and agents, each behind a proxy of its own that reads acknowledgements off the wire, to be broken.
//!
//! Everything that they must not lose lies in one directory; logs and what the proxies need lie in another, so that the first
//! may be a filesystem of its own that breaks.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::chaos::Chaos;
use crate::house::{Agent, Ended, Server, ServerOptions};
use crate::oracle::{self, Found};
use crate::proxy::Proxy;
use crate::wait::until_true;

/// Ticks come this often: a hundred times the usual pace, so that a fault hits something.
const TICK_MS: u64 = 100;

/// What must come within a few ticks and some back-off.
pub const SOON: Duration = Duration::from_secs(60);

/// What is durable can be read within this, on a machine that has much else to do.
const READABLE_WITHIN: Duration = Duration::from_secs(10);

/// An agent and the proxy that it speaks through.
#[derive(Debug)]
pub struct Guest {
    /// The agent.
    pub agent: Agent,
    /// Its proxy.
    pub proxy: Proxy,
    /// The network on both sides of the proxy, where it may turn bad.
    pub net: Option<Net>,
}

/// The network between an agent and the server.
#[derive(Debug)]
pub struct Net {
    /// Between the agent and the proxy that reads acknowledgements: what is lost here, the oracle knows to be acknowledged.
    pub near: Chaos,
    /// Between that proxy and the server.
    pub far: Chaos,
}

impl Net {
    /// Both sides.
    #[must_use]
    pub fn sides(&self) -> [&Chaos; 2] {
        [&self.near, &self.far]
    }
}

impl Guest {
    /// Ticks that were acknowledged.
    #[must_use]
    pub fn acked(&self) -> usize {
        let seen = self.proxy.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
            .acked_ticks()
            .len()
    }
}

/// The server and its guests.
#[derive(Debug)]
pub struct Stage {
    /// None while it is down.
    pub server: Option<Server>,
    /// The agents and their proxies.
    pub guests: Vec<Guest>,
    /// How the server was started first: where it listens ever after.
    options: ServerOptions,
    data: std::path::PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Stage {
    /// Starts a server, and joins and starts so many agents. `keep` must not break; what lies in `house` may.
    ///
    /// # Panics
    /// Where one does not start.
    #[must_use]
    pub fn start(keep: &Path, house: &Path, agents: usize) -> Stage {
        Stage::start_over(keep, house, agents, None)
    }

    /// The same over a network that may turn bad, in ways that a seed decides; the weather is good at first.
    ///
    /// # Panics
    /// As [`Stage::start`] does.
    #[must_use]
    pub fn start_over(keep: &Path, house: &Path, agents: usize, seed: Option<u64>) -> Stage {
        let data = place(keep, house, "server");
        let server = Server::start(&data, &ServerOptions::default());
        let options = ServerOptions {
            listen: Some(server.address),
            ..ServerOptions::default()
        };
        let token = server.token(u32::try_from(agents.max(1)).expect("a few agents"));
        let identity = keep.join("server.identity");
        copy_files(&data.join("identity"), &identity);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let guests = (1..=agents).map(|number| {
            let name = format!("web{number:02}");
            let state = place(keep, house, &name);
            let mut agent = Agent::join(&state, &name, server.address, &token.join);
            let copy = keep.join(format!("{name}.identity"));
            copy_files(&state, &copy);
            let seed = seed.map(|seed| seed ^ u64::try_from(number << 32).unwrap_or(0));
            let (proxy, net) = runtime.block_on(async {
                let Some(seed) = seed else {
                    return (Proxy::start(server.address, &identity, &copy).await, None);
                };
                let far = Chaos::start(server.address, seed).await;
                let proxy = Proxy::start(far.address, &identity, &copy).await;
                let near = Chaos::start(proxy.address, !seed).await;
                (proxy, Some(Net { near, far }))
            });
            let at = net.as_ref().map_or(proxy.address, |net| net.near.address);
            agent.configure(TICK_MS, &format!("servers = [\"{at}\"]"));
            agent.start();
            Guest { agent, proxy, net }
        });
        let guests = guests.collect();
        let stage = Stage {
            server: Some(server),
            guests,
            options,
            data,
            runtime: Some(runtime),
        };
        stage.await_acks(&vec![0; agents]);
        stage
    }

    /// The server, which must be up.
    ///
    /// # Panics
    /// Where it is down.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server is up")
    }

    /// Starts the server, through these words before it.
    ///
    /// # Errors
    /// How it ended before it was ready.
    pub fn start_server(&mut self, through: Vec<String>) -> Result<(), Ended> {
        let options = ServerOptions {
            through,
            ..self.options.clone()
        };
        self.server = Some(Server::try_start(&self.data, &options)?);
        Ok(())
    }

    /// Kills the server with SIGKILL.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Stops the server with SIGTERM, however it ends.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn stop_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop();
        }
    }

    /// Ticks acknowledged to each.
    #[must_use]
    pub fn acked(&self) -> Vec<usize> {
        self.guests.iter().map(Guest::acked).collect()
    }

    /// Waits until each has more acknowledged than this.
    ///
    /// # Panics
    /// Where that does not come.
    pub fn await_acks(&self, before: &[usize]) {
        until_true("an acknowledgement for each agent", SOON, || {
            self.acked()
                .iter()
                .zip(before)
                .all(|(now, then)| now > then)
        });
    }

    /// Compares all that was acknowledged with what the server has. What is acknowledged is durable; that it can be read may take
    /// the watch a moment longer.
    ///
    /// # Panics
    /// Where history does not answer.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a test waits by the real clock")]
    pub fn check(&self) -> Found {
        let end = Instant::now() + READABLE_WITHIN;
        loop {
            let found = self.check_now();
            if found.is_good() || Instant::now() > end {
                return found;
            }
        }
    }

    /// Compares at this moment.
    ///
    /// # Panics
    /// Where history does not answer.
    #[must_use]
    pub fn check_now(&self) -> Found {
        let mut found = Found::default();
        for Guest { agent, proxy, .. } in &self.guests {
            let seen = proxy.seen.lock().unwrap_or_else(PoisonError::into_inner);
            found.add(oracle::check(&seen, self.server(), &agent.name));
        }
        found
    }

    /// Ends a campaign: waits until each agent is served again, stops them, and compares. A goodbye is acknowledged at once, and all
    /// that came before it.
    ///
    /// # Panics
    /// Where an agent is not served, does not stop, or history does not answer.
    #[must_use]
    pub fn settle(&mut self) -> Found {
        self.await_acks(&self.acked());
        for guest in &mut self.guests {
            guest.agent.stop();
        }
        self.check()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server = None;
        self.guests.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A name in `keep` for a directory in `house`: what is written beside a data directory stays in `keep`.
fn place(keep: &Path, house: &Path, name: &str) -> std::path::PathBuf {
    let (at, real) = (keep.join(name), house.join(name));
    if at != real {
        fs::create_dir_all(&real).expect("a directory");
        std::os::unix::fs::symlink(&real, &at).expect("a link");
    }
    at
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("an identity") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
