//! libFuzzer's way into [`dawnwatch_tests::fuzzing::segment`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("segment"), |data: &[u8]| fuzzing::segment(data));
