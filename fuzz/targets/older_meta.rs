#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| locus_vault::fuzzing::older_meta(bytes));
