//! What blocks weigh on data like a real host's, against what plain differences weighed. With `DAWNWATCH_SAMPLES` set to CSV
//! files (a header, then milliseconds and one number a column; parted by colons) it says so of those too.

mod g1;

use dawnwatch_engine::block::{Block, Effort, TICKS_MAX, encode};
use dawnwatch_proto::wire::encode_row;
use pco::ChunkConfig;
use pco::standalone::simple_compress;

/// Bytes a sample: in sealed hours and in the head, all included; as plain differences and in pco alone, columns only.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    best: f64,
    quick: f64,
    plain: f64,
    pco: f64,
}

#[allow(clippy::cast_precision_loss, reason = "byte counts far below 2^52")]
fn weigh(times: &[i64], rows: &[Vec<i64>]) -> Weight {
    let (mut best, mut quick, mut plain, mut packed, mut samples) = (0, 0, 0, 0, 0);
    let config = ChunkConfig::default().with_compression_level(4);
    for (times, rows) in times.chunks(TICKS_MAX).zip(rows.chunks(TICKS_MAX)) {
        let slices: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
        for (effort, sum) in [(Effort::Best, &mut best), (Effort::Quick, &mut quick)] {
            let bytes = encode(times, &slices, effort);
            let block = Block::open(&bytes).expect("a block");
            assert_eq!(block.times_ms().expect("times"), times);
            assert_eq!(block.rows().expect("rows"), rows);
            *sum += bytes.len();
        }
        for i in 0..rows[0].len() {
            let mut last = 0;
            let deltas: Vec<i64> = rows
                .iter()
                .map(|row| row[i] - std::mem::replace(&mut last, row[i]))
                .collect();
            plain += encode_row(&deltas, None).len() + 2;
            let column: Vec<i64> = rows.iter().map(|row| row[i]).collect();
            packed += simple_compress(&column, &config).expect("integers").len() + 2;
        }
        samples += rows.len() * rows[0].len();
    }
    let each = |bytes: usize| bytes as f64 / samples as f64;
    Weight {
        best: each(best),
        quick: each(quick),
        plain: each(plain),
        pco: each(packed),
    }
}

/// A host of 40 columns at ten seconds: counters that rise unevenly, gauges around a level, rare changes, constants, a duplicate.
fn host() -> (Vec<i64>, Vec<Vec<i64>>) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut chance = move |below: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33).cast_signed() % below
    };
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    let mut counters = [0i64; 16];
    let mut gauges = [50_000i64; 10];
    let mut rare = [3i64; 4];
    for tick in 0..3 * 360i64 {
        times.push(1_764_000_000_000 + tick * 10_000 + chance(7) - 3);
        for (i, counter) in (1..).zip(&mut counters) {
            *counter += chance(1 << i.min(9)) + i64::from(chance(20) == 0) * chance(5_000);
        }
        gauges
            .iter_mut()
            .for_each(|gauge| *gauge += chance(41) - 20);
        for one in &mut rare {
            *one += i64::from(chance(200) == 0);
        }
        let mut row: Vec<i64> = counters
            .iter()
            .chain(&gauges)
            .chain(&rare)
            .copied()
            .collect();
        row.push(counters[7]);
        row.extend([4_096, 0, 1, 8, 16, 100, 0, 0, tick * 10]);
        rows.push(row);
    }
    (times, rows)
}

#[test]
fn blocks_of_a_host_are_small() {
    let (times, rows) = host();
    let weight = weigh(&times, &rows);
    println!("a made host: {weight:.3?} bytes a sample");
    assert!(weight.best < 0.68 * weight.plain, "{weight:?}");
    assert!(weight.quick < 0.71 * weight.plain, "{weight:?}");
}

/// How a column of a real host is counted: what it is multiplied by, and what a budget of precision divides that by.
fn quantum(name: &str, budget: bool) -> (f64, f64) {
    let (mul, coarse) = match name {
        _ if name.starts_with("load") || name.starts_with("cpu") => (100.0, 1.0),
        _ if name.starts_with("pressure") => (1e6, 1_000.0),
        _ if name.starts_with("disk") && name.contains("seconds") => (1_000.0, 1.0),
        _ if name.starts_with("disk") && name.contains("bytes") => (1.0, 65_536.0),
        _ if name.starts_with("network") && name.contains("bytes") => (1.0, 1_024.0),
        _ if name.contains("bytes") => (1.0, 1_048_576.0),
        _ => (1.0, 1.0),
    };
    (mul, if budget { coarse } else { 1.0 })
}

/// Times and rows of a CSV file, every so many lines.
fn samples(text: &str, every: usize, budget: bool) -> (Vec<i64>, Vec<Vec<i64>>) {
    let mut lines = text.lines();
    let names = lines.next().expect("a header").split(',').skip(1);
    let quanta: Vec<_> = names.map(|name| quantum(name, budget)).collect();
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for line in lines.step_by(every) {
        let mut cells = line.split(',');
        times.push(cells.next().expect("a time").parse().expect("milliseconds"));
        #[allow(clippy::cast_possible_truncation, reason = "far below 2^53")]
        let value = |(cell, (mul, div)): (&str, &(f64, f64))| {
            let exact = (cell.parse::<f64>().unwrap_or(0.0) * mul).round();
            (exact / div).floor() as i64
        };
        rows.push(cells.zip(&quanta).map(value).collect::<Vec<i64>>());
    }
    (times, rows)
}

#[test]
fn blocks_of_the_files_that_are_named() {
    let Some(paths) = std::env::var_os("DAWNWATCH_SAMPLES") else {
        println!("SKIPPED: DAWNWATCH_SAMPLES names no files");
        return;
    };
    for path in std::env::split_paths(&paths) {
        let text = std::fs::read_to_string(&path).expect("a file of DAWNWATCH_SAMPLES");
        for (every, budget) in [(1, false), (1, true), (10, false), (10, true)] {
            let (times, rows) = samples(&text, every, budget);
            println!(
                "{} every {every} s, budget {budget}: {:.4?}",
                path.display(),
                weigh(&times, &rows)
            );
        }
    }
}

#[test]
fn blocks_of_g1_come_near_what_it_holds() {
    for (jitter_ms, most) in [(0, 0.79), (5, 0.80)] {
        // Every fourth host is busy.
        let all = (0..8).map(|host| {
            let (times, rows) = g1::host(host, 360, jitter_ms);
            weigh(&times, &rows)
        });
        let sum = all.fold(Weight::default(), |sum, one| Weight {
            best: sum.best + one.best / 8.0,
            quick: sum.quick + one.quick / 8.0,
            plain: sum.plain + one.plain / 8.0,
            pco: sum.pco + one.pco / 8.0,
        });
        println!("G1 +-{jitter_ms} ms: {sum:.4?}");
        assert!(sum.best < most && sum.best > 0.718, "{sum:?}");
    }
}
