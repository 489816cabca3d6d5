//! The rules of the fuzz targets, over their seeds, what a few changes make of those, and all files that fuzzing has left in
//! `fuzz/corpus` and `fuzz/artifacts`. `make fuzz` looks further.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support/folder.rs"]
mod folder;
#[path = "../fuzz/src/lib.rs"]
#[expect(dead_code, reason = "the program of the seeds uses the rest")]
mod targets;

use std::fs;
use std::path::Path;

use folder::Folder;
use targets::{Check, TARGETS, seeds};

/// Changes of each seed.
const CHANGES: usize = 40;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

/// A seed with some bytes changed, cut out or repeated.
fn changed(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.next(3) {
        let (at, to) = (random.next(bytes.len() + 1), random.next(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to).min(at.min(to) + 32));
        match random.next(4) {
            0 if from < bytes.len() => bytes[from] = random.next(256) as u8,
            1 if from < bytes.len() => bytes[from] ^= 1 << random.next(8),
            2 => drop(bytes.drain(from..to)),
            _ => {
                let part = bytes[from..to].to_vec();
                bytes.splice(from..from, part);
            }
        }
    }
    bytes
}

/// Calls the check of each file in `folder/TARGET`; how many there are.
#[expect(clippy::print_stdout, reason = "the last name that a failed test prints is that of the file")]
fn replay(folder: &Path, targets: &[(&str, Check)]) -> usize {
    let mut files = 0;
    for (target, check) in targets {
        let Ok(entries) = fs::read_dir(folder.join(target)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            files += 1;
        }
    }
    files
}

#[test]
fn every_seed_keeps_the_rules_of_its_target_however_it_is_changed_or_cut() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let seeds = seeds::all();
    for (target, name, bytes) in &seeds {
        let (_, check) = TARGETS.iter().find(|(known, _)| known == target).unwrap();
        println!("{target} {name}");
        check(bytes);
        for end in 0..bytes.len().min(256) {
            check(&bytes[..end]);
        }
        for _ in 0..CHANGES {
            check(&changed(bytes, &mut random));
        }
    }
    for (target, _) in TARGETS {
        assert!(seeds.iter().any(|(other, ..)| other == target), "{target} has no seed");
    }
}

#[test]
fn random_operations_keep_the_rules_of_sessions_and_endpoints() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..1_000 {
        let bytes: Vec<u8> = (0..400).map(|_| random.next(256) as u8).collect();
        targets::session_operations::check(&bytes);
        targets::coap_operations::check(&bytes);
    }
}

#[test]
fn every_file_that_fuzzing_has_left_keeps_the_rules_of_its_target() {
    for folder in ["corpus", "artifacts"] {
        let files = replay(&Path::new(FUZZ).join(folder), TARGETS);
        println!("{files} files of fuzz/{folder}");
    }
}

#[test]
fn a_file_that_breaks_a_rule_of_its_target_is_found() {
    fn check(data: &[u8]) {
        assert_ne!(data, b"bad", "a rule");
    }
    let folder = Folder::new("fuzz");
    folder.write("target1/good", "good");
    assert_eq!(replay(folder.path(), &[("target1", check), ("target2", check)]), 1);
    folder.write("target1/bad", "bad");
    assert!(std::panic::catch_unwind(|| replay(folder.path(), &[("target1", check)])).is_err());
}

#[test]
fn every_target_is_built_and_checked() {
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
    }
    let mut built: Vec<String> = fs::read_dir(Path::new(FUZZ).join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    built.sort();
    assert!(built.iter().eq(TARGETS.iter().map(|(target, _)| target)), "{built:?}");
}
