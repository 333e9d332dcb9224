//! libFuzzer's way into [`dawnwatch_tests::fuzzing::config`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("config"), |data: &[u8]| fuzzing::config(data));
