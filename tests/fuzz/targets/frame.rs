//! libFuzzer's way into [`dawnwatch_tests::fuzzing::frame`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("frame"), |data: &[u8]| fuzzing::frame(data));
