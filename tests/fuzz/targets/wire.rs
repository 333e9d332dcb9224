#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dawnwatch_tests::fuzzing::wire(data));
