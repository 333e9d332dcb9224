//! A process that some thousand agents live in.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dawnwatch_tests::bench::crowd::{Counts, Crowd};
use dawnwatch_tests::bench::fleet::{Times, join_all};
use dawnwatch_tests::bench::g1;
use dawnwatch_tests::faketime::real_now;

/// How often it says how its agents are.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// Which agents.
#[derive(Debug, clap::Args)]
pub(super) struct Load {
    /// Where their states are kept.
    #[arg(long)]
    dir: PathBuf,
    /// The server.
    #[arg(long)]
    server: String,
    /// The line to join by.
    #[arg(long)]
    line: String,
    /// The first one.
    #[arg(long)]
    from: u64,
    /// The one after the last.
    #[arg(long)]
    to: u64,
}

pub(super) fn run(load: &Load) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let times = Times::backlog(0, real_now().as_millisecond());
    let numbers = load.from..load.to;
    let joined = join_all(&load.dir, &load.server, &load.line, numbers, times);
    let members = runtime.block_on(joined)?;
    let crowd = {
        let _inside = runtime.enter();
        Crowd::of(members, g1::TICK_MS)
    };
    let counts = Arc::clone(&crowd.counts);
    std::thread::spawn(move || {
        while say(&counts).is_ok() {
            std::thread::sleep(SAY_EVERY);
        }
    });
    // Until whoever started it is gone.
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    drop(crowd);
    Ok(())
}

fn say(counts: &Counts) -> std::io::Result<()> {
    let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} {} {} {}",
        get(&counts.connected),
        get(&counts.welcomed),
        get(&counts.failed),
        get(&counts.lost)
    )?;
    out.flush()
}
