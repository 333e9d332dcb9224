//! Lets time pass, and carries bytes between the players.

use std::collections::BTreeMap;

use dawnwatch_agent::uplink::course::End;
use dawnwatch_engine::Config;
use dawnwatch_engine::config::Channel;
use dawnwatch_engine::input::HostCard;
use dawnwatch_proto::pb::{self, from_server};
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use super::agent::Agent;
use super::faults::Temper;
use super::link::Link;
use super::server::{Now, Server, Told};
use super::{Lie, Outcome, Trace};
use crate::chance::Chance;

/// Steps in which faults are drawn, and then as many as it takes until all is delivered, at most.
const STEPS: u64 = 420;
const SETTLING_STEPS_MIN: u64 = 15;
const SETTLING_STEPS_MAX: u64 = 600;

/// Five minutes before a full hour: runs that last longer seal one.
const BEGIN_SECOND: i64 = 1_790_002_500;

/// How a dead connection is noticed: HTTP/2 keep-alive.
pub(super) const NOTICED_MS: u64 = 20_000;

/// An agent whose server does not answer dials again within this.
const BACKOFF_MS: u64 = 15_000;

/// Everything.
pub(super) struct World {
    pub(super) chance: Chance,
    lie: Lie,
    pub(super) temper: Temper,
    config: Config,
    pub(super) now_ms: u64,
    pub(super) agents: Vec<Agent>,
    pub(super) server: Server,
    pub(super) links: BTreeMap<u64, Link>,
    /// Whose link it is.
    pub(super) owners: BTreeMap<u64, usize>,
    next_link: u64,
    /// By agent: no byte passes until then.
    pub(super) partitions: Vec<u64>,
    pub(super) trace: Trace,
}

impl World {
    pub(super) fn new(seed: u64, lie: Lie) -> World {
        let mut chance = Chance::new(seed);
        let temper = Temper::draw(&mut chance);
        let agents: Vec<Agent> = (0..1 + chance.below(5))
            .map(|number| Agent::new(number, &mut chance))
            .collect();
        let cards = agents.iter().map(card).collect();
        let channel = Channel {
            name: "ops".to_owned(),
            night: Severity::Info,
            day: Severity::Info,
            reviews: true,
        };
        let config = Config {
            channels: vec![channel],
            ..Config::default()
        };
        let server = Server::new(lie, cards, &mut chance);
        World {
            partitions: vec![0; agents.len()],
            chance,
            lie,
            temper,
            config,
            now_ms: 0,
            agents,
            server,
            links: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_link: 1,
            trace: Trace::new(),
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        for _ in 0..STEPS {
            self.pass();
            self.faults();
            self.step();
        }
        self.settle();
        self.end();
        let mut outcome = self.trace.outcome;
        outcome.trace = self.trace.hash;
        outcome
    }

    pub(super) fn wall(&self) -> Timestamp {
        let ms = BEGIN_SECOND * 1_000 + self.now_ms.cast_signed();
        Timestamp::from_millisecond(ms).expect("a time")
    }

    pub(super) fn server_now(&self) -> Now {
        let ms = self.wall().as_millisecond() + self.server.off_ms;
        Now {
            ms: self.now_ms,
            wall: Timestamp::from_millisecond(ms).expect("a time"),
            boot_ms: self.now_ms.saturating_add_signed(self.server.boot_ms),
        }
    }

    fn pass(&mut self) {
        self.now_ms += 200 + self.chance.below(7_000);
    }

    /// One moment of all that run.
    fn step(&mut self) {
        let now = self.server_now();
        if !self.server.is_up() && now.ms >= self.server.up_ms {
            self.server.start(now, &self.config, &mut self.trace);
        }
        for at in 0..self.agents.len() {
            self.agent_step(at);
        }
        self.carry_up();
        if self.server.is_up() && self.chance.below(100) >= self.temper.slow {
            self.commit();
        }
        if self.chance.below(100) >= self.temper.slow {
            let all = self.chance.one_in(2);
            let (chance, trace) = (&mut self.chance, &mut self.trace);
            self.server.judge(all, now, chance, trace);
        }
        self.end_links();
    }

    fn commit(&mut self) {
        let now = self.server_now();
        for (number, told) in self.server.commit(now, &mut self.trace) {
            let Some(link) = self.links.get_mut(&number) else {
                continue;
            };
            let body = match told {
                Told::Welcome(welcome) => from_server::Body::Welcome(welcome),
                Told::Ack(_) if self.lie == Lie::AckBeforeSync => continue,
                Told::Ack(ack) => from_server::Body::Ack(ack),
                Told::End => {
                    link.server_ends_ms = Some(now.ms);
                    continue;
                }
            };
            let message = pb::FromServer { body: Some(body) };
            link.down.send(now.ms, &mut self.chance, &message);
        }
    }

    fn agent_step(&mut self, at: usize) {
        let (wall, now_ms) = (self.wall(), self.now_ms);
        let agent = &mut self.agents[at];
        if agent.room_ms > 0 && now_ms >= agent.room_ms {
            agent.room_ms = 0;
            agent.disk.set_capacity(None);
        }
        if now_ms < agent.asleep_ms {
            return;
        }
        let now = agent.now(wall, now_ms);
        if agent.life.is_none() && now_ms >= agent.up_ms {
            agent.start(now, now_ms, &mut self.chance, &mut self.trace);
        }
        agent.work(now, now_ms, &mut self.chance);
        self.dial(at);
        self.hear(at);
        self.speak(at);
    }

    pub(super) fn is_apart(&self, at: usize) -> bool {
        self.now_ms < self.partitions[at]
    }

    fn dial(&mut self, at: usize) {
        let (wall, now_ms, apart) = (self.wall(), self.now_ms, self.is_apart(at));
        let agent = &mut self.agents[at];
        let now = agent.now(wall, now_ms);
        let Some(life) = &mut agent.life else { return };
        if life.stream.is_some() || now_ms < life.dials_ms {
            return;
        }
        if apart || !self.server.is_up() {
            life.dials_ms = now_ms + 500 + self.chance.below(BACKOFF_MS);
            return;
        }
        let (number, host) = (self.next_link, agent.host);
        self.next_link += 1;
        let Some(hello) = agent.dial(number, now) else {
            return;
        };
        // Whoever was connected before is superseded; what it had sent may still be on its way in.
        for (other, owner) in &self.owners {
            if *owner == at
                && let Some(link) = self.links.get_mut(other)
            {
                let ends = now_ms + self.chance.below(3_000);
                link.server_ends_ms = Some(link.server_ends_ms.map_or(ends, |e| e.min(ends)));
            }
        }
        let mut link = Link::default();
        link.up.send(now_ms, &mut self.chance, &hello);
        self.links.insert(number, link);
        self.owners.insert(number, at);
        self.server.connected(number, host);
        self.trace
            .note(&format!("{now_ms} agent {at} dials {number}"));
    }

    /// The agent takes what has come, or notices that its connection is over.
    fn hear(&mut self, at: usize) {
        let (wall, now_ms, apart) = (self.wall(), self.now_ms, self.is_apart(at));
        let agent = &mut self.agents[at];
        let now = agent.now(wall, now_ms);
        let host = agent.host;
        let Some(life) = &mut agent.life else { return };
        let Some((number, course)) = &mut life.stream else {
            return;
        };
        let Some(link) = self.links.get_mut(number) else {
            life.stream = None;
            return;
        };
        let mut ended = link.agent_ends_ms.is_some_and(|end| now_ms >= end);
        while !ended
            && !apart
            && let Some(message) = link.down.receive::<pb::FromServer>(now_ms)
        {
            if let Some(from_server::Body::Ack(ack)) = &message.body
                && let Some(epoch) = course.epoch_id(ack.epoch)
            {
                self.server.oracle.acked(host, epoch, ack.seq);
            }
            let heard = if life.is_welcome {
                course.heard(&life.shared, message, now)
            } else {
                life.is_welcome = true;
                course.welcome(&life.shared, Some(message), now).map(drop)
            };
            ended = heard.is_err();
        }
        if ended {
            link.agent_ends_ms = Some(now_ms);
            link.server_ends_ms
                .get_or_insert(now_ms + self.chance.below(NOTICED_MS));
            link.up.cut(&mut self.chance);
            life.stream = None;
            life.dials_ms = now_ms + 200 + self.chance.below(BACKOFF_MS);
        }
    }

    /// The agent puts into its connection what there is.
    fn speak(&mut self, at: usize) {
        let (wall, now_ms) = (self.wall(), self.now_ms);
        let agent = &mut self.agents[at];
        let now = agent.now(wall, now_ms);
        let Some(life) = &mut agent.life else { return };
        if !life.is_welcome {
            return;
        }
        let Some((number, course)) = &mut life.stream else {
            return;
        };
        let Some(link) = self.links.get_mut(number) else {
            return;
        };
        let mut end = None;
        for _ in 0..64 {
            if let Err(why) = course.fill(&life.shared, now) {
                end = Some(why);
                break;
            }
            if course.idle_ms(now) == 0 {
                course.beat(&life.shared, now);
            }
            if !link.up.has_room() {
                break;
            }
            let Some(message) = course.next_message() else {
                break;
            };
            link.up.send(now_ms, &mut self.chance, &message);
        }
        if let Some(why) = end {
            self.trace
                .note(&format!("{now_ms} agent {at} ends its stream: {why:?}"));
            life.dials_ms = match why {
                End::Again(_) => now_ms,
                End::Later(_) | End::After(..) | End::Unauthenticated(_) | End::Refused(_) => {
                    now_ms + self.chance.below(BACKOFF_MS)
                }
            };
            life.stream = None;
            link.agent_ends_ms = Some(now_ms);
            link.server_ends_ms
                .get_or_insert(now_ms + self.chance.below(3_000));
        }
    }

    /// The server takes what has come.
    fn carry_up(&mut self) {
        let now = self.server_now();
        for (number, link) in &mut self.links {
            let at = self.owners[number];
            while self.server.knows(*number)
                && now.ms >= self.partitions[at]
                && let Some(message) = link.up.receive::<pb::FromAgent>(now.ms)
            {
                match self.server.take(*number, message, now) {
                    Ok(None) => {}
                    Ok(Some(ack)) => {
                        let body = Some(from_server::Body::Ack(ack));
                        link.down
                            .send(now.ms, &mut self.chance, &pb::FromServer { body });
                    }
                    Err(why) => {
                        self.trace
                            .note(&format!("{} stream {number} is refused: {why}", now.ms));
                        if self.lie == Lie::None {
                            self.trace.wrong(format!("a stream is refused: {why}"));
                        }
                        self.server.disconnected(*number);
                        link.server_ends_ms = Some(now.ms);
                    }
                }
            }
        }
    }

    /// Each end notices in its own time that a connection is over.
    fn end_links(&mut self) {
        let now_ms = self.now_ms;
        let mut over = Vec::new();
        for (number, link) in &mut self.links {
            let known = self.server.knows(*number);
            if link.server_ends_ms.is_some_and(|end| now_ms >= end) || !known {
                self.server.disconnected(*number);
                link.server_ends_ms.get_or_insert(now_ms);
                if link.agent_ends_ms.is_none() {
                    // What it sent before may still come.
                    link.agent_ends_ms = Some(now_ms + self.chance.below(NOTICED_MS));
                }
            }
            let agent_gone = link.agent_ends_ms.is_some_and(|end| now_ms >= end);
            if agent_gone && (!known || link.up.is_dry()) {
                over.push(*number);
            }
        }
        for number in over {
            let at = self.owners[&number];
            if let Some(life) = &mut self.agents[at].life
                && life
                    .stream
                    .as_ref()
                    .is_some_and(|(mine, _)| *mine == number)
            {
                continue;
            }
            self.server.disconnected(number);
            self.links.remove(&number);
            self.owners.remove(&number);
        }
    }

    /// Faults are over; everything comes back and is delivered.
    fn settle(&mut self) {
        self.trace.note("settling");
        self.temper.slow = 0;
        self.server.disk.clear_faults();
        self.server.disk.set_capacity(None);
        self.partitions.fill(0);
        for agent in &mut self.agents {
            agent.disk.clear_faults();
            agent.disk.set_capacity(None);
            agent.asleep_ms = 0;
            agent.up_ms = agent.up_ms.min(self.now_ms + 1_000);
        }
        for link in self.links.values_mut() {
            (link.up.is_black, link.down.is_black) = (false, false);
        }
        for step in 0..SETTLING_STEPS_MAX {
            self.pass();
            self.step();
            // By then each agent has told what its disk did not take.
            let is_quiet = step > SETTLING_STEPS_MIN && self.server.is_up();
            for agent in &mut self.agents {
                agent.is_quiet |= is_quiet && agent.life.is_some();
            }
            if is_quiet && self.agents.iter().all(|agent| agent.backlog() == 0) {
                return;
            }
        }
        let left: Vec<u64> = self.agents.iter().map(Agent::backlog).collect();
        self.trace
            .wrong(format!("not everything was delivered in the end: {left:?}"));
    }

    /// One more restart, and everything is compared.
    fn end(&mut self) {
        let now = self.server_now();
        if self.chance.one_in(2) {
            self.server.stop(now, &mut self.chance, &mut self.trace);
        } else {
            self.server.kill(now.ms);
        }
        self.server.start(now, &self.config, &mut self.trace);
        self.server.end(&self.agents, &mut self.trace);
    }
}

fn card(agent: &Agent) -> HostCard {
    HostCard::new(
        agent.host,
        agent.name(),
        Timestamp::from_second(BEGIN_SECOND - 60).expect("a time"),
    )
}
