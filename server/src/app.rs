//! Knows all rooms: starts them in order, stops them in the other.

mod start;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::input::{Input, Notice};
use dawnwatch_proto::pb::enrolment_server::EnrolmentServer;
use dawnwatch_proto::untrusted::term;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as tokio_watch};

use crate::clock::{Clock, Stamper};
use crate::config::Settings;
use crate::history::History;
use crate::identity::{self, Enrolment, Identity, Limits};
use crate::ingest::Ingest;
use crate::journal::{self, Journal, Submit};
use crate::notify::{self, Outbox};
use crate::published::Published;
use crate::watch::{self, Recovered, Tools};
use crate::{api, nights};

pub use start::{Failed, Options, Ready, load_settings};

/// Streams that are told to drain get this long to take their last acknowledgement.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Sends under way may end within this when the server stops; the rest goes out after the next start.
const OUTBOX_WITHIN: Duration = Duration::from_secs(2);

/// A join request is a CSR and a few names.
const ENROLMENT_BYTES_MAX: usize = 64 * 1024;

/// The engine is told that time passes this often: a silent host is noticed within its bound and this.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// The server's own certificate is looked at this often.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// The running server, as its parts share it.
struct Running {
    options: Options,
    clock: Clock,
    identity: Arc<Identity>,
    journal: mpsc::Sender<Submit>,
    outbox: Arc<Mutex<Outbox>>,
}

/// Runs the server until it is told to stop. `ready` is called with the bound address once agents can connect.
///
/// # Errors
/// [`Failed`] says what could not be done and what to do; its exit code is that of sysexits.
pub async fn run(options: Options, ready: impl FnOnce(&start::Ready)) -> Result<(), Failed> {
    let clock = Clock;
    let _lock = start::lock(&options.data)?;
    let settings = load_settings(&options)?;
    let (listener, address) = start::bind(options.listen.unwrap_or(settings.listen)).await?;
    let names = start::names(&options, &settings);
    let (tx, rx) = mpsc::channel(journal::QUEUE);
    let (identity, first) = Identity::open(&options.data.join("identity"), clock.wall(), &names)?;
    let identity = Arc::new(identity);
    let outbox = start::outbox(&settings, &tx)?;
    let disk: Arc<dyn dawnwatch_segment::Disk> = Arc::new(dawnwatch_segment::RealDisk);
    // Before recovery: opening cuts off a torn tail, which was never acknowledged.
    let (log, _) = journal::open(&disk, &options.data)?;
    let (recovered, history, published, release) = start::recover(&options, &outbox, &tx)?;
    let Recovered {
        watch,
        held,
        at,
        damage,
        replayed,
        ..
    } = recovered;
    if replayed > 0 {
        tracing::info!(inputs = replayed, "journal replayed");
    }
    watch.send_pending();
    let (groups, inbox) = std_mpsc::sync_channel(journal::GROUPS);
    let stamper = Stamper::after(at, clock.wall(), clock.boot_ms());
    let journal = Journal {
        log,
        stamper,
        held,
        clock,
        groups,
    };
    let (failed, mut failure) = mpsc::channel(2);
    let threads = [
        spawn("journal", failed.clone(), move || {
            journal.run(rx, &release).map_err(Failed::from)
        })?,
        spawn("watch", failed, move || {
            watch.run(&inbox).map_err(Failed::from)
        })?,
    ];
    start::introduce(&options, &settings, &identity, &tx, at, damage).await;

    let running = Running {
        options,
        clock,
        identity,
        journal: tx,
        outbox,
    };
    let (stop, stopped) = tokio_watch::channel(false);
    let api = running.api(&history, &published, stopped.clone(), address, &names)?;
    let agents = running.agents(listener, stopped)?;
    let pin = data_encoding::HEXUPPER.encode(&running.identity.pin());
    ready(&start::Ready {
        address,
        names,
        first,
        pin,
    });
    let ended = running.until_stopped(&mut failure).await;
    let _ = stop.send(true);
    // Connections that do not end in time are cut: what they had not acknowledged comes again.
    let _ = tokio::time::timeout(DRAIN_WITHIN, agents).await;
    api.abort();
    running.shut_down(threads, &mut failure, ended).await
}

impl Running {
    /// Serves the JSON API on its Unix socket.
    fn api(
        &self,
        history: &Arc<History>,
        published: &Arc<Published>,
        stopped: tokio_watch::Receiver<bool>,
        address: SocketAddr,
        names: &[String],
    ) -> Result<tokio::task::JoinHandle<()>, Failed> {
        let state = api::State {
            data: self.options.data.clone(),
            clock: self.clock,
            history: Arc::clone(history),
            published: Arc::clone(published),
            identity: Arc::clone(&self.identity),
            journal: self.journal.clone(),
            stopped,
            agents: start::dial(address, names),
        };
        let socket = api::bind(&self.options.data)?;
        Ok(tokio::spawn(api::serve(socket, state)))
    }

    /// Serves the agents' port.
    fn agents(
        &self,
        listener: TcpListener,
        stopped: tokio_watch::Receiver<bool>,
    ) -> Result<tokio::task::JoinHandle<()>, Failed> {
        let telemetry = Ingest::new(
            Arc::clone(&self.identity),
            self.journal.clone(),
            stopped.clone(),
        );
        let now: identity::Now = Arc::new(|| Clock.wall());
        let journal = self.journal.clone();
        // Called off the sockets' threads: it may wait for the journal.
        let joined: identity::join::OnHost = Box::new(move |host| {
            let _ = journal.blocking_send(Submit::Input(
                Box::new(Input::Host(start::card(host))),
                None,
            ));
        });
        let enrolment = Enrolment::new(Arc::clone(&self.identity), Arc::clone(&now), joined);
        let enrolment =
            EnrolmentServer::new(enrolment).max_decoding_message_size(ENROLMENT_BYTES_MAX);
        let incoming = identity::incoming(
            listener,
            self.identity.server_config(now)?,
            Limits::default(),
        );
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .max_concurrent_streams(Some(4))
            .initial_stream_window_size(Some(256 * 1024))
            .initial_connection_window_size(Some(256 * 1024))
            .add_service(telemetry.into_service())
            .add_service(enrolment);
        Ok(tokio::spawn(async move {
            let mut stopped = stopped;
            let stop = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop).await {
                tracing::error!(%error, "agents' port failed");
            }
        }))
    }

    /// Lets time pass until a signal or a room that failed ends it.
    async fn until_stopped(
        &self,
        failure: &mut mpsc::Receiver<Result<(), Failed>>,
    ) -> Result<(), Failed> {
        let listen = |kind| signal(kind).map_err(Failed::signals);
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut renewals = tokio::time::interval(RENEW_EVERY);
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => self.reload(),
                Some(ended) = failure.recv() => return ended,
                _ = ticks.tick() => submit_soon(&self.journal, Input::Tick),
                _ = renewals.tick() => self.renew(),
            }
        }
    }

    /// Takes up a changed configuration; a broken one leaves the old one in force, and a finding says so.
    fn reload(&self) {
        match load_settings(&self.options) {
            Ok(settings) => {
                let outbox = self
                    .outbox
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .replace_channels(&settings.channels);
                if let Err(error) = outbox {
                    tracing::error!(%error, "channels not taken up");
                }
                submit_soon(&self.journal, Input::Config(Box::new(settings.engine)));
                submit_soon(&self.journal, notice("config", String::new()));
                tracing::info!("configuration taken up");
            }
            Err(error) => {
                tracing::warn!(%error, "configuration not taken up, the old one stays in force");
                let text =
                    format!("configuration not taken up, the old one stays in force: {error}");
                submit_soon(&self.journal, notice("config", text));
            }
        }
    }

    fn renew(&self) {
        if let Err(error) = self.identity.renew_if_due(self.clock.wall()) {
            tracing::error!(%error, "own certificate not renewed");
            submit_soon(&self.journal, notice("certificate", error.to_string()));
        }
    }

    /// Stops journal, watch and outbox in this order; a clean stop leaves its mark.
    async fn shut_down(
        self,
        threads: [JoinHandle<()>; 2],
        failure: &mut mpsc::Receiver<Result<(), Failed>>,
        ended: Result<(), Failed>,
    ) -> Result<(), Failed> {
        let _ = self.journal.send(Submit::Stop).await;
        let Running {
            outbox,
            options,
            journal,
            ..
        } = self;
        drop(journal);
        let joined = tokio::task::spawn_blocking(move || threads.map(JoinHandle::join));
        let _ = joined.await;
        let mut ended = ended;
        while let Ok(result) = failure.try_recv() {
            ended = ended.and(result);
        }
        if let Some(outbox) = Arc::into_inner(outbox) {
            let outbox = outbox.into_inner().unwrap_or_else(PoisonError::into_inner);
            let _ = outbox.stop(OUTBOX_WITHIN);
        }
        if ended.is_ok() {
            start::mark_clean(&options.data)?;
        }
        ended
    }
}

/// Hands an input to the journal without waiting: time that passes and findings are never worth a stall.
fn submit_soon(journal: &mpsc::Sender<Submit>, input: Input) {
    if let Err(mpsc::error::TrySendError::Full(_)) =
        journal.try_send(Submit::Input(Box::new(input), None))
    {
        tracing::debug!("journal is behind, an input of the server itself was left out");
    }
}

fn notice(subject: &str, text: String) -> Input {
    Input::Server(Notice {
        subject: subject.to_owned(),
        text: term(&text),
        critical: false,
    })
}

/// Starts a room's thread; its end, good or bad, is told.
fn spawn(
    name: &str,
    ended: mpsc::Sender<Result<(), Failed>>,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Result<JoinHandle<()>, Failed> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        let result = run();
        // The app may have stopped listening already.
        let _ = ended.blocking_send(result);
    });
    spawned.map_err(|source| Failed::thread(name, source))
}
