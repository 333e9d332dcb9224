//! What a sample costs on its way into a block and out of it, beside pco alone on the same columns in the same run: an hour
//! of a host of G1. Divide a line by its neighbour; the figures themselves are the machine's.

#[path = "../tests/blocks/g1.rs"]
mod g1;

use dawnwatch_engine::block::{Block, Effort, Group, Head, encode};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress};

/// Ticks of an hour.
const TICKS: u64 = 360;

fn main() {
    divan::main();
}

fn samples() -> ItemsCount {
    ItemsCount::new(TICKS * g1::SERIES)
}

fn columns(rows: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let column = |i| rows.iter().map(|row| row[i]).collect();
    (0..rows[0].len()).map(column).collect()
}

fn block(effort: Effort) -> Vec<u8> {
    let (times, rows) = g1::host(1, TICKS, 5);
    let rows: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
    encode(&times, &rows, effort)
}

fn packed() -> Vec<Vec<u8>> {
    let (_, rows) = g1::host(1, TICKS, 5);
    let config = ChunkConfig::default().with_compression_level(4);
    let pack = |column: Vec<i64>| simple_compress(&column, &config).expect("pco takes integers");
    columns(&rows).into_iter().map(pack).collect()
}

#[divan::bench(args = [Effort::Quick, Effort::Best])]
fn encode_block(bencher: Bencher<'_, '_>, effort: Effort) {
    let (times, rows) = g1::host(1, TICKS, 5);
    let rows: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
    bencher
        .counter(samples())
        .bench(|| encode(black_box(&times), black_box(&rows), effort));
}

#[divan::bench]
fn encode_pco_alone(bencher: Bencher<'_, '_>) {
    let (_, rows) = g1::host(1, TICKS, 5);
    let columns = columns(&rows);
    let config = ChunkConfig::default().with_compression_level(4);
    bencher.counter(samples()).bench(|| {
        let pack = |column: &Vec<i64>| simple_compress(column, &config).map(|bytes| bytes.len());
        columns.iter().map(pack).sum::<Result<usize, _>>()
    });
}

#[divan::bench]
fn decode_block(bencher: Bencher<'_, '_>) {
    let bytes = block(Effort::Best);
    bencher.counter(samples()).bench(|| {
        let block = Block::open(black_box(&bytes)).expect("a block");
        let column = |i| block.column(i).map_or(0, |values| values.len());
        (0..block.columns()).map(column).sum::<usize>()
    });
}

#[divan::bench]
fn decode_pco_alone(bencher: Bencher<'_, '_>) {
    let packed = packed();
    bencher.counter(samples()).bench(|| {
        let unpack = |bytes: &Vec<u8>| simple_decompress::<i64>(bytes).map(|values| values.len());
        packed.iter().map(unpack).sum::<Result<usize, _>>()
    });
}

/// What an hour of one series costs: the head, its times, one group, one column of it.
#[divan::bench]
fn one_series_of_a_block(bencher: Bencher<'_, '_>) {
    let bytes = block(Effort::Best);
    bencher.counter(ItemsCount::new(TICKS)).bench(|| {
        let head = Head::open(black_box(&bytes)).expect("a head");
        let at = head.group_of(3).expect("a column");
        let group = &bytes[at.offset..at.offset + at.length];
        let group = Group::open(group, at, head.ticks()).expect("a group");
        (
            head.times_ms().expect("times"),
            group.column(3).expect("values"),
        )
    });
}
