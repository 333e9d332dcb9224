use dawnwatch_proto::Kind;
use dawnwatch_segment::RealDisk;

use super::*;

const HOST: HostId = HostId(7);

fn series() -> Series {
    Series::new("node_load1", Kind::Gauge)
}

fn open(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, dir).unwrap();
    assert_eq!(damage, [""; 0]);
    history
}

fn schema() -> Schema {
    Schema::new(vec![series()])
}

/// A row a second; its position in the journal is its number.
fn push(history: &History, numbers: impl Iterator<Item = u64>) {
    let through = history.through();
    for position in numbers {
        let row = Row {
            time_ms: i64::try_from(position).unwrap() * 1_000,
            schema: schema().id(),
            values: vec![i64::try_from(position).unwrap()].into(),
            position,
        };
        history.push(HOST, row, through);
    }
}

/// The numbers that history holds, and how many it held twice.
fn held(history: &History) -> (Vec<i64>, u64) {
    let to = Timestamp::from_second(1_000_000).unwrap();
    let points = history.read(HOST, &series(), Timestamp::UNIX_EPOCH, to);
    assert_eq!(points.damaged, [""; 0]);
    let values = points.raw.iter().map(|(_, value)| *value);
    (values.collect(), points.repeated)
}

fn all(to: i64) -> (Vec<i64>, u64) {
    ((1..=to).collect(), 0)
}

#[test]
fn a_crash_after_the_rename_doubles_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    push(&history, 1..=150);
    let before = history.save();
    push(&history, 151..=170);
    let sealing = history.begin_seal();
    push(&history, 171..=200);
    let between = history.save();
    assert_eq!(held(&history), all(200), "while it is being sealed");
    history.seal(&sealing, 170, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(held(&history), all(200), "after it");
    push(&history, 201..=230);
    drop(history);

    // From a checkpoint before the sealing, from one during it, and from none: the journal is replayed from there.
    for (saved, from) in [(before.as_slice(), 151), (&between, 201), (&[], 1)] {
        let history = open(dir.path());
        assert_eq!(history.through(), 170);
        history.restore(saved).unwrap();
        push(&history, from..=230);
        assert_eq!(held(&history), all(230), "replayed from {from}");
    }
}

#[test]
fn an_hour_that_cannot_be_written_stays_in_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    push(&history, 1..=10);
    let sealing = history.begin_seal();
    push(&history, 11..=20);
    let in_the_way = dir.path().join("history").join(format!("{:020}.tmp", 10));
    fs::create_dir(&in_the_way).unwrap();
    history
        .seal(&sealing, 10, Timestamp::UNIX_EPOCH)
        .unwrap_err();
    assert_eq!((history.through(), held(&history)), (0, all(20)));
    fs::remove_dir(&in_the_way).unwrap();
    let sealing = history.begin_seal();
    history.seal(&sealing, 20, Timestamp::UNIX_EPOCH).unwrap();
    push(&history, 1..=25);
    assert_eq!((history.through(), held(&history)), (20, all(25)));
}

#[test]
fn a_clock_a_year_ahead_removes_nothing_that_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    for hour in 1..=3 {
        push(&history, hour..=hour);
        let sealing = history.begin_seal();
        let now = Timestamp::from_second(i64::try_from(hour).unwrap() * 3_600).unwrap();
        history.seal(&sealing, hour, now).unwrap();
    }
    let year = Timestamp::from_second(366 * 86_400).unwrap();
    history.expire(year).unwrap();
    assert_eq!(held(&history), all(3));
    let early = Timestamp::from_second(RAW_DAYS * 86_400).unwrap();
    history.expire_all_but(1, early).unwrap();
    assert_eq!(held(&history), all(3), "none is older than that");
    // One that somebody removed already does not keep the others.
    fs::remove_file(dir.path().join("history").join(format!("{:020}.dwh", 1))).unwrap();
    history.expire_all_but(1, year).unwrap();
    assert_eq!(held(&history).0, [3]);
    assert_eq!(held(&open(dir.path())).0, [3]);
}
