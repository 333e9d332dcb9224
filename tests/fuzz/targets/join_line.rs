//! libFuzzer's way into [`dawnwatch_tests::fuzzing::join_line`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("join_line"), |data: &[u8]| fuzzing::join_line(data));
