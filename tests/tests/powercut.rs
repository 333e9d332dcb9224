//! Power cuts: server and agents on a real ext4 whose power goes at any moment. What was acknowledged is in history after it, and
//! what an agent kept before it said goodbye arrives.
//!
//! Time-boxed for `tests/run`; `tests/soak power` runs it until the power went so often. `DAWNWATCH_SEED` repeats a run. Each cut
//! proves itself by a file that was written just before it and must not hold what was written.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use dawnwatch_proto::{EventBody, Item};
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::image::Image;
use dawnwatch_tests::inject::{Fault, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::oracle::Found;
use dawnwatch_tests::proxy::Seen;
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{Guest, SOON, Stage};
use dawnwatch_tests::wait::until_true;
use rustix::process::Signal;

/// Agents on one server.
const AGENTS: usize = 3;

/// Room for server and agents, mostly reserved segments.
const IMAGE_MEGABYTES: u64 = 256;

/// After so many cuts a house is left for a fresh one: so that what is compared stays small.
const CUTS: u64 = 20;

/// `tests/run` begins no round after this.
const WITHIN: Duration = Duration::from_secs(30);

/// Written before a cut and never synced.
const UNSYNCED: &str = "not synced";

/// The calls that make durable.
const SYNCS: &str = "fsync,fdatasync";

/// A house on an image. Fields are dropped in this order.
struct Site {
    stage: Stage,
    image: Image,
    /// Clean stops of each agent before a cut.
    stops: [usize; AGENTS],
    dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
        Site {
            stage: Stage::start(dir.path(), &image.point, AGENTS),
            image,
            stops: [0; AGENTS],
            dir,
        }
    }

    /// Cuts the power under all that runs. What is up stands still meanwhile: an acknowledgement is a promise only if it is made
    /// while the disk can still keep it.
    fn cut(&mut self) {
        if let Some(server) = &self.stage.server {
            server.signal(Signal::STOP);
        }
        for guest in &self.stage.guests {
            guest.agent.signal(Signal::STOP);
        }
        let canary = self.image.point.join("canary");
        fs::write(&canary, UNSYNCED).expect("the disk takes it");
        self.image.cut();
        self.stage.kill_server();
        for guest in &mut self.stage.guests {
            guest.agent.kill();
        }
        self.image.unmount();
        self.image.mount_again();
        // Its name may be there: a commit of ext4's own that was under way took it along. What it holds nobody asked for.
        let found = fs::read_to_string(&canary).unwrap_or_default();
        assert_ne!(found, UNSYNCED, "the power did not go");
        let _ = fs::remove_file(&canary);
    }

    fn start_agents(&mut self) {
        for guest in &mut self.stage.guests {
            guest.agent.start();
        }
    }

    /// Agents that spool while the server is away, and stop: from then on nothing of it may be lost.
    fn stop_agents_alone(&mut self, chance: &mut Chance) {
        self.stage.kill_server();
        pause(chance);
        for (guest, stops) in self.stage.guests.iter_mut().zip(&mut self.stops) {
            guest.agent.stop();
            *stops += 1;
        }
    }

    /// Agents whose last words did not arrive whole.
    fn unheard(&self) -> Vec<String> {
        let heard = |guest: &Guest| {
            let seen = guest.proxy.seen.lock();
            goodbyes(&seen.unwrap_or_else(PoisonError::into_inner))
        };
        let guests = self.stage.guests.iter().zip(self.stops);
        guests
            .filter(|(guest, stops)| heard(guest) < *stops)
            .map(|(guest, stops)| {
                let heard = heard(guest);
                format!(
                    "{}: {stops} stops, {heard} heard of whole",
                    guest.agent.name
                )
            })
            .collect()
    }
}

/// Acknowledged goodbyes with everything acknowledged that was said before them in their epoch.
fn goodbyes(seen: &Seen) -> usize {
    let mut whole = 0;
    let (mut of, mut next, mut is_whole) = (0, 1, true);
    for ((epoch, seq), item) in &seen.sent {
        if *epoch != of {
            (of, next, is_whole) = (*epoch, 1, true);
        }
        is_whole &= *seq == next && seen.acked.get(epoch).is_some_and(|acked| seq <= acked);
        next = seq + item.width();
        if let Item::Event(event) = item
            && let EventBody::Goodbye(_) = event.body
        {
            whole += usize::from(is_whole);
        }
    }
    whole
}

fn pause(chance: &mut Chance) {
    // The moment of the cut is the experiment itself: nothing to wait for.
    std::thread::sleep(Duration::from_millis(chance.below(900)));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let rounds = setting("DAWNWATCH_POWER_ROUNDS", 0);
    let mut chance = Chance::new(seed);
    let (mut cuts, mut stops, mut found) = (0, 0, Found::default());
    let end = Instant::now() + WITHIN;
    while cuts < rounds || (rounds == 0 && Instant::now() < end) {
        let mut site = Site::start();
        for _ in 0..CUTS {
            pause(&mut chance);
            if chance.one_in(4) {
                site.stop_agents_alone(&mut chance);
                stops += AGENTS;
            }
            site.cut();
            cuts += 1;
            let before = site.stage.acked();
            site.stage
                .start_server(Vec::new())
                .expect("the server starts");
            // Before the agents are there again: what they send anew must not hide what was lost.
            let after = site.stage.check_now();
            assert!(after.is_good(), "cut {cuts}: {after:?}");
            site.start_agents();
            site.stage.await_acks(&before);
            if rounds == 0 && Instant::now() > end {
                break;
            }
        }
        found.add(site.stage.settle());
        site.stops = site.stops.map(|stops| stops + 1);
        assert_eq!(site.unheard(), Vec::<String>::new());
        say(&format!(
            "RESULT power seed={seed} cuts={cuts} stops={stops} compared={} lost={} repeated={}",
            found.compared,
            found.lost.len(),
            found.repeated
        ));
        assert!(found.is_good(), "{found:?}");
    }
    assert!(
        cuts > 0 && found.compared > 100,
        "next to nothing was tried"
    );
}

/// The negative control: a server and agents whose syncs say that they were done, and nothing is. If no cut loses anything then, the
/// harness proves nothing.
#[test]
fn without_syncs_a_power_cut_loses_what_was_acknowledged() {
    if !are_met(&[Need::PowerCut, Need::Strace]) {
        return;
    }
    let lie = |log: &Path| {
        let (calls, what, nth) = (SYNCS, What::Lie, 0);
        Fault { calls, what, nth }.from_start(log)
    };
    let mut site = Site::start();
    let logs = ["server", "agent"].map(|who| site.dir.path().join(format!("{who}.strace")));
    site.stage.stop_server();
    site.stage
        .start_server(lie(&logs[0]))
        .expect("the server starts");
    let before = site.stage.acked();
    site.stage.await_acks(&before);
    site.cut();
    site.stage
        .start_server(Vec::new())
        .expect("the server starts");
    let found = site.stage.check_now();
    let lies = fired(&logs[0]).len();
    say(&format!(
        "a server that lies: {lies} syncs left out, {} of {} values lost",
        found.lost.len(),
        found.compared
    ));
    assert!(
        lies > 0 && !found.lost.is_empty(),
        "nothing was lost: {found:?}"
    );

    site.stage.kill_server();
    let guest = &mut site.stage.guests[0];
    guest.agent.start_through(lie(&logs[1]));
    guest.agent.start();
    until_true("the agent to have spooled", SOON, || {
        spooled(&guest.agent.state)
    });
    guest.agent.stop();
    site.stops[0] = 1;
    site.cut();
    site.stage
        .start_server(Vec::new())
        .expect("the server starts");
    let guest = &mut site.stage.guests[0];
    guest.agent.start_through(Vec::new());
    let before = guest.acked();
    guest.agent.start();
    until_true("the agent to be served", SOON, || guest.acked() > before);
    guest.agent.stop();
    site.stops[0] += 1;
    let lies = fired(&logs[1]).len();
    say(&format!(
        "an agent that lies: {lies} syncs left out, {:?}",
        site.unheard()
    ));
    assert!(lies > 0 && !site.unheard().is_empty(), "nothing was lost");
}

/// Whether a spool holds some ticks.
fn spooled(state: &Path) -> bool {
    let Ok(files) = fs::read_dir(state.join("spool")) else {
        return false;
    };
    let bytes = |file: fs::DirEntry| file.metadata().map_or(0, |meta| meta.len());
    files.flatten().map(bytes).sum::<u64>() > 10_000
}
