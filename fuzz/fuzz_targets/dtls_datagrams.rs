#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jetlinks_bridge_fuzz::dtls_datagrams::check(data));
