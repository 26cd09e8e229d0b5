//! Every target's program: which one it is, its name says.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    halfbyte_tests::fuzzing::run(env!("CARGO_BIN_NAME"), bytes);
});
