//! The registry file over time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::*;

/// A directory of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jetlinks-bridge-registry-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn device(id: &str, rest: &str) -> String {
    format!("[[device]]\nid = '{id}'\nproduct = 'product1'\n{rest}\n")
}

fn with_key(id: &str, key: &str) -> String {
    device(id, &format!("secure_id = 'test'\nsecure_key = '{key}'"))
}

/// Two looks: the first sees the change, the second that it is over.
fn look_twice(registry: &FileRegistry) -> Reload {
    assert!(matches!(registry.poll(), Reload::Unchanged), "a file that just changed may still grow");
    registry.poll()
}

fn ended(reload: Reload) -> Vec<String> {
    match reload {
        Reload::Replaced { ended, .. } => ended.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reload_ends_the_sessions_that_it_no_longer_permits_and_no_others() {
    let scratch = Scratch::new("ended");
    let before: String = ["same", "removed", "disabled", "rekeyed", "moved"].map(|id| with_key(id, "key")).concat()
        + &device("child1", "gateway = 'same'");
    let path = scratch.write("devices.toml", &before);
    let registry = FileRegistry::open(&path, false).unwrap();
    let after = with_key("same", "key")
        + &with_key("disabled", "key")
        + "enabled = false\n"
        + &with_key("rekeyed", "other")
        + &with_key("moved", "key").replace("product1", "product2")
        + &device("child1", "gateway = 'moved'")
        + &with_key("added", "key");
    fs::write(&path, after).unwrap();
    assert_eq!(ended(look_twice(&registry)), ["child1", "disabled", "moved", "rekeyed", "removed"]);
    assert_eq!(registry.device("removed"), Lookup::Unknown);
    assert!(matches!(registry.device("added"), Lookup::Found(_)));
    assert!(matches!(registry.poll(), Reload::Unchanged));
}

#[test]
fn a_broken_or_missing_file_leaves_the_version_before_in_force_and_is_reported_once() {
    let scratch = Scratch::new("broken");
    let path = scratch.write("devices.toml", &with_key("device1", "key"));
    let registry = FileRegistry::open(&path, false).unwrap();
    fs::write(&path, "[[device]]\nid = 'device1'\n").unwrap();
    let Reload::Refused(FileError::Records(mistakes)) = look_twice(&registry) else { panic!("a file with a mistake") };
    assert_eq!(mistakes.0[0].error, RecordError::Missing("product"));
    assert!(matches!(registry.poll(), Reload::Unchanged), "the same version is not reported twice");
    assert!(matches!(registry.device("device1"), Lookup::Found(_)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(look_twice(&registry), Reload::Refused(FileError::Io(_))));
    assert!(matches!(registry.poll(), Reload::Unchanged));
    assert!(matches!(registry.device("device1"), Lookup::Found(_)));
    fs::write(&path, with_key("device2", "key")).unwrap();
    assert_eq!(ended(look_twice(&registry)), ["device1"]);
}

#[test]
fn a_file_that_lost_its_contents_leaves_the_version_before_in_force() {
    let scratch = Scratch::new("empty");
    let path = scratch.write("devices.toml", &with_key("device1", "key"));
    let registry = FileRegistry::open(&path, false).unwrap();
    for text in ["", "# written by a tool that then met a full disk\n"] {
        fs::write(&path, text).unwrap();
        let Reload::Refused(FileError::Records(mistakes)) = look_twice(&registry) else { panic!("{text:?}") };
        assert_eq!(mistakes.0[0].error, RecordError::Empty);
        assert!(matches!(registry.device("device1"), Lookup::Found(_)));
        assert!(matches!(FileRegistry::open(&path, false), Err(FileError::Records(_))), "at start likewise");
    }
    fs::write(&path, "device = []\n").unwrap();
    assert_eq!(ended(look_twice(&registry)), ["device1"]);
    assert!(registry.is_empty() && FileRegistry::open(&path, false).is_ok());
}

#[test]
fn a_link_that_points_elsewhere_is_a_change() {
    let scratch = Scratch::new("link");
    // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a directory for each version.
    for (version, id) in [("v1", "device1"), ("v2", "device2")] {
        fs::create_dir_all(scratch.0.join(version)).unwrap();
        scratch.write(&format!("{version}/devices.toml"), &with_key(id, "key"));
    }
    let data = scratch.0.join("..data");
    symlink("v1", &data).unwrap();
    let path = scratch.0.join("devices.toml");
    symlink("..data/devices.toml", &path).unwrap();
    let registry = FileRegistry::open(&path, false).unwrap();
    let next = scratch.0.join("..data_tmp");
    symlink("v2", &next).unwrap();
    fs::rename(&next, &data).unwrap();
    assert_eq!(ended(look_twice(&registry)), ["device1"]);
}

#[test]
fn a_file_that_is_still_being_written_is_not_read() {
    let scratch = Scratch::new("growing");
    let path = scratch.write("devices.toml", &[with_key("device1", "key"), with_key("device2", "key")].concat());
    let registry = FileRegistry::open(&path, false).unwrap();
    fs::write(&path, "").unwrap();
    assert!(matches!(registry.poll(), Reload::Unchanged));
    fs::write(&path, with_key("device1", "key")).unwrap();
    assert!(matches!(registry.poll(), Reload::Unchanged));
    fs::write(&path, [with_key("device1", "key"), with_key("device2", "key"), with_key("device3", "key")].concat())
        .unwrap();
    let Reload::Replaced { devices, ended } = look_twice(&registry) else { panic!("a quiet file") };
    assert_eq!((devices, ended), (3, Vec::new()));
}

#[test]
fn the_watch_reports_a_change_and_ends_with_its_owner() {
    let scratch = Scratch::new("watch");
    let path = scratch.write("devices.toml", &with_key("device1", "key"));
    let registry = Arc::new(FileRegistry::open(&path, false).unwrap());
    let (sender, reloads) = mpsc::channel();
    let watch = Watch::start(Arc::clone(&registry), move |reload| sender.send(reload).unwrap()).unwrap();
    fs::write(&path, with_key("device2", "key")).unwrap();
    let reload = reloads.recv_timeout(Duration::from_secs(60)).expect("a report in time");
    // A change is read once it looks the same twice: within the five seconds of the contract.
    const { assert!(3 * watch::POLL_INTERVAL.as_secs() < 5) };
    assert_eq!(ended(reload), ["device1"]);
    drop(watch);
    assert_eq!(reloads.recv().map(|_| ()), Err(mpsc::RecvError), "the thread is gone, and its sender with it");
}

#[test]
fn a_hundred_thousand_devices_are_read_in_seconds_even_without_optimisation() {
    let text: String = (0..100_000).map(|number| with_key(&format!("device{number}"), "testtesttesttest")).collect();
    let scratch = Scratch::new("many");
    let path = scratch.write("devices.toml", &text);
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let start = Instant::now();
    let registry = FileRegistry::open(&path, false).unwrap();
    let took = start.elapsed();
    assert_eq!(registry.len(), 100_000);
    println!("100,000 devices: {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn the_sample_holds_the_devices_that_the_documentation_uses() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/devices.toml");
    let registry = FileRegistry::open(path.as_ref(), false).unwrap();
    let Lookup::Found(device) = registry.device("device1") else { panic!("device1") };
    assert_eq!((device.product.as_str(), device.expected().secure_id), ("product1", "test"));
    let Lookup::Found(gateway) = registry.device("gw1") else { panic!("gw1") };
    assert_eq!(gateway.children.iter().map(|child| child.id.as_str()).collect::<Vec<_>>(), ["child1"]);
}
