//! Hash maps for ids and subjects that are looked up with every CONNECT.
//!
//! The hash of the standard library, SipHash, takes some 200 instructions for an id, and a CONNECT with commands from NATS takes
//! 17 of them. That of `ahash` takes some 45. Each map has random keys, so nobody can choose ids that collide in it. It
//! is no cryptographic hash, though: use it for ids of devices that the registry knows, and the hash of the standard library for
//! what a stranger can put into a map.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// A map by ids or subjects; `default()` makes an empty one.
pub type KeyedMap<K, V> = HashMap<K, V, KeyedState>;

/// A set of ids or subjects; `default()` makes an empty one.
pub type KeyedSet<K> = HashSet<K, KeyedState>;

/// The keys of one map, and of its clones.
#[derive(Debug, Clone)]
pub struct KeyedState(ahash::RandomState);

impl Default for KeyedState {
    /// Random keys, by the random numbers of the system that the standard library has for its own maps.
    fn default() -> Self {
        let random = RandomState::new();
        let [first, second, third, fourth] = [0_u64, 1, 2, 3].map(|number| random.hash_one(number));
        Self(ahash::RandomState::with_seeds(first, second, third, fourth))
    }
}

impl BuildHasher for KeyedState {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_keys_of_its_own() {
        let hashes: HashSet<u64> = (0..1_000).map(|_| KeyedState::default().hash_one("device1")).collect();
        assert_eq!(hashes.len(), 1_000);
    }
}
