//! systemd's units: how many are in which state, and of those that failed or restart, which.
//!
//! Asked of systemd over the system's message bus, by one connection a look: listing is allowed to everybody. A unit gets its
//! columns when it failed or was restarted by systemd once, and keeps them; a healthy host has the counts only. Restarts
//! are asked of a bounded number of services a look, in turn: a service that restarts quickly is never seen while it does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dawnwatch_proto::series::LABEL_BYTES_MAX;
use dawnwatch_proto::{MISSING, Series};

use super::bus::{Bus, BusError, Call, Reader, Value};
use super::metric::Metric;
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most units that have columns: a host with more broken units has one cause, and these show it.
const FOLLOWED_MAX: usize = 24;

/// Services asked for their restarts in one look: some milliseconds of systemd's time a minute.
const ASKED_MAX: usize = 32;

/// Units looked at: more than any host has.
const UNITS_MAX: usize = 20_000;

/// Services whose restarts are remembered.
const REMEMBERED_MAX: usize = 2_000;

const STATES: Metric = Metric::gauge("node_systemd_units", "Summary of systemd unit states");
const STATE: Metric = Metric::gauge("node_systemd_unit_state", "Systemd unit");
const RESTARTS: Metric = Metric::counter(
    "dawnwatch_unit_restarts_total",
    "Times that systemd restarted a unit.",
);

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[STATES, STATE, RESTARTS];

/// The states that are counted, in the order of the columns, as node_exporter has them.
const COUNTED: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The collector of units.
#[derive(Debug)]
pub(crate) struct Units {
    socket: PathBuf,
    counts: Option<[i64; COUNTED.len()]>,
    followed: Vec<Followed>,
    /// Restarts by service, as last answered.
    restarts: BTreeMap<String, u32>,
    /// The service that was asked last: the next look goes on behind it.
    last: String,
}

/// A unit that has columns.
#[derive(Debug)]
struct Followed {
    name: String,
    failed: bool,
    restarts: i64,
}

/// A unit as systemd lists it.
#[derive(Debug, PartialEq, Eq)]
struct Unit<'a> {
    name: &'a str,
    active: &'a str,
    path: &'a str,
}

impl Units {
    /// Names the socket.
    pub(crate) fn new(roots: &Roots) -> Units {
        Units {
            socket: roots.bus.clone(),
            counts: None,
            followed: Vec::new(),
            restarts: BTreeMap::new(),
            last: String::new(),
        }
    }

    fn look(&mut self, bus: &mut Bus, out: &mut Out) -> Result<Shape, BusError> {
        let answer = bus.call(&Call {
            destination: SYSTEMD,
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "ListUnits",
            texts: &[],
        })?;
        let units = parse(&answer).ok_or(BusError::Garbled("a broken list of units"))?;
        let restarts = self.ask_restarts(bus, &units)?;
        // From here on nothing fails: a look that did would leave columns behind that it told nobody of.
        let before = std::mem::replace(&mut self.restarts, restarts);
        let mut changed = self.counts.is_none();
        self.counts = Some(COUNTED.map(|state| {
            let count = units.iter().filter(|unit| unit.active == state).count();
            i64::try_from(count).unwrap_or(i64::MAX)
        }));
        let mut refused = 0;
        for followed in &mut self.followed {
            followed.failed = false;
        }
        for unit in &units {
            let failed = unit.active == "failed";
            let restarts = self.restarts.get(unit.name).copied().unwrap_or(0);
            if let Some(known) = self.followed.iter_mut().find(|one| one.name == unit.name) {
                known.failed = failed;
                known.restarts = i64::from(restarts);
            } else if failed || restarts > 0 {
                // What it had at the look before comes first, so that its first column already shows what it grew by.
                let first = before.get(unit.name).copied().unwrap_or(restarts);
                let followed = self.follow(unit.name, failed, first);
                changed |= followed;
                refused += usize::from(!followed);
            }
        }
        if refused > 0 {
            out.complaints.push(format!(
                "more than {FOLLOWED_MAX} units failed or restart: {refused} are not shown by name"
            ));
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    /// Gives a unit columns; those of one that does well make room.
    fn follow(&mut self, name: &str, failed: bool, restarts: u32) -> bool {
        if name.len() > LABEL_BYTES_MAX {
            return false;
        }
        if self.followed.len() >= FOLLOWED_MAX {
            let Some(well) = self.followed.iter().position(|one| !one.failed) else {
                return false;
            };
            // A unit that only restarted once makes no room for another such.
            if !failed {
                return false;
            }
            self.followed.remove(well);
        }
        self.followed.push(Followed {
            name: name.to_owned(),
            failed,
            restarts: i64::from(restarts),
        });
        true
    }

    /// Restarts of the services that systemd lists: asked anew of those that have columns and of some others in turn.
    fn ask_restarts(
        &mut self,
        bus: &mut Bus,
        units: &[Unit<'_>],
    ) -> Result<BTreeMap<String, u32>, BusError> {
        let services = || {
            let services = units.iter().filter(|unit| unit.name.ends_with(".service"));
            services
                .filter(|unit| unit.active != "inactive")
                .take(REMEMBERED_MAX)
        };
        let mut restarts = BTreeMap::new();
        for unit in services() {
            if let Some(known) = self.restarts.get(unit.name) {
                restarts.insert(unit.name.to_owned(), *known);
            }
        }
        let followed = |unit: &Unit<'_>| self.followed.iter().any(|one| one.name == unit.name);
        let urgent = |unit: &Unit<'_>| unit.active != "active" || followed(unit);
        let first = services().filter(|unit| urgent(unit));
        let calm = || services().filter(|unit| !urgent(unit));
        let next = calm().filter(|unit| *unit.name > *self.last);
        let again = calm().filter(|unit| *unit.name <= *self.last);
        let mut last = String::new();
        for unit in first.chain(next).chain(again).take(ASKED_MAX) {
            if !urgent(unit) {
                unit.name.clone_into(&mut last);
            }
            match restarts_of(bus, unit.path) {
                Ok(Some(count)) => {
                    restarts.insert(unit.name.to_owned(), count);
                }
                // It ended between the list and the question.
                Ok(None) | Err(BusError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.last = last;
        Ok(restarts)
    }
}

impl Collector for Units {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let socket = self.socket.clone();
        let looked = Bus::connect(&socket).and_then(|mut bus| self.look(&mut bus, out));
        let shape = looked.map_err(|error| trouble(error, &socket))?;
        out.row
            .extend(self.counts.unwrap_or([MISSING; COUNTED.len()]));
        for one in &self.followed {
            out.row.push(i64::from(one.failed));
            if one.is_service() {
                out.row.push(one.restarts);
            }
        }
        Ok(shape)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.counts.is_none() {
            return;
        }
        series.extend(COUNTED.map(|state| STATES.series().label("state", state)));
        for one in &self.followed {
            series.push(
                STATE
                    .series()
                    .label("name", &one.name)
                    .label("state", "failed"),
            );
            if one.is_service() {
                series.push(RESTARTS.series().label("unit", &one.name));
            }
        }
    }
}

impl Followed {
    fn is_service(&self) -> bool {
        self.name.ends_with(".service")
    }
}

/// A host without a bus or without systemd on it is no failure.
pub(crate) fn trouble(error: BusError, socket: &std::path::Path) -> CollectError {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    const SYSTEMD: &str = "systemd over D-Bus";
    let io = |source| CollectError::Read {
        path: socket.to_owned(),
        source,
    };
    match error {
        BusError::Io(source) if matches!(source.kind(), NotFound | ConnectionRefused) => {
            CollectError::NotAvailable(SYSTEMD)
        }
        BusError::Refused(name) if name.ends_with("ServiceUnknown") || name.contains("Spawn") => {
            CollectError::NotAvailable(SYSTEMD)
        }
        BusError::Io(source) => io(source),
        BusError::HungUp | BusError::Refused(_) | BusError::Garbled(_) => {
            io(std::io::Error::other(error.to_string()))
        }
    }
}

fn restarts_of(bus: &mut Bus, path: &str) -> Result<Option<u32>, BusError> {
    let answer = bus.call(&Call {
        destination: SYSTEMD,
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        texts: &["org.freedesktop.systemd1.Service", "NRestarts"],
    })?;
    Ok(match Reader::new(&answer).variant() {
        Some(Value::Number(count)) => Some(count),
        Some(Value::Text(_)) | None => None,
    })
}

/// An array of name, description, load, active and sub state, followed unit, path, job, its type, its path.
fn parse(body: &[u8]) -> Option<Vec<Unit<'_>>> {
    let mut reader = Reader::new(body);
    let len = usize::try_from(reader.number()?).ok()?;
    reader.align(8)?;
    let end = reader.at().checked_add(len)?;
    let mut units = Vec::new();
    while reader.at() < end && units.len() < UNITS_MAX {
        reader.align(8)?;
        let name = reader.text()?;
        let (_description, _load) = (reader.text()?, reader.text()?);
        let active = reader.text()?;
        let (_sub, _following) = (reader.text()?, reader.text()?);
        let path = reader.text()?;
        let (_job, _kind, _job_path) = (reader.number()?, reader.text()?, reader.text()?);
        units.push(Unit { name, active, path });
    }
    // systemd lists in no order.
    units.sort_unstable_by_key(|unit| unit.name);
    Some(units)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::collect::Room;

    /// An answer to the call of this number.
    fn answer(serial: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        let mut out = b"l\x02\x00\x01".to_vec();
        for word in [length, serial, 8] {
            out.extend(word.to_le_bytes());
        }
        out.extend(b"\x05\x01u\x00");
        out.extend(serial.to_le_bytes());
        out.extend(body);
        out
    }

    /// A list of one unit, as the specification lays it out.
    fn list() -> Vec<u8> {
        let mut out = vec![0; 8];
        let text = |out: &mut Vec<u8>, text: &str| {
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            out.extend(text.as_bytes());
            out.push(0);
        };
        for one in ["a.service", "A", "loaded", "active", "running", "", "/a"] {
            text(&mut out, one);
        }
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(0_u32.to_le_bytes());
        text(&mut out, "");
        text(&mut out, "/");
        let length = u32::try_from(out.len() - 8).unwrap();
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    fn call(stream: &mut UnixStream) -> std::io::Result<()> {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let rest = word(12).next_multiple_of(8) + word(4);
        std::io::copy(&mut stream.take(rest.into()), &mut std::io::sink())?;
        Ok(())
    }

    /// A bus that answers these, and hangs up.
    fn serve(listener: &UnixListener, bodies: &[Vec<u8>]) {
        let mut stream = listener.accept().unwrap().0;
        let mut login = Vec::new();
        while !login.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            login.push(byte[0]);
        }
        stream.write_all(b"OK 1\r\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        for (serial, body) in (1..).zip(bodies) {
            call(&mut stream).unwrap();
            stream.write_all(&answer(serial, body)).unwrap();
        }
        // Whoever asks more gets no answer.
        let _ = call(&mut stream);
    }

    #[test]
    fn a_bus_that_hangs_up_in_the_middle_of_the_first_list_costs_that_look_alone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let roots = Roots {
            bus: socket.clone(),
            ..Roots::default()
        };
        let mut room = Room::new(Box::new(Units::new(&roots)));
        let mut out = Out::default();
        let mut look = |first| {
            out.row.clear();
            let changed = room.collect(&mut out, first);
            (
                changed,
                out.row.clone(),
                std::mem::take(&mut out.complaints),
            )
        };
        assert_eq!(look(true), (true, vec![], vec![]), "no bus yet");
        let listener = UnixListener::bind(&socket).unwrap();
        let variant = b"\x01u\x00\x00\x00\x00\x00\x00".to_vec();
        let bus = std::thread::spawn(move || {
            serve(&listener, &[Vec::new(), list()]);
            serve(&listener, &[Vec::new(), list(), variant]);
        });
        let (changed, row, told) = look(false);
        assert!(!changed && row.is_empty());
        assert!(
            told.len() == 1 && told[0].contains("it hung up"),
            "{told:?}"
        );
        assert_eq!(look(false), (true, vec![0, 1, 0, 0, 0], vec![]));
        bus.join().unwrap();
    }
}
