//! What goes wrong: how often, drawn by the seed, and to whom.

use dawnwatch_segment::sim::{Failure, SimDisk};

use super::agent::CALLS;
use super::world::{NOTICED_MS, World};
use crate::chance::Chance;

/// Faults in ten thousand steps, each of its kind. A seed draws each rate from none to high, so that runs differ in kind.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    agent_dies: u64,
    agent_power: u64,
    agent_disk: u64,
    agent_full: u64,
    agent_clock: u64,
    agent_sleeps: u64,
    server_dies: u64,
    server_power: u64,
    server_disk: u64,
    server_full: u64,
    server_clock: u64,
    cut: u64,
    black: u64,
    acks_lost: u64,
    partition: u64,
    /// Commits are left out, and groups wait for the watch, in so many steps of a hundred.
    pub(super) slow: u64,
}

impl Temper {
    pub(super) fn draw(chance: &mut Chance) -> Temper {
        let mut rate = |most: u64| chance.below(5) * most / 4;
        Temper {
            agent_dies: rate(150),
            agent_power: rate(80),
            agent_disk: rate(150),
            agent_full: rate(60),
            agent_clock: rate(60),
            agent_sleeps: rate(60),
            server_dies: rate(150),
            server_power: rate(120),
            server_disk: rate(120),
            server_full: rate(50),
            server_clock: rate(60),
            cut: rate(400),
            black: rate(150),
            acks_lost: rate(150),
            partition: rate(60),
            slow: rate(40),
        }
    }
}

impl World {
    fn strikes(&mut self, rate: u64) -> bool {
        self.chance.below(10_000) < rate
    }

    /// Draws what happens to everybody in this step.
    pub(super) fn faults(&mut self) {
        for at in 0..self.agents.len() {
            self.agent_faults(at);
            self.link_faults(at);
        }
        self.server_faults();
    }

    fn agent_faults(&mut self, at: usize) {
        let (temper, now_ms, wall) = (self.temper, self.now_ms, self.wall());
        let up_ms = now_ms + self.chance.below(20_000);
        if self.strikes(temper.agent_dies) && self.agents[at].life.is_some() {
            let agent = &mut self.agents[at];
            if self.chance.one_in(3) {
                let wall = agent.now(wall, now_ms).wall;
                agent.stop(wall);
                self.trace.fault("agent stopped");
            } else {
                agent.kill();
                self.trace.fault("agent killed");
            }
            self.agents[at].up_ms = up_ms;
            self.leave(at);
        }
        if self.strikes(temper.agent_power) {
            self.agents[at].power_cut(now_ms, &mut self.chance);
            self.agents[at].up_ms = up_ms;
            self.trace.fault("agent power cut");
            self.leave(at);
        }
        if self.strikes(temper.agent_disk) {
            fail(&self.agents[at].disk, &mut self.chance);
            self.trace.note("agent disk will fail");
        }
        if self.strikes(temper.agent_full) && self.agents[at].room_ms == 0 {
            self.agents[at]
                .disk
                .set_capacity(Some(self.chance.below(6_000)));
            self.agents[at].room_ms = now_ms + self.chance.below(300_000);
            self.trace.fault("agent disk full");
        }
        if self.strikes(temper.agent_clock) {
            let by = [300_000, -300_000, 3_600_000, -2_500, 31_536_000_000];
            self.agents[at].off_ms += by[self.chance.index(by.len())];
            self.trace.fault("agent clock set");
        }
        if self.strikes(temper.agent_sleeps) {
            self.agents[at].asleep_ms = now_ms + 1_000 + self.chance.below(600_000);
            self.trace.fault("agent suspended");
        }
    }

    /// The agent's end of its connection is gone with its process.
    fn leave(&mut self, at: usize) {
        for (number, owner) in &self.owners {
            if *owner == at
                && let Some(link) = self.links.get_mut(number)
            {
                link.cut(self.now_ms, &mut self.chance, NOTICED_MS);
                link.agent_ends_ms = Some(self.now_ms);
            }
        }
    }

    fn link_faults(&mut self, at: usize) {
        let (temper, now_ms) = (self.temper, self.now_ms);
        let kind = [temper.cut, temper.black, temper.acks_lost].map(|rate| self.strikes(rate));
        if self.strikes(temper.partition) {
            self.partitions[at] = now_ms + 1_000 + self.chance.below(1_200_000);
            self.trace.fault("partition");
        }
        let apart = self.is_apart(at);
        let mut mine = self.owners.iter().filter(|(_, owner)| **owner == at);
        let Some((number, _)) = mine.next_back() else {
            return;
        };
        let Some(link) = self.links.get_mut(number) else {
            return;
        };
        let [cut, black, acks_lost] = kind;
        if cut {
            link.cut(now_ms, &mut self.chance, 2_000);
            self.trace.fault("connection cut");
        }
        if black || acks_lost || apart {
            link.down.is_black |= black || acks_lost;
            link.up.is_black |= black;
            let noticed = now_ms + self.chance.below(NOTICED_MS);
            // Lost acknowledgements alone are not noticed by a keep-alive that is answered otherwise: until dead.
            let noticed = if acks_lost && !black {
                noticed + 120_000
            } else {
                noticed
            };
            link.agent_ends_ms.get_or_insert(noticed);
            link.server_ends_ms.get_or_insert(noticed);
        }
        if black {
            self.trace.fault("black hole");
        }
        if acks_lost {
            self.trace.fault("acknowledgements lost");
        }
    }

    fn server_faults(&mut self) {
        let (temper, now) = (self.temper, self.server_now());
        if self.server.room_ms > 0 && now.ms >= self.server.room_ms {
            self.server.room_ms = 0;
            self.server.disk.set_capacity(None);
        }
        if self.strikes(temper.server_dies) && self.server.is_up() {
            if self.chance.one_in(3) {
                self.server.stop(now, &mut self.chance, &mut self.trace);
                self.trace.fault("server stopped");
            } else {
                self.server.kill(now.ms + self.chance.below(30_000));
                self.trace.fault("server killed");
            }
        }
        if self.strikes(temper.server_power) {
            self.server.power_cut(now.ms);
            self.trace.fault("server power cut");
        }
        if self.strikes(temper.server_disk) {
            fail(&self.server.disk, &mut self.chance);
            self.trace.note("server disk will fail");
        }
        if self.strikes(temper.server_full) && self.server.room_ms == 0 {
            self.server
                .disk
                .set_capacity(Some(self.chance.below(6_000_000)));
            self.server.room_ms = now.ms + self.chance.below(120_000);
            self.trace.fault("server disk full");
        }
        if self.strikes(temper.server_clock) {
            let by = [3_600_000, -3_600_000, 31_536_000_000, -7_000];
            self.server.off_ms += by[self.chance.index(by.len())];
            self.trace.fault("server clock set");
        }
    }
}

/// One of the next calls of a disk fails.
fn fail(disk: &SimDisk, chance: &mut Chance) {
    let call = CALLS[chance.index(CALLS.len())];
    let failure = [Failure::Eio, Failure::Enospc][chance.index(2)];
    disk.fail_nth(call, 1 + chance.below(6), failure);
}
