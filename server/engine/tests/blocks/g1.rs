//! G1, the made fleet that stores of time series were compared on: 70 series of a host, integers all. Its values hold
//! 402 bits of chance per 70 samples, 0.718 bytes each: no lossless form goes below.

/// Series of a host.
pub(crate) const SERIES: u64 = 70;

const G: u64 = 0x9E37_79B9_7F4A_7C15;
const SEED: u64 = 20_261_121;

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn word(host: u64, series: u64, tick: u64) -> u64 {
    let key = mix(SEED.wrapping_add((host * 71 + series + 1).wrapping_mul(G)));
    mix(key.wrapping_add((tick + 1).wrapping_mul(G)))
}

fn first(series: u64, w: u64) -> u64 {
    match series {
        0..10 => w % 10_001,
        10..30 => w % 1_001,
        30..38 => w % (1 << 40),
        38..46 => (w % (1 << 28)) * 4_096,
        46..52 => w % (1 << 32),
        52..62 => (1 + w % 64) * 1_048_576,
        _ => w % 1_000,
    }
}

fn next(host: u64, series: u64, x: u64, w: u64) -> u64 {
    match series {
        0..10 => (x + w % 301).saturating_sub(150).min(10_000),
        10..30 => (x + w % 21).saturating_sub(10).min(1_000),
        30..38 if host.is_multiple_of(4) => x + w % 1_250_001,
        30..38 => x + w % 20_001,
        38..46 if (w >> 32) % 8 < 5 => x,
        38..46 => x + (w % 256 + 1) * 4_096,
        46..52 => x + w % 5_000,
        52..62 => x,
        _ if w.is_multiple_of(256) => (w >> 8) % 1_000,
        _ => x,
    }
}

/// Times and rows of a host, ten seconds apart, late or early by up to so many milliseconds.
#[must_use]
pub(crate) fn host(host: u64, ticks: u64, jitter_ms: u64) -> (Vec<i64>, Vec<Vec<i64>>) {
    let mut row: Vec<u64> = (0..SERIES).map(|s| first(s, word(host, s, 0))).collect();
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for tick in 0..ticks {
        if tick > 0 {
            for (x, s) in row.iter_mut().zip(0..) {
                *x = next(host, s, *x, word(host, s, tick));
            }
        }
        let late = word(host, SERIES, tick) % (2 * jitter_ms + 1);
        let at = 1_700_000_000_000 + 10_000 * tick + late - jitter_ms;
        times.push(at.cast_signed());
        rows.push(row.iter().map(|x| x.cast_signed()).collect());
    }
    (times, rows)
}
