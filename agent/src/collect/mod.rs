//! What one Linux host says of itself, under node_exporter's names and labels, as raw integers with a quantum.
//!
//! - Adding a collector is its file and one line in `list`. Each file keeps reading apart from parsing.
//! - `file` keeps kernel files open and reads them again at offset 0; `text` parses bytes without allocating.
//! - `slots` follows what comes and goes (disks, mounts, interfaces), so that the schema does not flap.
//! - `slow` looks once a minute, on a thread of its own, at what may take long to answer: units, control groups, temperatures,
//!   arrays, processes; `bus` asks systemd.
//! - [`show()`] draws a reading in Prometheus' text format.
//!
//! A reading costs a fraction of a millisecond: no directory is listed, no file opened and no name allocated
//! in steady state, and the schema is made anew only when the set of series changes.
//!
//! Failure is data: a collector that fails leaves `MISSING` in its columns, 0 in its
//! `dawnwatch_collector_success`, and tells its trouble once.

mod ask;
mod bus;
mod cgroup;
mod conntrack;
mod disk;
mod file;
mod filefd;
mod filesystem;
mod hwmon;
mod load;
mod md;
mod memory;
mod metric;
mod mounts;
mod network;
mod own;
mod ping;
mod pressure;
mod processes;
mod show;
mod slots;
pub(crate) mod slow;
mod small;
mod sockets;
mod stat;
mod text;
mod timex;
mod uname;
mod units;
mod vmstat;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dawnwatch_proto::{MISSING, Schema, Series};

pub use ask::{Asks, Usage};
pub use metric::Metric;
pub use show::show;
pub use slow::Looks;

/// Most sentences of trouble that one run of the agent tells: past that something flaps, and the success series say so.
const TOLD_MAX: usize = 64;

/// Where the kernel's tables are.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
    /// The socket of the system's message bus: usually `/run/dbus/system_bus_socket`.
    pub bus: PathBuf,
    /// What is asked of the kernel by calls.
    pub asks: Asks,
    /// What is pinged beside the ticks; nothing unless somebody fills it.
    pub board: crate::probe::Board,
    /// How far the clock is off; unknown unless somebody asks a server.
    pub offset: crate::clock::Offset,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            bus: PathBuf::from("/run/dbus/system_bus_socket"),
            asks: Asks::default(),
            board: crate::probe::Board::default(),
            offset: crate::clock::Offset::default(),
        }
    }
}

/// One instant of one host.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The series, in column order: the same `Arc` until the set of series changes.
    pub schema: Arc<Schema>,
    /// One raw integer a series, `MISSING` where it could not be read.
    pub row: Vec<i64>,
    /// What could not be read and was not told before: what it concerns, and a sentence.
    pub troubles: Vec<(String, String)>,
}

/// Why a collector has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The kernel was built or started without it: no failure.
    #[error("this kernel does not offer {0}")]
    NotAvailable(&'static str),
    /// A file could not be read.
    #[error("read {}: {source}; the agent must be able to read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any kernel writes it.
    #[error("read {}: over the limit of {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file holds nothing of what it should.
    #[error("{} is not understood: {why}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl CollectError {
    /// Whether what was to be read is not there at all.
    fn is_absent(&self) -> bool {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match self {
            CollectError::Read { source, .. } => {
                matches!(source.kind(), NotFound | NotADirectory)
            }
            CollectError::NotAvailable(_)
            | CollectError::TooLarge { .. }
            | CollectError::Garbled { .. } => false,
        }
    }
}

/// What a collector hands over.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// The columns, in the order that `describe` lists them.
    pub(crate) row: Vec<i64>,
    /// Parts that could not be read while the rest could.
    pub(crate) complaints: Vec<String>,
}

/// Whether the list of a collector's series is another than at the last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `describe` would list the same.
    Same,
    /// `describe` must be asked again.
    Changed,
}

/// One subject of the host.
pub(crate) trait Collector: std::fmt::Debug + Send {
    /// Its name in `dawnwatch_collector_success`.
    fn name(&self) -> &'static str;

    /// Reads once and pushes one value for each series that `describe` lists after this call.
    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError>;

    /// Lists its series.
    fn describe(&self, series: &mut Vec<Series>);
}

/// The explicit list of collectors.
fn list(roots: &Roots) -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(stat::Stat::new(roots)),
        Box::new(load::Load::new(roots)),
        Box::new(memory::Memory::new(roots)),
        Box::new(vmstat::Vmstat::new(roots)),
        Box::new(pressure::Pressure::new(roots)),
        Box::new(disk::Disks::new(roots)),
        Box::new(filesystem::Filesystems::new(roots)),
        Box::new(filefd::FileDescriptors::new(roots)),
        Box::new(network::Network::new(roots)),
        Box::new(sockets::Sockets::new(roots)),
        Box::new(conntrack::Conntrack::new(roots)),
        Box::new(uname::Uname::new(roots)),
        Box::new(ping::Ping::new(roots)),
        Box::new(own::Own::new(roots)),
    ]
}

/// The explicit list of collectors that are read once a minute, beside the table of processes.
fn slow_list(roots: &Roots) -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(hwmon::Hwmon::new(roots)),
        Box::new(md::Arrays::new(roots)),
        Box::new(units::Units::new(roots)),
        Box::new(cgroup::Cgroups::new(roots)),
        Box::new(timex::Timex::new(roots)),
    ]
}

/// Every metric that a collector can show.
pub(crate) const METRICS: &[&[Metric]] = &[
    stat::METRICS,
    load::METRICS,
    memory::METRICS,
    vmstat::METRICS,
    pressure::METRICS,
    disk::METRICS,
    filesystem::METRICS,
    filefd::METRICS,
    network::METRICS,
    sockets::METRICS,
    conntrack::METRICS,
    hwmon::METRICS,
    md::METRICS,
    units::METRICS,
    cgroup::METRICS,
    timex::METRICS,
    uname::METRICS,
    ping::METRICS,
    own::METRICS,
];

/// All collectors of a host, and what they know from one read to the next.
#[derive(Debug)]
pub struct Collectors {
    rooms: Vec<Room>,
    roots: Roots,
    board: Arc<Mutex<slow::Board>>,
    /// The board's generation that the schema was made of.
    generation: u64,
    schema: Arc<Schema>,
    told: Vec<(String, String)>,
}

#[derive(Debug)]
struct Room {
    collector: Box<dyn Collector>,
    width: usize,
    success: bool,
}

impl Collectors {
    /// Sets up the collectors; nothing is read yet.
    #[must_use]
    pub fn new(roots: Roots) -> Collectors {
        let rooms = list(&roots).into_iter().map(Room::new).collect();
        Collectors {
            rooms,
            roots,
            board: Arc::default(),
            generation: 0,
            schema: Arc::new(Schema::new(Vec::new())),
            told: Vec::new(),
        }
    }

    /// Who looks at the slow subjects for these collectors: without it they stay without values.
    #[must_use]
    pub fn looks(&self) -> Looks {
        Looks::new(&self.roots, Arc::clone(&self.board))
    }

    /// Reads everything once; of the slow subjects, what the last look found.
    pub fn read(&mut self) -> Reading {
        let start_us = (self.roots.asks.elapsed_us)();
        let first = self.schema.series().is_empty();
        let mut changed = first;
        let mut troubles = Vec::new();
        let mut out = Out {
            row: Vec::with_capacity(self.schema.series().len()),
            complaints: Vec::new(),
        };
        for room in &mut self.rooms {
            changed |= room.collect(&mut out, first);
            for complaint in out.complaints.drain(..) {
                troubles.push((room.collector.name().to_owned(), complaint));
            }
        }
        let mut board = slow::held(&self.board);
        if changed || board.generation != self.generation {
            self.generation = board.generation;
            let mut series = self.describe();
            series.extend_from_slice(&board.series);
            self.schema = Arc::new(Schema::new(series));
        }
        let now_us = (self.roots.asks.elapsed_us)();
        out.row.push(now_us - start_us);
        out.row
            .extend(self.rooms.iter().map(|room| i64::from(room.success)));
        out.row.extend(board.values(now_us));
        troubles.append(&mut board.troubles);
        drop(board);
        Reading {
            schema: Arc::clone(&self.schema),
            row: out.row,
            troubles: self.untold(troubles),
        }
    }

    fn describe(&self) -> Vec<Series> {
        let mut series = Vec::new();
        for room in &self.rooms {
            room.collector.describe(&mut series);
        }
        series.push(own::COLLECT_SECONDS.series());
        for room in &self.rooms {
            series.push(
                own::SUCCESS
                    .series()
                    .label("collector", room.collector.name()),
            );
        }
        series
    }

    /// Keeps what was not told yet: a sentence is told once a run, the success series say the rest.
    fn untold(&mut self, troubles: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut untold = Vec::new();
        for trouble in troubles {
            if self.told.len() < TOLD_MAX && !self.told.contains(&trouble) {
                self.told.push(trouble.clone());
                untold.push(trouble);
            }
        }
        untold
    }
}

impl Room {
    fn new(collector: Box<dyn Collector>) -> Room {
        Room {
            collector,
            width: 0,
            success: true,
        }
    }

    /// Lets the collector push its columns and fills them where it fails; says whether its series changed.
    fn collect(&mut self, out: &mut Out, first: bool) -> bool {
        let start = out.row.len();
        let result = self.collector.collect(out);
        let changed = first || matches!(result, Ok(Shape::Changed));
        if changed {
            let mut series = Vec::new();
            self.collector.describe(&mut series);
            self.width = series.len();
        }
        match result {
            Ok(_) => {
                self.success = out.complaints.is_empty();
                let name = self.collector.name();
                assert_eq!(
                    out.row.len(),
                    start + self.width,
                    "columns of collector {name}"
                );
            }
            Err(error) => {
                self.success = matches!(error, CollectError::NotAvailable(_));
                if !self.success {
                    out.complaints.push(error.to_string());
                }
                out.row.truncate(start);
                out.row.resize(start + self.width, MISSING);
            }
        }
        changed
    }
}
