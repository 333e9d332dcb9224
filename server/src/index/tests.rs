use std::fs;

use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::event::{Event, EventBody, Template};
use dawnwatch_proto::review::Severity;
use dawnwatch_segment::RealDisk;

use super::*;
use crate::history::events::EventRow;
use crate::ledger::{Frame, Ledger};

/// Incidents in the ledger: some more than the index writes at once.
const INCIDENTS: u64 = 300;

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
}

/// A data directory with a ledger of incidents, and shapes of log lines in history.
struct House {
    dir: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    ledger: Ledger,
    history: Arc<History>,
    poke: Arc<Poke>,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let ledger = Ledger::open(&disk, dir.path()).unwrap();
        let history = Arc::new(History::open(&disk, dir.path()).unwrap().0);
        let poke = Arc::new(Poke::default());
        let mut house = House {
            dir,
            disk,
            ledger,
            history,
            poke,
        };
        (1..=INCIDENTS).for_each(|number| house.open_incident(number));
        house.close(7);
        let told = Template {
            id: 4,
            text: "peer <ip> gone".to_owned(),
            source: "sshd".to_owned(),
            severity: 3,
            ..Template::default()
        };
        let event = Event {
            time: at(5),
            body: EventBody::Template(told),
        };
        let row = EventRow::of(&event, at(5), 9);
        house.history.push_event(HostId(3), row, 0);
        house
    }

    fn record(&mut self, number: u64, state: &str, second: u64, what: &str) {
        let entry = Entry::Incident {
            id: format!("I-{number}"),
            host: HostId(u128::from(1 + number % 3)),
            state: state.to_owned(),
            severity: Severity::Critical,
            at: at(second),
            by: String::new(),
            what: what.to_owned(),
        };
        let frame = Frame {
            position: self.ledger.position() + 1,
            wall: at(second),
            effects: vec![Effect::Record(entry)],
        };
        self.ledger.append(&frame).unwrap();
        self.poke.ledger(self.ledger.frames());
    }

    fn open_incident(&mut self, number: u64) {
        let what = format!("volume /data{} full", number % 10);
        self.record(number, "open", 1_000 + number, &what);
    }

    fn close(&mut self, number: u64) {
        self.record(number, "closed", 90_000, "healed");
    }

    fn index(&self) -> Index {
        let (disk, data) = (Arc::clone(&self.disk), self.dir.path());
        let (history, poke) = (Arc::clone(&self.history), Arc::clone(&self.poke));
        Index::start(disk, data, history, poke).unwrap()
    }
}

fn ask(index: &Index, query: Query) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    loop {
        index.wait_whole();
        match runtime.block_on(index.search(query.clone())) {
            Ok(found) => return found,
            Err(Unanswered::Building(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn by(words: &[&str]) -> Query {
    Query {
        words: words.iter().map(|&word| word.to_owned()).collect(),
        limit: FOUND_MAX,
        ..Query::default()
    }
}

/// All that can be asked, with the answers.
fn answers(index: &Index) -> Vec<Found> {
    let mut all = vec![
        by(&[]),
        by(&["volume"]),
        by(&["data4", "full"]),
        by(&["closed"]),
        by(&["peer"]),
        by(&["nothing"]),
    ];
    let with = |change: fn(&mut Query)| {
        let mut query = by(&["volume"]);
        change(&mut query);
        query
    };
    all.push(with(|query| query.limit = 5));
    all.push(with(|query| query.host = Some(HostId(2))));
    all.push(with(|query| query.from = Some(at(1_250))));
    all.push(with(|query| query.to = Some(at(1_020))));
    all.push(with(|query| query.kind = Some("template".to_owned())));
    all.into_iter().map(|query| ask(index, query)).collect()
}

fn ids(found: &Found) -> Vec<&str> {
    found.docs.iter().map(|doc| doc.id.as_str()).collect()
}

#[test]
fn everything_is_found_by_its_words_and_followed() {
    let mut house = House::new();
    let index = house.index();
    let all = answers(&index);
    assert_eq!(all[0].docs.len(), usize::try_from(INCIDENTS).unwrap() + 1);
    assert_eq!(all[1].docs.len(), usize::try_from(INCIDENTS).unwrap());
    assert_eq!(
        (all[2].docs.len(), all[2].docs[0].id.as_str()),
        (30, "I-294")
    );
    assert_eq!((ids(&all[3]), ids(&all[4])), (vec!["I-7"], vec!["4"]));
    assert_eq!(all[5], Found::default());
    assert_eq!(
        (all[6].more, ids(&all[6])),
        (true, vec!["I-300", "I-299", "I-298", "I-297", "I-296"])
    );
    assert_eq!(all[7].docs.len(), 100);
    // Open ones last until now, whenever they began.
    assert_eq!(all[8].docs.len(), usize::try_from(INCIDENTS).unwrap());
    assert_eq!(all[9].docs.len(), 19);
    assert_eq!(all[10], Found::default());
    house.close(8);
    house.open_incident(301);
    while ids(&ask(&index, by(&["closed"]))) != ["I-8", "I-7"] {
        std::thread::sleep(Duration::from_millis(5));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let frames = runtime.block_on(index.frames("I-8")).unwrap();
    assert_eq!(frames, [8, 302]);
    index.stop();
}

#[test]
fn an_index_that_was_deleted_cut_or_flipped_gives_the_same_answers() {
    let house = House::new();
    let index = house.index();
    let want = answers(&index);
    index.stop();
    drop(index);
    let dir = store::path(house.dir.path());
    let whole = copy(&dir);
    let mut anew = 0;
    let mut damages: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, bytes) in &whole {
        for step in 1..6 {
            let at = bytes.len() * step / 6;
            damages.push((name.clone(), bytes[..at].to_vec()));
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 0x10;
            }
            damages.push((name.clone(), flipped));
        }
    }
    damages.push((String::new(), Vec::new()));
    for (name, bytes) in damages {
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_dir_all(house.dir.path().join("index.damaged"));
        if !name.is_empty() {
            fs::create_dir_all(&dir).unwrap();
            whole
                .iter()
                .for_each(|(file, bytes)| put(&dir.join(file), bytes));
            put(&dir.join(&name), &bytes);
        }
        let index = house.index();
        let got = answers(&index);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(
                got,
                want,
                "question {i} after damage to {name:?}, {} bytes of it",
                bytes.len()
            );
        }
        index.stop();
        anew += u32::from(house.dir.path().join("index.damaged").exists());
    }
    assert!(anew > 0, "no damage was met at all");
}

fn copy(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(one) = dirs.pop() {
        for entry in fs::read_dir(&one).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                out.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    out.sort();
    out
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_index_of_another_ledger_is_not_believed() {
    let mut house = House::new();
    house.index().stop_whole();
    let other = House::new();
    let (dir, from) = (
        store::path(other.dir.path()),
        copy(&store::path(house.dir.path())),
    );
    from.iter()
        .for_each(|(file, bytes)| put(&dir.join(file), bytes));
    drop(other.ledger);
    fs::remove_dir_all(other.dir.path().join("ledger")).unwrap();
    house.ledger = Ledger::open(&house.disk, other.dir.path()).unwrap();
    house.dir = other.dir;
    house.poke = Arc::default();
    house.record(900, "open", 50, "a ledger of its own");
    let index = house.index();
    assert_eq!(ids(&ask(&index, by(&["ledger"]))), ["I-900"]);
    assert_eq!(ask(&index, by(&["volume"])), Found::default());
    index.stop();
}

impl Index {
    fn stop_whole(&self) {
        self.wait_whole();
        self.stop();
    }
}

#[test]
fn a_shape_whose_history_expired_is_found_no_more_whoever_built_the_index() {
    let house = House::new();
    let sealing = house.history.begin_seal();
    house
        .history
        .seal(&sealing, 9, Timestamp::UNIX_EPOCH)
        .unwrap();
    let index = house.index();
    assert_eq!(ids(&ask(&index, by(&["peer"]))), ["4"]);
    house.history.expire_now();
    while ask(&index, by(&["peer"])) != Found::default() {
        std::thread::sleep(Duration::from_millis(5));
    }
    index.stop();
    fs::remove_dir_all(store::path(house.dir.path())).unwrap();
    let index = house.index();
    assert_eq!(ask(&index, by(&["peer"])), Found::default());
    index.stop();
}
