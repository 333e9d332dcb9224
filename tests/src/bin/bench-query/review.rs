//! The first page of the morning after a weekend of all hosts, from a server that has just been started again.
//!
//! A real server lives through the 62 hours of a weekend that is past, under a wall clock that is set forward step by step;
//! the hosts are real streams, a tick each step. Some fall silent on Sunday morning. It seals the night, is restarted with the
//! same clock, and is asked for `/`.
//!
//! Caveats: what passes between two steps of the clock is real seconds, so nothing that needs hours of quiet is judged; the page
//! is asked for over the Unix socket, where the login is that of the machine.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use dawnwatch_proto::api::{NightHead, Now};
use dawnwatch_tests::bench::fleet::{Member, Times, join_all};
use dawnwatch_tests::bench::ours::{Ours, poll};
use dawnwatch_tests::bench::table::median;
use dawnwatch_tests::bench::{ms_since, now};
use dawnwatch_tests::faketime::{FakeClock, real_now};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use tokio::runtime::Runtime;

/// How far the clock is set at a time.
const STEP: SignedDuration = SignedDuration::from_mins(10);

/// Steps from Friday at 17:30 to Monday at 06:50.
const STEPS: u64 = 368;

/// The step in which some fall silent: Sunday at 03:10.
const SILENT: u64 = 202;

/// Of a hundred hosts, so many.
const SILENT_OF_100: usize = 2;

/// Ticks that may be sent and not acknowledged: in quiet running sixteen share an acknowledgement.
const UNACKED: u64 = 16;

/// A server that does not follow within this is broken.
const WITHIN: Duration = Duration::from_secs(120);

/// What the restarted server took, milliseconds.
#[derive(Debug)]
pub(super) struct Morning {
    /// From the start until it says that it is ready.
    pub(super) ready_ms: f64,
    /// The first page after that.
    pub(super) first_ms: f64,
    /// The median of the pages after it.
    pub(super) p50_ms: f64,
    /// Bytes of the page.
    pub(super) bytes: usize,
    /// What the review says, in a word.
    pub(super) verdict: String,
}

pub(super) fn measure(dir: &Path, hosts: u64, repeats: usize) -> anyhow::Result<Morning> {
    let runtime = Runtime::new()?;
    let began = friday()?;
    let mut clock = FakeClock::new(dir, began);
    let data = dir.join("review");
    std::fs::create_dir(&data)?;
    std::fs::write(
        data.join("dawnwatch.toml"),
        "[calendar]\nzone = \"Etc/UTC\"\n",
    )?;
    let mut ours = Ours::start(&data, &clock.env())?;
    let join_line = ours.join_line(hosts)?;
    let mut times = Times::backlog(0, began.as_millisecond());
    times.live_step_ms = i64::try_from(STEP.as_millis())?;
    let (states, address) = (dir.join("weekend"), ours.address.to_string());
    let joined = join_all(&states, &address, &join_line, 0..hosts, times);
    let mut members = runtime.block_on(joined)?;
    runtime.block_on(connect(&mut members))?;
    for step in 0..STEPS {
        let shows = began + STEP * i32::try_from(step)?;
        clock.set(shows);
        if step == SILENT {
            let silent = members.len() * SILENT_OF_100 / 100;
            members.truncate(members.len() - silent);
        }
        runtime.block_on(tick(&mut members))?;
        follows(&ours, shows)?;
        if step % 60 == 0 {
            dawnwatch_tests::say(&format!("step {step} of {STEPS} of the weekend"));
        }
    }
    clock.set(began + STEP * i32::try_from(STEPS)? + SignedDuration::from_secs(598));
    let night = sealed(&ours)?;
    drop(members);
    ours.stop()?;
    ours.set_env(clock.env_as_it_stands());

    let restarted = now();
    ours.again()?;
    ours.until_ready()?;
    let ready_ms = ms_since(restarted);
    let mut took = Vec::new();
    let mut bytes = 0;
    for _ in 0..=repeats {
        let asked = now();
        let page = ours.api().body("/")?;
        took.push(ms_since(asked));
        bytes = page.len();
        let page = String::from_utf8_lossy(&page);
        anyhow::ensure!(
            page.contains(&night.id),
            "the page is not that of {}",
            night.id
        );
    }
    Ok(Morning {
        ready_ms,
        first_ms: took[0],
        p50_ms: median(&took[1..]),
        bytes,
        verdict: format!("{:?}", night.verdict).to_uppercase(),
    })
}

/// The latest Friday whose Monday is past, half an hour before the working hours end: in the past, so that certificates hold.
fn friday() -> anyhow::Result<Timestamp> {
    let mut at = real_now()
        .to_zoned(TimeZone::UTC)
        .with()
        .time(jiff::civil::time(17, 30, 0, 0))
        .build()?;
    at = at.checked_sub(3.days())?;
    while at.weekday() != Weekday::Friday {
        at = at.checked_sub(1.day())?;
    }
    Ok(at.timestamp())
}

async fn connect(members: &mut [Member]) -> anyhow::Result<()> {
    for member in members {
        member.connect().await?;
    }
    Ok(())
}

/// A tick of each, after what was sent long before is durable.
async fn tick(members: &mut [Member]) -> anyhow::Result<()> {
    for member in &mut *members {
        member.send(1).await?;
    }
    for member in members {
        member
            .until_acked(member.sent().saturating_sub(UNACKED))
            .await?;
    }
    Ok(())
}

/// Waits until the server judges by the clock that was set.
fn follows(ours: &Ours, shows: Timestamp) -> anyhow::Result<()> {
    let followed = || {
        ours.get("/api/v1/now")
            .is_ok_and(|now: Now| now.at >= shows)
            .then_some(())
    };
    poll(now() + WITHIN, followed).context("the server follows the clock")
}

fn sealed(ours: &Ours) -> anyhow::Result<NightHead> {
    let last = || ours.get::<Vec<NightHead>>("/api/v1/nights").ok()?.pop();
    poll(now() + WITHIN, last).context("the night is sealed")
}
