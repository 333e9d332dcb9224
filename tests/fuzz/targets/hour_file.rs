//! libFuzzer's way into [`dawnwatch_tests::fuzzing::hour_file`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("hour_file"), |data: &[u8]| fuzzing::hour_file(data));
