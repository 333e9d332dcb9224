//! Stories: a text language of what happens to a fleet, run through the real engine; what the engine did comes out as lines.
//!
//! A story is blocks of commands, `---`, and the lines they bring about:
//!
//! ```text
//! holiday 2026-10-05                        settings before the start are there from the start
//! start 2026-10-02 17:00 Europe/Berlin      the server starts for the first time (zone: UTC where none is given)
//! channel ops night=critical day=warning reviews
//! rule memory_full off | rule disk_full hold=60 bound=0.95 severity=warning
//! fact db* importance=high owner=ruiz service=billing
//! host web01 disks=/,/data units=a.service hardware      joins and reports every 10 s from here on
//! join web02                                joins, and its agent never says a word
//! ping web01 gateway:10.0.0.1 mesh:web02 target:printer1   pings these from here on, five times every 10 s
//! set web01 loss:printer1=0.3 rtt:printer1=0.004           1 is an outage; hosts that are off answer nobody
//! target printer1 from=web* severity=critical              settings of a target
//! set web01 /data=0.96 memory=0.5 cpu=0.1 swap=0 iowait=0 readonly:/data=1
//! set web01 failed:a.service=1 restarts:a.service=5 oom:a.service=1 oom=1              where it has units
//! set web01 temperature=95 array=1 connections=0.9 files=0.9 synced=0                  where it has hardware
//! server free=0.04 grow=0.1 lag=5 sync=3 outbox=2                              what the server measures of itself from here on
//! run 5m | until sat 03:12 | until 2026-10-05 07:00
//! idle 20d                                  server and hosts are suspended: time passes and nothing comes in
//! cut web01 | mend web01 [slowly]           the way to the server: samples are spooled, then come late
//! kill web01 | boot web01 [clean]           the host itself
//! crash web01 | agent web01                 its agent alone ends without a goodbye, starts again
//! goodbye web01 stopped|reboot|shutdown|leave
//! clock +1h | clock web01 -5m               the server's clock jumps, or a host's
//! down 2h [clean]                           the server is off
//! save                                      state is saved and restored
//! ack I-1 anna a remark | deliver I-1/1/ops arrived|refused|struggling answer
//! restored 20m restored from a backup       the server goes on from how it was so long ago, as its data were put back
//! notice config text | alarm disk text | retire web01 | erase web01 erased-1
//! twice web01 192.0.2.4 192.0.2.9           a copy of it, at the second address, tries to speak for it
//! named web07 importance=high hours=daily   a person named it, whether it joins or not (daily: 08:00-18:00)
//! forget web07 | like web04-2 web04 | merge web04-2 web04
//! log web01 error "a text with <*>" [x20] [backlog] | logs web01 old "text"   lines of one shape; `old`: in the journal before
//! process web01 java 93% 3g                 who uses CPU and memory
//! fleet web 180                             so many hosts join: web001 and on
//! show net | show now | show review | show screen | show hosts | show rules | show I-1
//! ```

mod lines;
mod logs;
mod model;
mod season;
mod server;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use lines::effect_line;
pub use season::season;
pub use world::World;

use crate::config::{Channel, HostFacts, Target};
use crate::input::{Act, Delivered, Input, Named, Notice, Order, Outcome, Restored};
use crate::{At, Effect, Engine};
use dawnwatch_proto::event::GoodbyeReason;
use dawnwatch_proto::review::{Importance, Severity};

/// A command that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {command:?}: {why}")]
pub struct StoryError {
    /// Line of the story, from 1.
    pub line: usize,
    /// The command.
    pub command: String,
    /// What is wrong with it.
    pub why: String,
}

/// A story under way: a world, and the engine that judges it.
#[derive(Debug, Default)]
pub struct Story {
    engine: Engine,
    world: World,
    out: Vec<String>,
}

/// Runs a whole story. Returns its text with the lines as they are.
///
/// # Errors
/// The first command that cannot be run.
pub fn run(text: &str) -> Result<String, StoryError> {
    let mut story = Story::default();
    let mut out = String::new();
    let mut in_commands = true;
    for (line, command) in text.lines().enumerate() {
        if command == "---" {
            in_commands = false;
            out.push_str("---\n");
            for done in story.take_lines() {
                out.push_str(&done);
                out.push('\n');
            }
            out.push('\n');
        } else if !in_commands && command.is_empty() {
            in_commands = true;
        } else if in_commands {
            out.push_str(command);
            out.push('\n');
            let why = |why| StoryError {
                line: line + 1,
                command: command.to_owned(),
                why,
            };
            story.command(command).map_err(why)?;
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    Ok(out)
}

impl Story {
    /// The lines since this was asked last.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.out)
    }

    /// Runs one command; an empty line or a comment is none.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn command(&mut self, command: &str) -> Result<(), String> {
        let command = command.split('#').next().unwrap_or("").trim();
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some((verb, args)) = words.split_first() else {
            return Ok(());
        };
        match *verb {
            "start" => self.world.start(args)?,
            "run" => self.world.run(world::millis(arg(args, 0)?)?),
            "until" => self.world.until(args)?,
            "channel" | "rule" | "fact" | "holiday" | "target" => self.configure(verb, args)?,
            "idle" => self.world.idle(world::millis(arg(args, 0)?)?),
            "host" => self.world.host(arg(args, 0)?, &args[1..])?,
            "join" => self.world.join(arg(args, 0)?),
            "ping" => self.world.ping(arg(args, 0)?, &args[1..])?,
            "set" => self.world.set(arg(args, 0)?, &args[1..])?,
            "server" => self.world.server(args)?,
            "cut" => self.world.cut(arg(args, 0)?)?,
            "mend" => self
                .world
                .mend(arg(args, 0)?, args.get(1) == Some(&"slowly"))?,
            "kill" => self.world.kill(arg(args, 0)?, true)?,
            "crash" => self.world.kill(arg(args, 0)?, false)?,
            "boot" => self
                .world
                .boot(arg(args, 0)?, true, args.get(1) == Some(&"clean"))?,
            "agent" => self
                .world
                .boot(arg(args, 0)?, false, args.get(1) == Some(&"clean"))?,
            "goodbye" => self.world.goodbye(arg(args, 0)?, goodbye(arg(args, 1)?)?)?,
            "retire" => self.world.retire(arg(args, 0)?)?,
            "twice" => self
                .world
                .twice(arg(args, 0)?, arg(args, 1)?, arg(args, 2)?)?,
            "erase" => self.world.erase(arg(args, 0)?, arg(args, 1)?)?,
            "named" => self.named(facts(arg(args, 0)?.to_owned(), &args[1..])?, false),
            "forget" => self.named(facts(arg(args, 0)?.to_owned(), &[])?, true),
            "like" => self.world.like(arg(args, 0)?, arg(args, 1)?)?,
            "merge" => self.world.merge(arg(args, 0)?, arg(args, 1)?)?,
            "clock" => self.world.clock(args)?,
            "down" => self
                .world
                .down(world::millis(arg(args, 0)?)?, args.get(1) == Some(&"clean")),
            "save" => self.save()?,
            "ack" => self.acknowledge(arg(args, 0)?, arg(args, 1)?, &args[2..]),
            "deliver" => self.deliver(arg(args, 0)?, arg(args, 1)?, &args[2..])?,
            "notice" | "alarm" => {
                let (subject, text) = (arg(args, 0)?.to_owned(), args[1..].join(" "));
                self.world.push(Input::Server(Notice {
                    subject,
                    text,
                    critical: *verb == "alarm",
                }));
            }
            "restored" => {
                let ago = Duration::from_millis(world::millis(arg(args, 0)?)?);
                let until = self.world.wall() - ago;
                let how = args[1..].join(" ");
                self.world.push(Input::Restored(Restored { until, how }));
            }
            "log" | "logs" => self.world.log(&command[verb.len()..])?,
            "process" => self.world.process(args)?,
            "fleet" => self.fleet(arg(args, 0)?, arg(args, 1)?)?,
            "show" => self.show(arg(args, 0)?)?,
            _ => return Err("no such command".to_owned()),
        }
        self.judge();
        Ok(())
    }

    fn fleet(&mut self, name: &str, count: &str) -> Result<(), String> {
        for number in 1..=whole(count)? {
            self.world.host(&format!("{name}{number:03}"), &[])?;
        }
        Ok(())
    }

    /// Steps the engine over what the world brought forth.
    fn judge(&mut self) {
        for (at, input) in self.world.take() {
            let effects = self.engine.step(at, input);
            self.tell(at, &effects);
        }
    }

    fn tell(&mut self, at: At, effects: &[Effect]) {
        let zone = self.world.zone();
        let names: BTreeMap<_, _> = self.world.names();
        let lines = effects
            .iter()
            .map(|e| effect_line(e, at.wall, &zone, &names));
        self.out.extend(lines);
    }

    fn save(&mut self) -> Result<(), String> {
        self.engine = Engine::restore(&self.engine.save()).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn named(&mut self, facts: HostFacts, gone: bool) {
        let named = Named {
            facts,
            address: None,
            labels: Vec::new(),
            expected: Some(self.world.wall()),
            gone,
        };
        self.world.push(Input::Named(Box::new(named)));
    }

    fn acknowledge(&mut self, incident: &str, by: &str, note: &[&str]) {
        let act = Act::Acknowledge {
            incident: incident.to_owned(),
            note: note.join(" "),
        };
        self.world.push(Input::Order(Order {
            by: by.to_owned(),
            act,
        }));
    }

    fn deliver(&mut self, key: &str, outcome: &str, answer: &[&str]) -> Result<(), String> {
        let outcome = match outcome {
            "arrived" => Outcome::Arrived,
            "refused" => Outcome::Refused,
            "struggling" => Outcome::Struggling,
            _ => return Err("arrived, refused or struggling".to_owned()),
        };
        let (key, answer) = (key.to_owned(), answer.join(" "));
        self.world.push(Input::Delivered(Delivered {
            key,
            outcome,
            answer,
        }));
        Ok(())
    }

    fn configure(&mut self, verb: &str, args: &[&str]) -> Result<(), String> {
        let name = arg(args, 0)?.to_owned();
        let options = &args[1..];
        let config = self.world.config();
        match verb {
            "channel" => {
                let mut channel = Channel {
                    name,
                    night: Severity::Critical,
                    day: Severity::Warning,
                    reviews: false,
                };
                for option in options {
                    match option.split_once('=') {
                        Some(("night", value)) => channel.night = severity(value)?,
                        Some(("day", value)) => channel.day = severity(value)?,
                        None if *option == "reviews" => channel.reviews = true,
                        None | Some(_) => return Err(format!("unknown option {option}")),
                    }
                }
                config.channels.push(channel);
            }
            "rule" => {
                let rule = config
                    .rules
                    .iter_mut()
                    .find(|r| r.name == name)
                    .ok_or("no such rule")?;
                for option in options {
                    match option.split_once('=') {
                        Some(("bound", value)) => rule.bound = number(value)?,
                        Some(("clear", value)) => rule.clear = number(value)?,
                        Some(("hold", value)) => rule.hold_seconds = whole(value)?,
                        Some(("severity", value)) => rule.severity = severity(value)?,
                        None => rule.enabled = *option != "off",
                        Some(_) => return Err(format!("unknown option {option}")),
                    }
                }
            }
            "target" => {
                let mut target = Target {
                    address: name.clone(),
                    name,
                    from: None,
                    tcp_port: None,
                    severity: Severity::Warning,
                };
                for option in options {
                    match option.split_once('=') {
                        Some(("from", value)) => target.from = Some(value.to_owned()),
                        Some(("severity", value)) => target.severity = severity(value)?,
                        None | Some(_) => return Err(format!("unknown option {option}")),
                    }
                }
                config.targets.push(target);
            }
            "holiday" => {
                let date = name.parse().map_err(|_| format!("{name} is no date"))?;
                config.calendar.holidays.push(date);
            }
            _ => config.hosts.push(facts(name, options)?),
        }
        self.world.configured();
        Ok(())
    }

    fn show(&mut self, what: &str) -> Result<(), String> {
        self.judge();
        let mut view = self.engine.view(self.world.wall());
        // Readers get one that may be ten seconds old; a story wants to know.
        view.so_far = Arc::new(self.engine.so_far(self.world.wall()));
        let zone = self.world.zone();
        match what {
            "now" => self.out.extend(lines::now(&view, &zone)),
            "review" => self.out.extend(lines::review(&view, &zone)),
            "hosts" => self.out.extend(lines::hosts(&view)),
            "screen" => self.out.extend(lines::screen(&view)),
            "net" => self.out.extend(lines::net(&view, &zone)),
            "rules" => self.out.extend(lines::rules(&view)),
            id => {
                let incident = view
                    .incidents
                    .iter()
                    .find(|i| i.id == id)
                    .ok_or("no such thing")?;
                self.out.extend(lines::incident(incident, &zone));
            }
        }
        Ok(())
    }
}

fn arg<'a>(args: &[&'a str], index: usize) -> Result<&'a str, String> {
    args.get(index)
        .copied()
        .ok_or_else(|| format!("argument {} is missing", index + 1))
}

fn facts(name: String, options: &[&str]) -> Result<HostFacts, String> {
    let mut facts = HostFacts {
        name,
        ..HostFacts::default()
    };
    for option in options {
        match option.split_once('=') {
            Some(("owner", value)) => facts.owner = Some(value.to_owned()),
            Some(("service", value)) => facts.service = Some(value.to_owned()),
            Some(("site", value)) => facts.site = Some(value.to_owned()),
            Some(("importance", "high")) => facts.importance = Some(Importance::High),
            Some(("importance", "low")) => facts.importance = Some(Importance::Low),
            Some(("hours", "daily")) => {
                facts.hours = Some(std::array::from_fn(|_| vec![(8 * 60, 18 * 60)]));
            }
            None | Some(_) => return Err(format!("unknown fact {option}")),
        }
    }
    Ok(facts)
}

fn severity(text: &str) -> Result<Severity, String> {
    match text {
        "info" => Ok(Severity::Info),
        "warning" => Ok(Severity::Warning),
        "critical" => Ok(Severity::Critical),
        _ => Err(format!("{text} is no severity")),
    }
}

fn goodbye(text: &str) -> Result<GoodbyeReason, String> {
    match text {
        "stopped" => Ok(GoodbyeReason::Stopped),
        "reboot" => Ok(GoodbyeReason::Reboot),
        "shutdown" => Ok(GoodbyeReason::Shutdown),
        "leave" => Ok(GoodbyeReason::Leave),
        _ => Err(format!("{text} is no reason for a goodbye")),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn whole(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("{text} is no whole number"))
}
