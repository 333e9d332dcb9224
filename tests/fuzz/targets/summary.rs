//! libFuzzer's way into [`dawnwatch_tests::fuzzing::summary`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("summary"), |data: &[u8]| fuzzing::summary(data));
