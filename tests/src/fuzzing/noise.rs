//! Changes of bytes that a seed gives: flips, cuts, inserts, splices.

use super::INPUT_BYTES_MAX;
use crate::chance::Chance;

/// Most bytes that one change puts in or takes out.
const STRETCH_MAX: usize = 64;

/// Numbers at which lengths, counts and signs turn.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];

/// One of the seeds with one to four changes; a splice takes its other half from any of them.
///
/// # Panics
/// Where there is no seed.
#[must_use]
pub fn change(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[chance.index(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        once(chance, &mut bytes, seeds);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn once(chance: &mut Chance, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = chance.index(bytes.len() + 1);
    let end = (at + 1 + chance.index(STRETCH_MAX)).min(bytes.len());
    match chance.below(8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        2 if at < bytes.len() => bytes[at] = byte(chance),
        3 => {
            let width = 1 << chance.below(4);
            let edge = EDGES[chance.index(EDGES.len())].to_le_bytes();
            let room = bytes.len() - at;
            bytes[at..]
                .iter_mut()
                .zip(&edge[..width.min(8)])
                .for_each(|(b, e)| *b = *e);
            if room == 0 {
                bytes.extend_from_slice(&edge);
            }
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end.max(at))),
        6 => {
            let more: Vec<u8> = match chance.one_in(2) {
                true => bytes[at..end.max(at)].to_vec(),
                false => (0..=chance.below(16)).map(|_| byte(chance)).collect(),
            };
            drop(bytes.splice(at..at, more));
        }
        _ => {
            let other = &seeds[chance.index(seeds.len())];
            let from = chance.index(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn byte(chance: &mut Chance) -> u8 {
    u8::try_from(chance.below(256)).unwrap_or(0)
}
