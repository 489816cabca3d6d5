//! What the fuzz targets check. Each module has one function, `check`, which takes any bytes and panics when a rule is
//! broken; the targets only call it, so the same rules also run as tests over the seeds.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --bin seeds` fills `fuzz/corpus` from `tests/golden`; `make fuzz` does so
//! before it runs the targets.

pub mod command;
pub mod mqtt_decode;
pub mod operations;
pub mod proxy_header;
pub mod seeds;
pub mod session_operations;
pub mod topic_and_message;
pub mod websocket_frames;
pub mod world;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_keeps_the_rules_of_its_target() {
        let seeds = seeds::all();
        for (target, name, bytes) in &seeds {
            let check = match *target {
                "mqtt_decode" => mqtt_decode::check,
                "proxy_header" => proxy_header::check,
                "topic_and_message" => topic_and_message::check,
                "command" => command::check,
                "session_operations" => session_operations::check,
                "websocket_frames" => websocket_frames::check,
                other => panic!("no target is called {other}"),
            };
            println!("{target} {name}");
            check(bytes);
        }
        let targets =
            ["mqtt_decode", "proxy_header", "topic_and_message", "command", "session_operations", "websocket_frames"];
        for target in targets {
            assert!(seeds.iter().any(|(other, ..)| *other == target), "{target} has no seed");
        }
    }

    #[test]
    fn random_operations_keep_the_rules_of_the_session() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..3_000 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
            })
            .take(400)
            .collect();
            session_operations::check(&bytes);
        }
    }
}
