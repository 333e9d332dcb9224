//! libFuzzer's way into [`dawnwatch_tests::fuzzing::csv_hosts`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("csv_hosts"), |data: &[u8]| fuzzing::csv_hosts(data));
