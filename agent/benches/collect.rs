//! What one collection of this machine costs.

use dawnwatch_agent::collect::{Collectors, Roots, show};

fn main() {
    divan::main();
}

/// One reading in steady state, as the sampler takes it every ten seconds.
#[divan::bench(sample_count = 200, sample_size = 20)]
fn read(bencher: divan::Bencher<'_, '_>) {
    let mut collectors = Collectors::new(Roots::default());
    collectors.read();
    bencher.bench_local(|| collectors.read());
}

/// The first reading of a process: files are opened, mounts listed, the schema is made.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn first_read(bencher: divan::Bencher<'_, '_>) {
    bencher
        .with_inputs(|| Collectors::new(Roots::default()))
        .bench_local_refs(Collectors::read);
}

/// The text of `collect --once`.
#[divan::bench(sample_count = 50)]
fn shown(bencher: divan::Bencher<'_, '_>) {
    let reading = Collectors::new(Roots::default()).read();
    bencher.bench_local(|| show(&reading));
}
