//! libFuzzer's way into [`dawnwatch_tests::fuzzing::block`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("block"), |data: &[u8]| fuzzing::block(data));
