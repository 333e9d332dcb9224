//! libFuzzer's way into [`dawnwatch_tests::fuzzing::wire`].

#![no_main]

use dawnwatch_tests::fuzzing;

libfuzzer_sys::fuzz_target!(init: fuzzing::lay("wire"), |data: &[u8]| fuzzing::wire(data));
