//! libFuzzer's way into [`dawnwatch_tests::fuzzing::saved`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("saved"), |data: &[u8]| fuzzing::saved(data));
