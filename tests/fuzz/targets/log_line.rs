//! libFuzzer's way into [`dawnwatch_tests::fuzzing::log_line`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("log_line"), |data: &[u8]| fuzzing::log_line(data));
