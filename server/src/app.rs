//! Knows all rooms: starts them in order, stops them in the other.

mod background;
mod directory;
mod inputs;
mod reload;
mod signals;
mod start;
mod web;

pub(crate) use inputs::card;
use inputs::{notice, submit_soon};

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::input::Input;
use dawnwatch_proto::pb::enrolment_server::EnrolmentServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as tokio_watch};
use tonic::service::Routes;

use crate::clock::{Clock, Stamper};
use crate::config::{Settings, WebSettings};
use crate::handout::{self, Handout};
use crate::history::History;
use crate::identity::people::People;
use crate::identity::{self, Enrolment, Identity, Limits};
use crate::index::{Index, Poke};
use crate::ingest::Ingest;
use crate::journal::{self, Journal, Submit, Written};
use crate::notify::{self, Outbox};
use crate::published::Published;
use crate::reserve::Reserve;
use crate::targets::Targets;
use crate::vitals::Gauges;
use crate::watch::{self, Recovered, Tools, Watch};
use crate::web::Web;
use crate::{api, nights};

pub use directory::hold;
use signals::Signals;
pub use start::{Failed, Options, Page, Ready, load_settings};

/// Streams that are told to drain get this long to take their last acknowledgement.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Sends under way may end within this when the server stops, while streams drain; the rest goes out after the next start.
const OUTBOX_WITHIN: Duration = Duration::from_secs(2);

/// Journal and watch get this long for what has come in and the last checkpoint, a fraction of a second as a rule. What they
/// do not finish is replayed at the next start.
const ROOMS_WITHIN: Duration = Duration::from_secs(30);

/// A stream that says nothing for this long is asked whether it is there. Longer than a tick, so that a quiet agent is never
/// asked, for each question and its answer weigh as much as half a tick.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long the answer may take: a dead connection is noticed within 20 seconds.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// A join request is a CSR and a few names.
const ENROLMENT_BYTES_MAX: usize = 64 * 1024;

/// The engine is told that time passes this often: a silent host is noticed within its bound and this.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// The server looks at itself this often, as hosts do.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The server's own certificate is looked at this often.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// The running server, as its parts share it.
struct Running {
    options: Options,
    clock: Clock,
    identity: Arc<Identity>,
    journal: mpsc::Sender<Submit>,
    outbox: SharedOutbox,
    handout: Arc<Handout>,
    targets: Arc<Targets>,
    /// Tells the watch not to wait for anything any more.
    stopping: Arc<AtomicBool>,
    index: Arc<Index>,
    poke: Arc<Poke>,
    gauges: Arc<Gauges>,
}

/// The outbox; none once it was stopped: what is decided after that is sent after the next start.
type SharedOutbox = Arc<Mutex<Option<Outbox>>>;

/// Runs the server until it is told to stop. `ready` is called with the bound address once agents can connect.
///
/// # Errors
/// [`Failed`] says what could not be done and what to do; its exit code is that of sysexits.
#[allow(
    clippy::too_many_lines,
    reason = "the rooms in the order in which they start: parted, it would be read across files"
)]
pub async fn run(options: Options, ready: impl FnOnce(&start::Ready)) -> Result<(), Failed> {
    let clock = Clock;
    // Whoever asks for a reload while this starts gets one after it; unheard, the signal would end the process.
    let hang_up = signals::hang_up()?;
    let _lock = directory::lock(&options.data)?;
    let missing = directory::begin(&options.data, clock.wall())?;
    let settings = load_settings(&options)?;
    let (listener, address) = start::bind(options.listen.unwrap_or(settings.listen)).await?;
    let port = web::Port::bind(&options, &settings).await?;
    let names = start::names(&options, &settings);
    let (tx, rx) = mpsc::channel(journal::QUEUE);
    let (identity, first) = Identity::open(&options.data.join("identity"), clock.wall(), &names)?;
    let identity = Arc::new(identity);
    let outbox = start::outbox(&settings, &tx)?;
    // Before anything is written: it may be what makes room for that.
    let reserve = Arc::new(Reserve::open(&options.data));
    let disk: Arc<dyn dawnwatch_segment::Disk> = Arc::new(dawnwatch_segment::RealDisk);
    // Before recovery: opening cuts off a torn tail, which was never acknowledged.
    let (log, _) = journal::open(&disk, &options.data)?;
    let (groups, inbox) = std_mpsc::sync_channel(journal::GROUPS);
    let rooms = start::recover(&options, &outbox, &tx, log.next_position(), &reserve)?;
    let start::Rooms {
        recovered,
        history,
        published,
        release,
        stopping,
        index,
        poke,
        gauges,
    } = rooms;
    let (at, damage) = (recovered.at, [recovered.damage, missing].concat());
    let journal = Journal {
        log,
        stamper: Stamper::after(at, clock.wall(), clock.boot_ms()),
        held: recovered.held,
        clock,
        groups,
        refusing: false,
        gauges: Arc::clone(&gauges),
        reserve,
    };
    recovered.watch.send_pending();
    let mut threads = Threads::start(journal, rx, release, recovered.watch, inbox)?;
    let mut signals = Signals::listen(hang_up)?;
    start::introduce(&options, &settings, &identity, &tx, at, damage).await;
    threads.running.extend(background::start(background::With {
        disk: &disk,
        data: &options.data,
        history: &history,
        index: &index,
        identity: &identity,
        journal: &tx,
        stopping: &stopping,
    })?);

    let targets = Targets::new(Arc::clone(&identity), Arc::clone(&published));
    targets.configure(&settings.engine.targets, settings.pinger.as_deref());
    let running = Running {
        options,
        clock,
        identity,
        journal: tx,
        outbox,
        handout: Arc::new(Handout::new(settings.agent_binary)),
        targets: Arc::new(targets),
        stopping,
        index,
        poke,
        gauges,
    };
    let (stop, stopped) = tokio_watch::channel(false);
    let state = running.state(&history, &published, &stopped, address, &names);
    let people = running.people(port, state, settings.web, &names)?;
    let agents = running.agents(listener, Arc::clone(&published), stopped)?;
    tracing::info!(%address, hosts = running.identity.hosts().len(), "ready");
    ready(&start::Ready {
        offer: start::offer(&running.handout).await,
        address,
        names,
        first,
        pin: data_encoding::HEXUPPER.encode(&running.identity.pin()),
        web: people.page.clone(),
    });
    let ended = running
        .until_stopped(&mut threads.failure, &mut signals)
        .await;
    tracing::info!("stopping");
    // While the journal still takes it.
    people.web.note_failures();
    let _ = stop.send(true);
    running.stopping.store(true, Ordering::Relaxed);
    let ended = tokio::select! {
        ended = running.shut_down(threads, ended, agents) => ended,
        () = signals.end() => return Err(Failed::Cut),
    };
    people.end();
    ended
}

/// What serves people.
struct Served {
    web: Arc<crate::web::Web>,
    api: tokio::task::JoinHandle<()>,
    port: tokio::task::JoinHandle<()>,
    page: Option<Page>,
}

impl Served {
    fn end(&self) {
        self.api.abort();
        self.port.abort();
    }
}

/// The threads of journal, watch and whoever erases.
struct Threads {
    running: Vec<JoinHandle<()>>,
    /// Where their end is told.
    failure: mpsc::Receiver<Result<(), Failed>>,
}

impl Threads {
    fn start(
        journal: Journal,
        inbox: mpsc::Receiver<Submit>,
        release: journal::Release,
        watch: Watch,
        groups: std_mpsc::Receiver<Written>,
    ) -> Result<Threads, Failed> {
        let (failed, failure) = mpsc::channel(2);
        let running = vec![
            spawn("journal", failed.clone(), move || {
                journal.run(inbox, &release).map_err(Failed::from)
            })?,
            spawn("watch", failed, move || {
                watch.run(&groups).map_err(Failed::from)
            })?,
        ];
        Ok(Threads { running, failure })
    }
}

impl Running {
    /// What the handlers of the API and the pages share.
    fn state(
        &self,
        history: &Arc<History>,
        published: &Arc<Published>,
        stopped: &tokio_watch::Receiver<bool>,
        address: SocketAddr,
        names: &[String],
    ) -> api::State {
        api::State {
            data: self.options.data.clone(),
            clock: self.clock,
            history: Arc::clone(history),
            index: Arc::clone(&self.index),
            poke: Arc::clone(&self.poke),
            gauges: Arc::clone(&self.gauges),
            published: Arc::clone(published),
            identity: Arc::clone(&self.identity),
            targets: Arc::clone(&self.targets),
            journal: self.journal.clone(),
            stopped: stopped.clone(),
            agents: start::dial(address, names),
            handout: Arc::clone(&self.handout),
        }
    }

    /// Serves people, on the Unix socket and on their port.
    fn people(
        &self,
        port: Option<web::Port>,
        state: api::State,
        settings: WebSettings,
        names: &[String],
    ) -> Result<Served, Failed> {
        let people = Arc::new(People::open(&self.options.data.join("identity"))?);
        let socket = api::bind(&self.options.data)?;
        let host = names.last().map_or("localhost", String::as_str);
        let site = port.as_ref().map(|port| port.site(host));
        let page = port
            .as_ref()
            .zip(site.clone())
            .map(|(port, site)| web::page(port.address, site, &people, self.clock));
        let page = page.transpose()?;
        let web = Web::new(Arc::new(state), settings, names, people, site);
        let port = match port {
            Some(port) => port.serve(&web, self.journal.clone())?,
            None => tokio::spawn(std::future::ready(())),
        };
        let api = tokio::spawn(crate::web::serve_socket(socket, Arc::clone(&web)));
        Ok(Served {
            web,
            api,
            port,
            page,
        })
    }

    /// Serves the agents' port.
    fn agents(
        &self,
        listener: TcpListener,
        published: Arc<Published>,
        stopped: tokio_watch::Receiver<bool>,
    ) -> Result<tokio::task::JoinHandle<()>, Failed> {
        let telemetry = Ingest::new(
            Arc::clone(&self.identity),
            published,
            self.journal.clone(),
            Arc::clone(&self.targets),
            stopped.clone(),
            Arc::clone(&self.gauges),
        );
        let now: identity::Now = Arc::new(|| Clock.wall());
        let journal = self.journal.clone();
        let identity = Arc::clone(&self.identity);
        // Called off the sockets' threads: it may wait for the journal.
        let joined: identity::join::OnHost = Box::new(move |host| {
            let _ = journal.blocking_send(Submit::Input(
                Box::new(Input::Host(card(&identity, host))),
                None,
            ));
        });
        let enrolment = Enrolment::new(Arc::clone(&self.identity), Arc::clone(&now), joined);
        let enrolment =
            EnrolmentServer::new(enrolment).max_decoding_message_size(ENROLMENT_BYTES_MAX);
        let grpc = Routes::new(telemetry.into_service()).add_service(enrolment);
        let incoming = identity::incoming(
            listener,
            self.identity.server_config(now)?,
            Limits::default(),
        );
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(Some(4))
            .initial_stream_window_size(Some(256 * 1024))
            .initial_connection_window_size(Some(256 * 1024))
            .accept_http1(true)
            .add_routes(handout::beside(grpc, Arc::clone(&self.handout)));
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
        signals: &mut Signals,
    ) -> Result<(), Failed> {
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut look = tokio::spawn(std::future::ready(()));
        let mut renewals = tokio::time::interval(RENEW_EVERY);
        let mut reload = None;
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.hang_up.recv(), if reload.is_none() => reload = self.reload().await,
                told = reload::told(&mut reload), if reload.is_some() => {
                    self.reloaded(reload.take(), told);
                }
                Some(ended) = failure.recv() => return ended,
                _ = ticks.tick() => {
                    submit_soon(&self.journal, Input::Tick);
                    self.targets.refresh(self.clock.wall());
                }
                // On a disk that hangs a look may take long: one at a time.
                _ = looks.tick(), if look.is_finished() => look = inputs::look(&self.gauges, &self.journal),
                _ = renewals.tick() => self.renew(),
            }
        }
    }

    fn renew(&self) {
        directory::forget_upgrade(&self.options.data, self.clock.wall());
        if let Err(error) = self.identity.renew_if_due(self.clock.wall()) {
            tracing::error!(%error, "own certificate not renewed");
            submit_soon(&self.journal, notice("certificate", &error.to_string()));
        }
    }

    /// Stops streams and outbox, then journal and watch; a clean stop leaves its mark.
    async fn shut_down(
        self,
        threads: Threads,
        ended: Result<(), Failed>,
        agents: tokio::task::JoinHandle<()>,
    ) -> Result<(), Failed> {
        let outbox = self
            .outbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // What comes of the last sends is journalled, so the outbox goes first.
        let quiet = tokio::task::spawn_blocking(move || {
            outbox.is_none_or(|outbox| outbox.stop(OUTBOX_WITHIN))
        });
        // Connections that do not end in time are cut: what they had not acknowledged comes again.
        let (_, _) = tokio::join!(tokio::time::timeout(DRAIN_WITHIN, agents), quiet);
        let Threads {
            running,
            mut failure,
        } = threads;
        let rooms = tokio::time::timeout(ROOMS_WITHIN, async {
            let _ = self.journal.send(Submit::Stop).await;
            let joined = tokio::task::spawn_blocking(move || {
                let joined: Vec<_> = running.into_iter().map(JoinHandle::join).collect();
                self.index.stop();
                joined
            });
            joined.await
        });
        let in_time = rooms.await.is_ok();
        let mut ended = ended;
        while let Ok(result) = failure.try_recv() {
            ended = ended.and(result);
        }
        if !in_time {
            tracing::warn!(
                "journal or watch did not end in time, the next start replays the journal"
            );
        } else if ended.is_ok() {
            directory::mark_clean(&self.options.data)?;
            tracing::info!("stopped");
        }
        ended
    }
}

/// Starts a room's thread; its end, good or bad, is told.
fn spawn(
    name: &str,
    ended: mpsc::Sender<Result<(), Failed>>,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Result<JoinHandle<()>, Failed> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let room = name.to_owned();
    let spawned = thread.spawn(move || {
        // A room that panics ends the server like one that fails: nothing may be taken in that nobody judges.
        let result = catch_unwind(AssertUnwindSafe(run));
        // The app may have stopped listening already.
        let _ = ended.blocking_send(result.unwrap_or(Err(Failed::Panicked(room))));
    });
    spawned.map_err(|source| Failed::thread(name, source))
}
