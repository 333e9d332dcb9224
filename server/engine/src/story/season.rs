//! A season that chance wrote: a fleet in which everything happens, from a seed. For tests of determinism and speed.

use dawnwatch_proto::event::GoodbyeReason;

use super::world::World;
use crate::config::{Channel, Config};
use crate::input::{Act, Delivered, Order, Outcome};
use crate::{At, Input};
use dawnwatch_proto::review::Severity;

/// Hosts of the season.
const HOSTS: u64 = 8;

/// The inputs of so many hours, the same for the same seed.
#[must_use]
pub fn season(seed: u64, hours: u64) -> Vec<(At, Input)> {
    let mut world = World::default();
    let mut chance = Chance(seed);
    let channel = |name: &str, day| Channel {
        name: name.to_owned(),
        night: Severity::Critical,
        day,
        reviews: true,
    };
    world.config().channels = vec![
        channel("ops", Severity::Warning),
        channel("mail", Severity::Critical),
    ];
    let told = world.start(&["2026-10-02", "15:00", "Europe/Berlin"]);
    debug_assert!(told.is_ok(), "{told:?}");
    for host in 0..HOSTS {
        let _joined = world.host(&name(host), &["disks=/,/data"]);
    }
    for _ in 0..hours * 6 {
        happen(&mut world, &mut chance);
        world.run(600_000);
    }
    world.take()
}

/// One thing happens.
fn happen(world: &mut World, chance: &mut Chance) {
    let host = name(chance.below(HOSTS));
    let incident = chance.below(40) + 1;
    // A thing that cannot happen to this host (booting one that is up) is passed over by the model.
    let _done = match chance.below(16) {
        0 => world.set(&host, &["/data=0.97"]),
        1 | 2 => world.set(
            &host,
            &["/data=0.3", "memory=0.4", "cpu=0.1", "readonly:/=0"],
        ),
        3 => world.set(&host, &["memory=0.95", "cpu=0.99"]),
        4 => world.set(&host, &["readonly:/=1"]),
        5 => world.cut(&host),
        6 | 7 => world.mend(&host, chance.below(2) == 0),
        8 => world.kill(&host, true),
        9 | 10 => world.boot(&host, chance.below(2) == 0, chance.below(2) == 0),
        11 => world.goodbye(&host, GoodbyeReason::Reboot),
        12 => {
            world.down(1_200_000, chance.below(2) == 0);
            Ok(())
        }
        13 => {
            let by = ["+1h", "-1h", "+7m", "-7m"];
            world.clock(&[by[usize::try_from(chance.below(4)).unwrap_or(0)]])
        }
        14 => {
            let act = Act::Acknowledge {
                incident: format!("I-{incident}"),
                note: String::new(),
            };
            world.push(Input::Order(Order {
                by: "anna".to_owned(),
                act,
            }));
            Ok(())
        }
        _ => {
            let key = format!("I-{incident}/1/ops");
            let (outcome, answer) = (Outcome::Arrived, "250 ok".to_owned());
            world.push(Input::Delivered(Delivered {
                key,
                outcome,
                answer,
            }));
            let config = Box::new(Config::clone(world.config()));
            world.push(Input::Config(config));
            Ok(())
        }
    };
}

fn name(host: u64) -> String {
    format!("host{host:02}")
}

/// Splitmix64: chance enough for a story, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
