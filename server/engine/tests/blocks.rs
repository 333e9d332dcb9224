//! What blocks weigh on data like a real host's, against what plain differences weighed. With `DAWNWATCH_SAMPLES` set to a CSV
//! file (a header, then milliseconds and one number a column) it says so of that file too.

use dawnwatch_engine::block::{Block, Effort, TICKS_MAX, encode};
use dawnwatch_proto::wire::encode_row;

/// Bytes a sample: in sealed hours, in the head, as plain differences.
#[derive(Debug, Clone, Copy)]
struct Weight {
    best: f64,
    quick: f64,
    plain: f64,
}

#[allow(clippy::cast_precision_loss, reason = "byte counts far below 2^52")]
fn weigh(times: &[i64], rows: &[Vec<i64>]) -> Weight {
    let (mut best, mut quick, mut plain, mut samples) = (0, 0, 0, 0);
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
        }
        samples += rows.len() * rows[0].len();
    }
    let each = |bytes: usize| bytes as f64 / samples as f64;
    Weight {
        best: each(best),
        quick: each(quick),
        plain: each(plain),
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
    assert!(weight.best < 0.75 * weight.plain, "{weight:?}");
    assert!(weight.quick < 0.97 * weight.plain, "{weight:?}");
}

#[test]
fn blocks_of_the_file_that_is_named() {
    let Some(path) = std::env::var_os("DAWNWATCH_SAMPLES") else {
        println!("SKIPPED: DAWNWATCH_SAMPLES names no file");
        return;
    };
    let text = std::fs::read_to_string(path).expect("the file of DAWNWATCH_SAMPLES");
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut cells = line.split(',');
        times.push(cells.next().expect("a time").parse().expect("milliseconds"));
        // Hundredths: what node_exporter's CPU seconds and loads have.
        #[allow(clippy::cast_possible_truncation, reason = "far below 2^53")]
        let value = |cell: &str| (cell.parse::<f64>().unwrap_or(0.0) * 100.0).round() as i64;
        rows.push(cells.map(value).collect::<Vec<i64>>());
    }
    println!(
        "the named file: {:.3?} bytes a sample",
        weigh(&times, &rows)
    );
}
