//! What the server does once, before it is ready.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dawnwatch_engine::input::{self, Input, Started};
use dawnwatch_engine::{At, Engine};
use dawnwatch_segment::{Disk, RealDisk};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{
    AtomicBool, AtomicU64, Clock, History, Identity, Outbox, Published, Recovered, Settings,
    SharedOutbox, Submit, Tools,
};
use super::{api, card, journal, nights, notice, notify, submit_soon, watch};
use crate::config::{self, Mistakes};
use crate::handout::{Handout, Offer, install_line};
use crate::identity::First;
use crate::index::{Index, Poke};
use crate::keep::clean;
use crate::keep::restored::Restored;
use crate::reserve::Reserve;
use crate::vitals::Gauges;
use crate::{history, ledger};

/// How the server was called.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The configuration file; `dawnwatch.toml` in the data directory where none is named, and none at all is fine.
    pub config: Option<PathBuf>,
    /// Where to listen for agents, over what the configuration says.
    pub listen: Option<SocketAddr>,
    /// Further names for the join line.
    pub names: Vec<String>,
    /// Where to listen for people, over what the configuration says.
    pub web: Option<SocketAddr>,
}

/// What the server says when agents can connect.
#[derive(Debug)]
pub struct Ready {
    /// The bound address.
    pub address: SocketAddr,
    /// Names and addresses that agents may dial.
    pub names: Vec<String>,
    /// The first join line, at the first start.
    pub first: First,
    /// SHA-256 of the CA's key, for comparing by eye.
    pub pin: String,
    /// The agent that is handed out; none where there is none, and the log says why.
    pub offer: Option<Offer>,
    /// Where people are served; none where the page is off.
    pub web: Option<Page>,
}

/// Where people are served.
#[derive(Debug, Clone)]
pub struct Page {
    /// The bound address.
    pub address: SocketAddr,
    /// How they reach it.
    pub site: crate::web::Site,
    /// At the first start: the one-time link for the first admin, good for 30 minutes. Shown this once.
    pub link: Option<String>,
    /// Whether nobody can log in as admin yet.
    pub lacks_admin: bool,
}

/// Why the server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Mistakes),
    /// The configuration file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be made or written.
    #[error(
        "cannot use the data directory {}: {source}; {} or choose another with --data",
        path.display(),
        if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            "mount its filesystem for writing (the kernel's log says why it is not)"
        } else {
            "make it writable for this user"
        }
    )]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server runs on it.
    #[error("the data directory {} is in use: another dawnwatch-server runs on it; stop that one or choose another with --data", .0.display())]
    InUse(PathBuf),
    /// The port is taken or not allowed.
    #[error(
        "cannot listen on {address}: {source}; is another dawnwatch-server running? choose another address with --listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The port for people is taken or not allowed.
    #[error(
        "cannot serve the page at {address}: {source}; {}",
        if source.kind() == io::ErrorKind::AddrInUse {
            "another program listens there (ss -tlnp names it): stop that one, or set listen in [web] or --web to another port"
        } else {
            "set listen in [web] or --web to an address of this machine, or listen in [web] to \"off\""
        }
    )]
    Web {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The page must not be served like this.
    #[error("{0}")]
    Unencrypted(String),
    /// The page's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] crate::web::tls::CertificateError),
    /// The first admin's link cannot be made.
    #[error(transparent)]
    People(crate::identity::people::PeopleError),
    /// The CA or the hosts cannot be read or made.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The data are of another version.
    #[error(transparent)]
    Upgrade(#[from] crate::keep::upgrade::UpgradeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The watch.
    #[error(transparent)]
    Watch(#[from] watch::Error),
    /// History.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// Sealed nights.
    #[error(transparent)]
    Nights(#[from] nights::Error),
    /// The API's socket.
    #[error(transparent)]
    Api(#[from] api::BindError),
    /// A room panicked.
    #[error(
        "the {0} panicked: please report it with what stands above; the next start replays the journal"
    )]
    Panicked(String),
    /// Told to stop again while stopping.
    #[error("told to stop twice: ended at once, the next start replays the journal")]
    Cut,
    /// The system gives no thread or no signal handler.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Failed {
    pub(super) fn thread(name: &str, source: io::Error) -> Failed {
        Failed::System {
            what: format!("start the thread of {name}"),
            source,
        }
    }

    pub(super) fn signals(source: io::Error) -> Failed {
        Failed::System {
            what: "listen for signals".to_owned(),
            source,
        }
    }

    /// The exit code (sysexits.h): 78 configuration, 73 cannot create, 77 not allowed, 74 the disk failed, 70 a
    /// bug; 130 told to stop twice.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failed::Config(_)
            | Failed::ConfigFile { .. }
            | Failed::Unencrypted(_)
            | Failed::Certificate(_)
            | Failed::Upgrade(_) => 78,
            Failed::Data { source, .. }
            | Failed::Listen { source, .. }
            | Failed::Web { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                77
            }
            Failed::Data { .. }
            | Failed::InUse(_)
            | Failed::Listen { .. }
            | Failed::Web { .. }
            | Failed::Api(_) => 73,
            Failed::Identity(_)
            | Failed::People(_)
            | Failed::Journal(_)
            | Failed::Watch(_)
            | Failed::History(_)
            | Failed::Ledger(_)
            | Failed::Nights(_) => 74,
            Failed::Panicked(_) => 70,
            Failed::Cut => 130,
            Failed::System { .. } => 71,
        }
    }
}

/// Reads the configuration: the named file, the one in the data directory, or none at all.
///
/// # Errors
/// [`Failed::Config`] with every mistake, [`Failed::ConfigFile`] where the file cannot be read.
pub fn load_settings(options: &Options) -> Result<Settings, Failed> {
    let zone = config::guess_zone();
    let path = options
        .config
        .clone()
        .unwrap_or_else(|| options.data.join("dawnwatch.toml"));
    match read_settings(&path) {
        Ok(text) => {
            config::parse(&text, &path.display().to_string(), &zone).map_err(Failed::Config)
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound && options.config.is_none() => {
            Ok(Settings::defaults(&zone))
        }
        Err(source) => Err(Failed::ConfigFile { path, source }),
    }
}

/// Reads the configuration file, if it is not longer than any that people write.
fn read_settings(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = config::CONFIG_BYTES_MAX as u64;
    File::open(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if text.len() > config::CONFIG_BYTES_MAX {
        let why = format!("longer than {limit} bytes: is it the right file?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Binds the agents' port. Where the machine has no IPv6, the same port on IPv4.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failed> {
    let bound = match TcpListener::bind(address).await {
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    let listener = bound.map_err(|source| Failed::Listen { address, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| Failed::Listen { address, source })?;
    Ok((listener, address))
}

/// Names that agents may dial: those that were given, and the machine's own.
pub(super) fn names(options: &Options, settings: &Settings) -> Vec<String> {
    let own = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let mut names = options.names.clone();
    for name in settings.names.iter().chain([&own]) {
        if !name.is_empty() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The address to print in a join command.
pub(super) fn dial(address: SocketAddr, names: &[String]) -> String {
    let host = if address.ip().is_unspecified() {
        names
            .first()
            .cloned()
            .unwrap_or_else(|| "localhost".to_owned())
    } else {
        match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        }
    };
    format!("{host}:{}", address.port())
}

impl Ready {
    /// The address to print in a join command.
    #[must_use]
    pub fn dial(&self) -> String {
        dial(self.address, &self.names)
    }

    /// What to paste on a host as root to add it with this join line.
    #[must_use]
    pub fn paste(&self, join: &str) -> String {
        match &self.offer {
            Some(offer) => install_line(offer, &self.dial(), join),
            None => format!("dawnwatch-agent join {} {join}", self.dial()),
        }
    }
}

/// The agent that is handed out at present.
pub(super) async fn offer(handout: &Arc<Handout>) -> Option<Offer> {
    let handout = Arc::clone(handout);
    match tokio::task::spawn_blocking(move || handout.offer()).await {
        Ok(Ok(offer)) => Some(offer),
        Ok(Err(why)) => {
            tracing::info!("{why}");
            None
        }
        Err(_) => None,
    }
}

/// Starts the outbox; what comes of a notification is journalled like any input.
pub(super) fn outbox(
    settings: &Settings,
    journal: &mpsc::Sender<Submit>,
) -> Result<SharedOutbox, Failed> {
    let clock: notify::Clock = Arc::new(|| notify::Now {
        wall: Clock.wall(),
        boot_ms: Clock.boot_ms(),
    });
    let journal = journal.clone();
    let outbox = Outbox::start(&settings.channels, clock, move |delivered| {
        // From the worker's own thread: it may wait for the journal.
        let _ = journal.blocking_send(Submit::Input(Box::new(Input::Delivered(delivered)), None));
    });
    let outbox = outbox.map_err(|error| Failed::thread("notify", io::Error::other(error)))?;
    Ok(Arc::new(Mutex::new(Some(outbox))))
}

/// What recovery gives.
pub(super) struct Rooms {
    pub(super) recovered: Recovered,
    pub(super) history: Arc<History>,
    pub(super) published: Arc<Published>,
    pub(super) release: journal::Release,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) index: Arc<Index>,
    pub(super) poke: Arc<Poke>,
    pub(super) gauges: Arc<Gauges>,
}

/// Opens history and ledger and replays the journal, which goes on at the frame `next_frame`.
pub(super) fn recover(
    options: &Options,
    outbox: &SharedOutbox,
    journal: &mpsc::Sender<Submit>,
    next_frame: u64,
    reserve: &Arc<Reserve>,
) -> Result<Rooms, Failed> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, mut damage) = History::open(&disk, &options.data)?;
    let history = Arc::new(history);
    let nights = nights::list(&options.data)?;
    let view = Engine::new().view(Clock.wall());
    let published = Arc::new(Published::new(view, nights, Arc::clone(reserve)));
    let release: journal::Release = Arc::new(AtomicU64::new(0));
    let stopping = Arc::new(AtomicBool::new(false));
    let (outbox, notices) = (Arc::clone(outbox), journal.clone());
    let poke = Arc::new(Poke::default());
    let gauges = Arc::new(Gauges::new(&options.data));
    let tools = Tools {
        disk,
        data: options.data.clone(),
        history: Arc::clone(&history),
        published: Arc::clone(&published),
        notify: Box::new(move |notification| {
            let outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(outbox) = outbox.as_ref() {
                outbox.send(notification);
            }
        }),
        notice: Box::new(move |notice| submit_soon(&notices, Input::Server(notice))),
        release: Arc::clone(&release),
        stopping: Arc::clone(&stopping),
        poke: Arc::clone(&poke),
        step: Engine::step,
        gauges: Arc::clone(&gauges),
    };
    let mut recovered = watch::recover(tools, next_frame)?;
    damage.append(&mut recovered.damage);
    recovered.damage = damage;
    if recovered.replayed > 0 {
        tracing::info!(inputs = recovered.replayed, "journal replayed");
    }
    // After recovery: the index follows a ledger and a history that are whole.
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let index = Index::start(disk, &options.data, Arc::clone(&history), Arc::clone(&poke));
    let index = index.map_err(|error| Failed::thread("index", error))?;
    Ok(Rooms {
        recovered,
        history,
        published,
        release,
        stopping,
        index: Arc::new(index),
        poke,
        gauges,
    })
}

/// Tells the engine, through the journal, what holds from here on.
pub(super) async fn introduce(
    options: &Options,
    settings: &Settings,
    identity: &Identity,
    journal: &mpsc::Sender<Submit>,
    last: At,
    damage: Vec<String>,
) {
    let mark = options.data.join(clean::FILE);
    let clean = mark.exists();
    // Best effort: a mark that stays would only hide one unclean stop.
    let _ = fs::remove_file(&mark);
    let last_up = (last.position > 0).then_some(last.wall);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut inputs = vec![
        Input::Config(Box::new(settings.engine.clone())),
        Input::Started(Started {
            version,
            clean,
            last_up,
        }),
    ];
    let cards = identity.hosts();
    inputs.extend(cards.iter().map(|host| Input::Host(card(identity, host))));
    let named = identity.named();
    inputs.extend(
        named
            .iter()
            .map(|named| Input::Named(Box::new(named.input(false)))),
    );
    let restored = Restored::read(&options.data);
    if let Some(restored) = &restored {
        inputs.push(Input::Restored(input::Restored {
            until: restored.until.unwrap_or(last.wall),
            how: restored.how.clone(),
        }));
    }
    inputs.push(notice("config", ""));
    inputs.push(notice("damage", &damage.join("; ")));
    for input in inputs {
        // A journal that has failed already ends the server by itself.
        let _ = journal.send(Submit::Input(Box::new(input), None)).await;
    }
    if restored.is_some() {
        restored_is_told(options, journal).await;
    }
}

/// Removes the mark of a way back once the journal has it, durably.
async fn restored_is_told(options: &Options, journal: &mpsc::Sender<Submit>) {
    let (reply, durable) = oneshot::channel();
    let last = Submit::Input(Box::new(Input::Tick), Some(reply));
    if journal.send(last).await.is_ok() && matches!(durable.await, Ok(Ok(()))) {
        // A mark that stays is told again by the next start, and is true then too.
        let _ = Restored::remove(&options.data);
    }
}
