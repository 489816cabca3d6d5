//! The parts of the bridge that instructions belong to.

use std::collections::BTreeMap;

use crate::profile::{Function, Profile};

/// Parts in the order of the table: name, and the folders of the sources.
const PARTS: [(&str, &[&str]); 11] = [
    ("MQTT codec", &["src/codec/"]),
    (
        "topics and JSON",
        &["src/protocol/topic/", "src/protocol/message/", "src/protocol/json/", "src/protocol/translate.rs"],
    ),
    (
        "envelopes",
        &["src/protocol/envelope/", "src/protocol/ulid.rs", "src/protocol/clock.rs", "src/protocol/address.rs"],
    ),
    ("commands", &["src/protocol/command/", "src/protocol/downlink.rs"]),
    ("sign of CONNECT", &["src/protocol/auth/"]),
    ("sessions", &["src/session/"]),
    ("worker", &["src/transport/"]),
    ("directory and claims", &["src/replica/"]),
    ("registry", &["src/registry/", "src/app/registry.rs"]),
    ("metrics and log", &["src/telemetry/", "src/app/meter.rs", "/tracing"]),
    ("the rest of the bridge", &["src/"]),
];

const MEMORY: &str = "malloc and free";
const COPIES: &str = "memcpy, memcmp, memset";
const HASHING: &str = "hash maps";
const MD5: &str = "sign of CONNECT";
const LIBRARIES: &str = "standard library and crates";
const BENCHMARK: &str = "the benchmark itself";

/// Names of all parts, in the order of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|(name, _)| *name).chain([MEMORY, COPIES, HASHING, LIBRARIES, BENCHMARK])
}

/// Instructions by part.
pub(crate) fn shares(profile: &Profile) -> BTreeMap<&'static str, u64> {
    let mut shares = BTreeMap::new();
    for function in &profile.functions {
        for (file, cost) in &function.own {
            *shares.entry(part(function, file)).or_default() += cost;
        }
    }
    shares
}

/// Part of what was compiled from `file` into a function. Generic code of libraries counts for the part that it was compiled into.
pub(crate) fn part(function: &Function, file: &str) -> &'static str {
    own_part(file)
        .or_else(|| own_part(&function.file))
        .or_else(|| by_module(&function.name))
        .unwrap_or_else(|| library_part(function))
}

fn own_part(file: &str) -> Option<&'static str> {
    if file.contains("/md-5-") || file.contains("/digest-") || file.contains("/block-buffer-") {
        return Some(MD5);
    }
    if file.contains("/tracing-") {
        return Some("metrics and log");
    }
    if file.contains("benches/instructions/") {
        return Some(BENCHMARK);
    }
    if file.contains("/registry/src/") || file.contains("/rustc/") || file.contains("/rust/deps/") {
        return None;
    }
    let path = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/")).unwrap_or(file);
    PARTS.iter().find(|(_, folders)| folders.iter().any(|folder| path.starts_with(folder))).map(|(name, _)| *name)
}

/// Part of a generic function of a library that is made for a type of the bridge.
fn by_module(name: &str) -> Option<&'static str> {
    let (_, path) = name.split_once("jetlinks_bridge::")?;
    let path = format!("src/{}", path.replace("::", "/"));
    PARTS.iter().find(|(_, folders)| folders.iter().any(|folder| path.starts_with(folder))).map(|(name, _)| *name)
}

fn library_part(Function { name, .. }: &Function) -> &'static str {
    let is_one_of = |names: &[&str]| names.iter().any(|part| name.contains(part));
    if is_one_of(&["malloc", "free", "calloc", "realloc", "_int_", "__rust_alloc", "__rust_dealloc", "__rdl_"]) {
        MEMORY
    } else if is_one_of(&["memcpy", "memmove", "memcmp", "memset", "bcmp"]) {
        COPIES
    } else if is_one_of(&["hashbrown", "HashMap", "siphash", "sip::", "BuildHasher", "ahash"]) {
        HASHING
    } else {
        LIBRARIES
    }
}
