#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jetlinks_bridge_fuzz::nats_operations::check(data));
