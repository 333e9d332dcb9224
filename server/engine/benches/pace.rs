//! What the watch pays for a fleet of 1,000: a round of ticks, the second's tick, and the view that readers get.

use dawnwatch_engine::input::{Batch, Delivered, HostCard, Outcome, Started};
use dawnwatch_engine::{At, Config, Engine, Input};
use dawnwatch_proto::{HostId, Item, Kind, Schema, Series, Tick};
use divan::counter::ItemsCount;
use jiff::{SignedDuration, Timestamp};

/// Hosts of the fleet.
const HOSTS: u128 = 1_000;
/// Series of each: what an agent sends of an ordinary server.
const SERIES: usize = 80;

fn main() {
    divan::main();
}

struct Fleet {
    engine: Engine,
    schema: Schema,
    seconds: i64,
    position: u64,
    full: i64,
}

impl Fleet {
    fn new() -> Fleet {
        let mut fleet = Fleet {
            engine: Engine::new(),
            schema: schema(),
            seconds: 0,
            position: 0,
            full: 700,
        };
        fleet.step(Input::Config(Box::default()));
        fleet.step(Input::Started(Started {
            version: "1".to_owned(),
            clean: true,
            last_up: None,
        }));
        for host in 1..=HOSTS {
            let card = HostCard::new(HostId(host), format!("web{host:04}"), fleet.at().wall);
            fleet.step(Input::Host(card));
            let schema = fleet.schema.clone();
            fleet.step(Input::Schema {
                host: HostId(host),
                schema,
            });
        }
        fleet
    }

    fn at(&self) -> At {
        let start = Timestamp::from_second(1_790_000_000).expect("in range");
        At {
            wall: start + SignedDuration::from_secs(self.seconds),
            boot_ms: 1_000_000 + u64::try_from(self.seconds).unwrap_or(0) * 1_000,
            position: self.position,
        }
    }

    fn step(&mut self, input: Input) -> usize {
        self.position += 1;
        let at = self.at();
        self.engine.step(at, input).len()
    }

    /// Ten seconds later: the rows of all hosts, made outside of what is measured.
    fn round(&mut self) -> Vec<Input> {
        self.seconds += 10;
        let (time, seconds) = (self.at().wall, self.seconds);
        let full = self.full;
        let row = |host: u128| -> Vec<i64> {
            let series = self.schema.series().iter().enumerate();
            let value = |(i, series): (usize, &Series)| match series.name.as_str() {
                "node_filesystem_avail_bytes"
                | "node_filesystem_free_bytes"
                | "node_filesystem_files_free" => full,
                "node_filesystem_size_bytes" | "node_filesystem_files" => 1_000,
                "node_filesystem_readonly" => 0,
                _ => {
                    1_000
                        + seconds * i64::try_from(i).unwrap_or(0)
                        + i64::try_from(host).unwrap_or(0)
                }
            };
            series.map(value).collect()
        };
        let batch = |host: u128| {
            let tick = Tick {
                time,
                schema: self.schema.id(),
                row: row(host),
            };
            Input::Batch(Batch {
                host: HostId(host),
                epoch: 1,
                first_seq: u64::try_from(seconds).unwrap_or(0),
                items: vec![Item::Tick(tick)],
                offset_ms: Some(0),
            })
        };
        (1..=HOSTS).map(batch).collect()
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            for input in self.round() {
                self.step(input);
            }
            self.step(Input::Tick);
        }
    }

    /// All disks fill up, and are emptied: an incident of every host, closed or left open.
    fn incidents(&mut self, leave_open: bool) {
        self.rounds(3);
        self.full = 20;
        self.rounds(40);
        if !leave_open {
            self.full = 700;
            self.rounds(40);
        }
        let open = self.engine.now(self.at().wall).open.len();
        assert_eq!(
            open,
            if leave_open { 1_000 } else { 0 },
            "the fleet is as wanted"
        );
    }
}

fn schema() -> Schema {
    let mut series: Vec<Series> = [
        "node_memory_MemTotal_bytes",
        "node_memory_MemAvailable_bytes",
        "node_memory_SwapTotal_bytes",
        "node_memory_SwapFree_bytes",
        "node_load1",
    ]
    .iter()
    .map(|name| Series::new(name, Kind::Gauge))
    .collect();
    for what in ["cpu_waiting", "memory_stalled", "io_stalled"] {
        let name = format!("node_pressure_{what}_seconds_total");
        series.push(Series::new(&name, Kind::Counter).quantum(1, 1_000_000));
    }
    for cpu in ["0", "1", "2", "3"] {
        for mode in [
            "idle", "iowait", "user", "system", "nice", "irq", "softirq", "steal",
        ] {
            let one = Series::new("node_cpu_seconds_total", Kind::Counter);
            series.push(one.label("cpu", cpu).label("mode", mode).quantum(1, 100));
        }
    }
    for mount in ["/", "/boot", "/home", "/data"] {
        for what in [
            "size_bytes",
            "avail_bytes",
            "free_bytes",
            "files",
            "files_free",
            "readonly",
        ] {
            let one = Series::new(&format!("node_filesystem_{what}"), Kind::Gauge);
            series.push(one.label("mountpoint", mount));
        }
    }
    while series.len() < SERIES {
        let name = format!("node_network_{}_total", series.len());
        series.push(Series::new(&name, Kind::Counter));
    }
    Schema::new(series)
}

/// One tick of every host; the rate is that of raw samples.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn round_of_1000_hosts(bencher: divan::Bencher<'_, '_>) {
    let fleet = std::cell::RefCell::new(Fleet::new());
    fleet.borrow_mut().rounds(2);
    let samples = SERIES * usize::try_from(HOSTS).unwrap_or(0);
    bencher
        .counter(ItemsCount::new(samples))
        .with_inputs(|| fleet.borrow_mut().round())
        .bench_local_values(|inputs| {
            let mut fleet = fleet.borrow_mut();
            inputs
                .into_iter()
                .map(|input| fleet.step(input))
                .sum::<usize>()
        });
}

/// The second's tick: absence, reminders, sealing.
#[divan::bench(sample_count = 100, sample_size = 1, args = [false, true])]
fn tick_with_1000_incidents(bencher: divan::Bencher<'_, '_>, open: bool) {
    let mut fleet = Fleet::new();
    fleet.incidents(open);
    bencher.bench_local(|| fleet.step(Input::Tick));
}

/// The view of a second in which nothing changed.
#[divan::bench(sample_count = 100, sample_size = 1, args = [false, true])]
fn view_with_1000_incidents(bencher: divan::Bencher<'_, '_>, open: bool) {
    let mut fleet = Fleet::new();
    fleet.incidents(open);
    let wall = fleet.at().wall;
    let _warm = fleet.engine.view(wall);
    bencher.bench_local(|| fleet.engine.view(wall).hosts.len());
}

/// The view of a second in which one incident changed and the review so far is ten seconds old.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn view_made_anew(bencher: divan::Bencher<'_, '_>) {
    let mut fleet = Fleet::new();
    fleet.incidents(false);
    bencher.bench_local(|| {
        fleet.seconds += 10;
        fleet.step(Input::Delivered(Delivered {
            key: "I-1/1/ops".to_owned(),
            outcome: Outcome::Arrived,
            answer: String::new(),
        }));
        let wall = fleet.at().wall;
        fleet.engine.view(wall).hosts.len()
    });
}

/// Everything made anew, as every second once cost.
#[divan::bench(sample_count = 30, sample_size = 1)]
fn view_after_a_change_of_configuration(bencher: divan::Bencher<'_, '_>) {
    let mut fleet = Fleet::new();
    fleet.incidents(false);
    bencher.bench_local(|| {
        let mut config = Config::default();
        config.calendar.seal_before_minutes = u16::try_from(fleet.position % 50).unwrap_or(0) + 1;
        fleet.step(Input::Config(Box::new(config)));
        let wall = fleet.at().wall;
        fleet.engine.view(wall).hosts.len()
    });
}
