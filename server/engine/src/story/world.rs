//! The world of a story: a server, its clock, and hosts that measure every ten seconds.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_proto::event::{GoodbyeReason, Started};
use dawnwatch_proto::probe::Role;
use dawnwatch_proto::{Event, EventBody, HostId, Item, Tick};
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::model::{Equipment, HostModel};
use super::server::ServerModel;
use crate::clock::add_ms;
use crate::config::Config;
use crate::input::{Batch, Heartbeat, Started as ServerStarted, Twice};
use crate::{At, Input, night};

const TICK_MS: u64 = 10_000;
/// Items that a host sends at once after a cut.
const BATCH_ITEMS: usize = 256;
/// Items that it sends every ten seconds where the link is slow: a minute's.
const DRAIN_ITEMS: usize = 6;

/// Everything outside the engine.
#[derive(Debug)]
pub struct World {
    config: Config,
    zone: TimeZone,
    /// Time as it truly is; the server's wall clock differs by `clock_ms`.
    pub(super) true_time: Timestamp,
    clock_ms: i64,
    boot_ms: u64,
    position: u64,
    hosts: BTreeMap<String, HostModel>,
    inputs: Vec<(At, Input)>,
    /// None: it says nothing of itself.
    pub(super) server: Option<ServerModel>,
}

impl Default for World {
    fn default() -> World {
        World {
            config: Config::default(),
            zone: TimeZone::UTC,
            true_time: Timestamp::UNIX_EPOCH,
            clock_ms: 0,
            boot_ms: 1_000_000,
            position: 0,
            hosts: BTreeMap::new(),
            inputs: Vec::new(),
            server: None,
        }
    }
}

impl World {
    /// The inputs since this was asked last, in order.
    pub fn take(&mut self) -> Vec<(At, Input)> {
        std::mem::take(&mut self.inputs)
    }

    /// Adds an input at the present moment.
    pub fn push(&mut self, input: Input) {
        self.position += 1;
        let at = At {
            wall: self.wall(),
            boot_ms: self.boot_ms,
            position: self.position,
        };
        self.inputs.push((at, input));
    }

    /// The server's wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        add_ms(self.true_time, self.clock_ms)
    }

    pub(super) fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    pub(super) fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    pub(super) fn names(&self) -> BTreeMap<HostId, String> {
        self.hosts
            .iter()
            .map(|(name, host)| (host.id, name.clone()))
            .collect()
    }

    pub(super) fn start(&mut self, args: &[&str]) -> Result<(), String> {
        let [date, time, rest @ ..] = args else {
            return Err("date and time".to_owned());
        };
        let name = rest.first().copied().unwrap_or("UTC");
        self.zone = night::zone(name).ok_or("no such zone")?;
        name.clone_into(&mut self.config.calendar.zone);
        self.config.calendar.confirmed = true;
        self.true_time = self.moment(date, time)?;
        self.push(Input::Config(Box::new(self.config.clone())));
        self.push(Input::Started(ServerStarted {
            version: "1".to_owned(),
            clean: true,
            last_up: None,
        }));
        Ok(())
    }

    /// The configuration changed; before the start nobody is told.
    pub(super) fn configured(&mut self) {
        if self.position > 0 {
            self.push(Input::Config(Box::new(self.config.clone())));
        }
    }

    fn moment(&self, date: &str, time: &str) -> Result<Timestamp, String> {
        let text = format!("{date}T{time}:00");
        let civil: DateTime = text[..19.min(text.len())]
            .parse()
            .map_err(|_| format!("{text}?"))?;
        let zoned = civil
            .to_zoned(self.zone.clone())
            .map_err(|e| e.to_string())?;
        Ok(zoned.timestamp())
    }

    /// Lets time pass, with everything that comes in meanwhile.
    pub fn run(&mut self, ms: u64) {
        let end = self.boot_ms + ms;
        while self.boot_ms < end {
            // Half a beat at a time: the server's own tick falls between those of the hosts too.
            let step = (TICK_MS / 2 - self.boot_ms % (TICK_MS / 2)).min(end - self.boot_ms);
            self.boot_ms += step;
            self.true_time = add_ms(self.true_time, i64::try_from(step).unwrap_or(0));
            if self.boot_ms.is_multiple_of(TICK_MS) {
                self.measure();
                let own = self.server.as_mut().map(|server| server.pass(TICK_MS));
                own.into_iter().for_each(|input| self.push(input));
            }
            self.push(Input::Tick);
        }
    }

    /// Time passes, and neither server nor hosts are there.
    pub(super) fn idle(&mut self, ms: u64) {
        self.boot_ms += ms;
        self.true_time = add_ms(self.true_time, i64::try_from(ms).unwrap_or(0));
        self.push(Input::Tick);
    }

    pub(super) fn until(&mut self, args: &[&str]) -> Result<(), String> {
        let [day, time] = args else {
            return Err("day and time".to_owned());
        };
        let now = self.wall();
        let target = if let Some(weekday) = weekday(day) {
            let mut date = now.to_zoned(self.zone.clone()).date();
            while date.weekday() != weekday || self.moment(&date.to_string(), time)? <= now {
                date = date.checked_add(1.day()).map_err(|e| e.to_string())?;
            }
            self.moment(&date.to_string(), time)?
        } else {
            self.moment(day, time)?
        };
        let ms = now.duration_until(target).as_millis();
        self.run(u64::try_from(ms).map_err(|_| "that is in the past".to_owned())?);
        Ok(())
    }

    pub(super) fn host(&mut self, name: &str, options: &[&str]) -> Result<(), String> {
        let mut what = Equipment::default();
        for option in options {
            match option.split_once('=') {
                Some(("disks", disks)) => what.disks = disks,
                Some(("units", units)) => what.units = units,
                None if *option == "hardware" => what.hardware = true,
                None | Some(_) => return Err("disks=/,/data units=a.service hardware".to_owned()),
            }
        }
        let number = u64::try_from(self.hosts.len()).unwrap_or(0) + 1;
        let host = HostModel::new(HostId::v7(number, 0), self.wall(), what);
        let (id, schema) = (host.id, host.schema.clone());
        self.push(Input::Host(host.card(name, false)));
        self.push(Input::Schema { host: id, schema });
        self.hosts.insert(name.to_owned(), host);
        self.boot(name, true, true)
    }

    /// A host joins, and nobody starts its agent.
    pub(super) fn join(&mut self, name: &str) {
        let number = u64::try_from(self.hosts.len()).unwrap_or(0) + 1;
        let host = HostModel::new(HostId::v7(number, 0), self.wall(), Equipment::default());
        self.push(Input::Host(host.card(name, false)));
        self.hosts.insert(name.to_owned(), host);
    }

    /// A host pings these from here on, beside what it pings already.
    pub(super) fn ping(&mut self, name: &str, targets: &[&str]) -> Result<(), String> {
        let host = self.known(name)?;
        for target in targets {
            let (role, target) = target.split_once(':').ok_or("role:target")?;
            let role = Role::of(role).ok_or_else(|| format!("{role} is no role"))?;
            host.ping(role, target);
        }
        let (id, schema) = (host.id, host.schema.clone());
        self.push(Input::Schema { host: id, schema });
        Ok(())
    }

    pub(super) fn set(&mut self, name: &str, values: &[&str]) -> Result<(), String> {
        let host = self.known(name)?;
        for value in values {
            let (what, number) = value.rsplit_once('=').ok_or("what=number")?;
            let number = number
                .parse()
                .map_err(|_| format!("{number} is no number"))?;
            host.values.insert(what.to_owned(), number);
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, name: &str) -> Result<(), String> {
        self.known(name)?.cut = true;
        Ok(())
    }

    /// The way is there again: a heartbeat says what is true now, then the backlog comes in order.
    /// Slowly: a minute of backlog every ten seconds.
    pub(super) fn mend(&mut self, name: &str, slowly: bool) -> Result<(), String> {
        self.known(name)?.draining = true;
        while !slowly && self.known(name)?.draining {
            self.drain(name, BATCH_ITEMS)?;
        }
        Ok(())
    }

    fn drain(&mut self, name: &str, items_max: usize) -> Result<(), String> {
        let clock_ms = self.clock_ms;
        let host = self.known(name)?;
        let count = host.spool.len().min(items_max);
        let items: Vec<Item> = host.spool.drain(..count).collect();
        host.draining = !host.spool.is_empty();
        host.cut = host.draining;
        let row = host.row();
        let heartbeat = Heartbeat {
            host: host.id,
            offset_ms: host.clock_ms - clock_ms,
            backlog: items.len() as u64,
            row: Some((host.schema.id(), row)),
        };
        self.push(Input::Heartbeat(heartbeat));
        if !items.is_empty() {
            self.send(name, items, true);
        }
        Ok(())
    }

    /// The host itself, or its agent alone.
    pub(super) fn kill(&mut self, name: &str, host_too: bool) -> Result<(), String> {
        let host = self.known(name)?;
        (host.up, host.off) = (false, host.off || host_too);
        Ok(())
    }

    pub(super) fn boot(&mut self, name: &str, host_too: bool, clean: bool) -> Result<(), String> {
        let time = self.true_time;
        let host = self.known(name)?;
        (host.up, host.off) = (true, false);
        host.boot += u32::from(host_too);
        host.epoch += 1;
        host.seq = 0;
        let started = Started {
            agent_version: "1".to_owned(),
            hostname: name.to_owned(),
            boot_id: format!("boot-{}", host.boot),
            last_stop_clean: clean,
            ..Started::default()
        };
        let body = EventBody::Started(started);
        let item = Item::Event(Event {
            time: add_ms(time, host.clock_ms),
            body,
        });
        self.emit(name, item);
        Ok(())
    }

    pub(super) fn goodbye(&mut self, name: &str, reason: GoodbyeReason) -> Result<(), String> {
        let time = self.true_time;
        let host = self.known(name)?;
        let time = add_ms(time, host.clock_ms);
        let body = EventBody::Goodbye(reason);
        self.emit(name, Item::Event(Event { time, body }));
        let off = matches!(reason, GoodbyeReason::Reboot | GoodbyeReason::Shutdown);
        self.kill(name, off)
    }

    pub(super) fn retire(&mut self, name: &str) -> Result<(), String> {
        let card = self.known(name)?.card(name, true);
        self.push(Input::Host(card));
        Ok(())
    }

    /// A copy of a host is at the door.
    pub(super) fn twice(&mut self, name: &str, first: &str, second: &str) -> Result<(), String> {
        let host = self.known(name)?.id;
        let (first, second) = (first.to_owned(), second.to_owned());
        self.push(Input::Twice(Box::new(Twice {
            host,
            first,
            second,
        })));
        Ok(())
    }

    /// A host is erased: its card has a pseudonym from here on.
    pub(super) fn erase(&mut self, name: &str, pseudonym: &str) -> Result<(), String> {
        let mut card = self.known(name)?.card(pseudonym, true);
        card.erased = true;
        self.push(Input::Host(card));
        Ok(())
    }

    /// One host may be the other, set up anew.
    pub(super) fn like(&mut self, name: &str, old: &str) -> Result<(), String> {
        let old = self.known(old)?.id;
        let mut card = self.known(name)?.card(name, false);
        card.like.push(old);
        self.push(Input::Host(card));
        Ok(())
    }

    /// One host is the other, set up anew: from here on its samples are that one's.
    pub(super) fn merge(&mut self, name: &str, old: &str) -> Result<(), String> {
        let into = self.known(old)?.id;
        let mut card = self.known(name)?.card(name, true);
        card.merged = Some(into);
        self.push(Input::Host(card));
        self.known(name)?.id = into;
        Ok(())
    }

    pub(super) fn clock(&mut self, args: &[&str]) -> Result<(), String> {
        match args {
            [by] => {
                let by_ms = signed_millis(by)?;
                self.clock_ms += by_ms;
                self.push(Input::ClockStep { by_ms });
            }
            [name, by] => self.known(name)?.clock_ms += signed_millis(by)?,
            _ => return Err("clock +1h | clock web01 -5m".to_owned()),
        }
        Ok(())
    }

    /// The server is off: the hosts measure on.
    pub(super) fn down(&mut self, ms: u64, clean: bool) {
        let last_up = Some(self.wall());
        let cut: Vec<String> = self
            .hosts
            .iter()
            .filter(|(_, h)| !h.cut)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &cut {
            if let Some(host) = self.hosts.get_mut(name) {
                host.cut = true;
            }
        }
        let (before, position) = (self.inputs.len(), self.position);
        self.run(ms);
        self.inputs.truncate(before);
        self.position = position;
        let version = "1".to_owned();
        self.push(Input::Started(ServerStarted {
            version,
            clean,
            last_up,
        }));
        for name in &cut {
            // A host that is down has nothing to say.
            if self
                .hosts
                .get(name)
                .is_some_and(|h| h.up || !h.spool.is_empty())
            {
                let _known = self.mend(name, false);
            }
        }
    }

    fn measure(&mut self) {
        let names: Vec<String> = self
            .hosts
            .iter()
            .filter(|(_, h)| h.up)
            .map(|(name, _)| name.clone())
            .collect();
        let time = self.true_time;
        let off: BTreeSet<String> = self
            .hosts
            .iter()
            .filter(|(_, h)| h.off)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(host) = self.hosts.get_mut(&name) else {
                continue;
            };
            host.pass(&off);
            let time = add_ms(time, host.clock_ms);
            let tick = Tick {
                time,
                schema: host.schema.id(),
                row: host.row(),
            };
            self.emit(&name, Item::Tick(tick));
            if self.hosts.get(&name).is_some_and(|h| h.draining) {
                let _known = self.drain(&name, DRAIN_ITEMS);
            }
        }
    }

    pub(super) fn emit(&mut self, name: &str, item: Item) {
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        if host.cut {
            host.spool.push(item);
        } else {
            self.send(name, vec![item], false);
        }
    }

    fn send(&mut self, name: &str, items: Vec<Item>, late: bool) {
        let clock_ms = self.clock_ms;
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        let first_seq = host.seq + 1;
        host.seq += items.len() as u64;
        let offset_ms = (!late).then_some(host.clock_ms - clock_ms);
        let batch = Batch {
            host: host.id,
            epoch: host.epoch,
            first_seq,
            items,
            offset_ms,
        };
        self.push(Input::Batch(batch));
    }

    pub(super) fn known(&mut self, name: &str) -> Result<&mut HostModel, String> {
        self.hosts
            .get_mut(name)
            .ok_or_else(|| format!("no host {name}"))
    }
}

/// A span of time: `30s`, `5m`, `2h`, `3d`.
pub(super) fn millis(text: &str) -> Result<u64, String> {
    let bad = || format!("{text} is no span such as 30s, 5m, 2h or 3d");
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    Ok(number * unit)
}

fn signed_millis(text: &str) -> Result<i64, String> {
    let ms = i64::try_from(millis(text.trim_start_matches(['+', '-']))?).unwrap_or(i64::MAX);
    Ok(if text.starts_with('-') { -ms } else { ms })
}

fn weekday(text: &str) -> Option<Weekday> {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let index = days.iter().position(|day| *day == text)?;
    Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()
}
