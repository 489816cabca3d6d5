//! The subcommand `devices` on a real bucket.

use std::process::Command;

use super::door::{ACCEPTED, PATIENCE, knock_until, record};
use crate::support::bridge::{Finished, command, run_command};
use crate::support::{Bridge, Folder, Nats, Registration, Registry, Settings, Wire};

struct Stage {
    nats: Nats,
    folder: Folder,
    settings: Settings,
}

impl Stage {
    fn new() -> Self {
        let (nats, folder) = (Nats::start(), Folder::new("devices"));
        let (nothing, _) = Registry::numbered(0);
        let settings = Settings::stdio(&nothing)
            .text("registry.source", "nats")
            .toml("nats.servers", &format!("[{:?}]", nats.url()));
        folder.write("bridge.toml", &settings.render());
        Self { nats, folder, settings }
    }

    fn call(&self, arguments: &[&str]) -> Command {
        let mut call = command();
        call.arg("devices").args(arguments).arg("--config").arg(self.folder.path().join("bridge.toml"));
        call
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        run_command(&mut self.call(arguments), input, PATIENCE)
    }

    /// Runs the subcommand, which must not fail; what it printed.
    fn run(&self, arguments: &[&str]) -> String {
        let finished = self.run_with(arguments, "");
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stdout
    }

    fn import(&self, text: &str, options: &[&str]) -> Finished {
        let file = self.folder.write("devices", text).display().to_string();
        self.run_with(&[&["import", &file], options].concat(), "")
    }

    /// The bucket, as messages name it.
    fn place(&self) -> String {
        format!("bucket jetlinks_devices at {}", self.nats.address())
    }

    /// Ids in the bucket.
    fn ids(&self) -> Vec<String> {
        let listed = self.run(&["ls", "--output", "json"]);
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        listed.lines().map(id).collect()
    }
}

fn toml(id: &str) -> String {
    format!("[[device]]\nid = {id:?}\nproduct = 'product1'\nsecure_id = 'test'\nsecure_key = 'testtesttesttest'\n")
}

#[test]
fn a_device_that_is_put_is_let_in_listed_without_its_key_and_removed_with_its_session() {
    let stage = Stage::new();
    let device = Registration::new("device1");
    let put = ["put", "--id", "device1", "--product", "product1", "--secure-id", &device.secure_id];
    let first = stage.run_with(&[&put[..], &["--secure-key", &device.secure_key]].concat(), "");
    let put_into = format!("put device1 of product1 into {}\n", stage.place());
    assert_eq!((first.code, &first.stdout), (0, &put_into), "{first:?}");
    assert!(first.stderr.contains("16 bytes") && first.stderr.contains("device1"), "{first:?}");
    assert!(!first.stderr.contains(&device.secure_key), "{first:?}");

    let bridge = Bridge::start(&stage.settings);
    let mut wire = Wire::connect(bridge.mqtt(), &device);
    let listed = stage.run(&["ls"]);
    assert!(listed.contains("device1") && listed.contains(&device.secure_id), "{listed}");
    assert!(!listed.contains(&device.secure_key), "{listed}");

    let other = Registration { secure_key: "sixteen-bytes-ok".to_owned(), ..device.clone() };
    let second = stage.run_with(&[&put[..], &["--secure-key-stdin"]].concat(), "sixteen-bytes-ok\n");
    assert_eq!((second.code, second.stderr.as_str()), (0, ""), "{second:?}");
    wire.wait_closed();
    knock_until(&bridge, &other, ACCEPTED);
    let file = stage.folder.write("key", &format!("{}\n", device.secure_key)).display().to_string();
    stage.run(&[&put[..], &["--secure-key-file", &file]].concat());
    knock_until(&bridge, &device, ACCEPTED);

    let mut wire = Wire::connect(bridge.mqtt(), &device);
    assert_eq!(stage.run(&["rm", "device1"]), format!("removed device1 from {}\n", stage.place()));
    wire.wait_closed();
    let again = stage.run_with(&["rm", "device1"], "");
    assert_eq!((again.code, again.stderr.as_str()), (1, "devices: device1: no such device\n"), "{again:?}");
}

#[test]
fn a_file_of_either_form_is_imported_and_its_devices_are_let_in() {
    let stage = Stage::new();
    let devices: Vec<_> = (1..=300).map(|number| Registration::new(&format!("device{number}"))).collect();
    let lines: String = devices.iter().map(|device| format!("{}\n", record(device))).collect();
    let imported = stage.import(&lines, &[]);
    let told = format!("imported 300 devices and 0 products into {}\n", stage.place());
    assert_eq!((imported.code, &imported.stdout), (0, &told), "{imported:?}");
    assert!(imported.stderr.contains("300 of 300 records"), "{imported:?}");
    assert!(!imported.stderr.contains('\r') && !imported.stderr.contains("key-of"), "{imported:?}");

    let text = toml("device301") + "[[product]]\nid = 'product1'\nsecure_id = 'a'\nsecure_key = 'b'\n";
    let imported = stage.run_with(&["import", "-"], &text);
    assert_eq!(imported.stdout, format!("imported 1 devices and 1 products into {}\n", stage.place()), "{imported:?}");
    assert!(imported.stderr.contains("registry.product_secrets"), "{imported:?}");

    assert_eq!(stage.ids().len(), 301);
    let bridge = Bridge::start(&stage.settings);
    assert_eq!(bridge.metric("jetlinks_bridge_registry_devices", &[]), 301.0);
    drop(Wire::connect(bridge.mqtt(), &devices[299]));
}

#[test]
fn tables_and_lists_are_imported_and_an_export_brings_everything_back() {
    let stage = Stage::new();
    let table = "id,product,secure_id,secure_key,gateway,enabled\n\
                 device1,product1,test,testtesttesttest,,\ndevice2,product1,test,testtesttesttest,,false\n";
    let imported = stage.import(table, &[]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let list = "[{\"id\":\"child1\",\"product\":\"product2\",\"gateway\":\"device1\"}]";
    assert_eq!(stage.run_with(&["import", "-"], list).code, 0);
    stage.import("[[product]]\nid = 'product1'\nsecure_id = 'a'\nsecure_key = 'hush'\n", &[]);

    let shown = stage.run(&["get", "device2", "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["id"], &shown["enabled"], &shown["secureId"]),
        (&"device2".into(), &false.into(), &"test".into())
    );
    assert!(!stage.run(&["get", "device1"]).contains("testtesttesttest"));
    let unknown = stage.run_with(&["get", "device9"], "");
    assert_eq!((unknown.code, unknown.stderr.as_str()), (1, "devices: device9: no such device\n"));

    let exported = stage.run(&["export"]);
    assert!(exported.contains("[[product]]") && exported.contains("\"hush\""), "{exported}");
    let other = Stage::new();
    assert_eq!(other.import(&exported, &[]).code, 0, "{exported}");
    assert_eq!(other.run(&["export"]), exported);
    let lines = stage.run(&["export", "--output", "json"]);
    assert_eq!((lines.lines().count(), other.import(&lines, &[]).code), (3, 0), "{lines}");

    let neither = stage.import("no records at all\n", &[]);
    assert!(neither.code == 1 && neither.stderr.contains("expected TOML as in the file of a registry"), "{neither:?}");
}

#[test]
fn a_bucket_that_the_bridge_of_the_configuration_does_not_read_is_warned_of() {
    let stage = Stage::new();
    let put = ["put", "--id", "device1", "--product", "product1", "--gateway", "gw1"];
    assert_eq!(stage.run_with(&put, "").stderr, "");
    stage.folder.write("bridge.toml", &stage.settings.clone().text("registry.source", "file").render());
    let warned = stage.run_with(&put, "");
    let expected = "warning: the bridge of this configuration does not read bucket jetlinks_devices: its registry.source \
                    is \"file\"\n";
    assert_eq!((warned.code, warned.stderr.as_str()), (0, expected), "{warned:?}");
}

#[test]
fn a_mistake_names_line_and_field_and_nothing_is_imported() {
    let stage = Stage::new();
    stage.run(&["put", "--id", "device9", "--product", "product1", "--gateway", "gw1"]);
    let broken = "[[device]]\nid = 'device2'\nproduct = 'a/b'\nsecure_id = 'x'\nsecure_key = 'hush'\n";
    let text = [toml("device1").as_str(), broken, &toml("device3")].concat();
    let refused = stage.import(&text, &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("line 8: device \"device2\": product: an id must not contain '/'"), "{refused:?}");
    assert!(refused.stderr.contains("nothing was imported") && !refused.stderr.contains("hush"), "{refused:?}");
    assert_eq!(stage.ids(), ["device9"]);

    let partly = stage.import(&text, &["--keep-going"]);
    assert_eq!(partly.code, 1, "{partly:?}");
    assert!(partly.stderr.contains("line 8") && partly.stderr.contains("imported 2 devices"), "{partly:?}");
    assert_eq!(stage.ids(), ["device1", "device3", "device9"]);
}

#[test]
fn an_import_that_fails_midway_says_how_far_it_came() {
    let stage = Stage::new();
    let made = stage.nats.run_cli(&["kv", "add", "jetlinks_devices", "--max-bucket-size", "20000"]);
    assert!(made.status.success(), "{made:?}");
    let text: String = (1..=1_000).map(|number| toml(&format!("device{number}"))).collect();
    let failed = stage.import(&text, &[]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let said = failed.stderr.lines().find(|line| line.contains("of 1000 records are imported")).unwrap();
    let imported: usize = said.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let next = imported + 1;
    assert!(said.contains(&format!("from device \"device{next}\" (line {})", imported * 5 + 1)), "{said}");
    assert!(imported > 0 && stage.ids().len() >= imported, "{said}");
    assert!(failed.stderr.contains("maximum bytes exceeded"), "{failed:?}");
}

#[test]
fn a_terminal_sees_a_bar() {
    let stage = Stage::new();
    let text: String = (1..=500).map(|number| toml(&format!("device{number}"))).collect();
    let file = stage.folder.write("devices", &text).display().to_string();
    let call = stage.call(&["import", &file]);
    let quoted = std::iter::once(call.get_program()).chain(call.get_args());
    let line: Vec<String> = quoted.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    // It runs the line on a terminal of its own and copies what that shows.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
    let shown = run_command(&mut script, "", PATIENCE);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("\r\u{1b}[2K[##") && shown.stdout.contains("100% 500/500"), "{shown:?}");
}

#[test]
fn without_servers_or_a_bucket_nothing_is_done() {
    let mut stage = Stage::new();
    let missing = stage.run_with(&["ls"], "");
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    assert!(missing.stderr.contains("bucket jetlinks_devices does not exist"), "{missing:?}");
    stage.nats.kill9();
    let away = stage.run_with(&["ls"], "");
    assert_eq!(away.code, 1, "{away:?}");
    assert!(away.stderr.contains("NATS does not answer"), "{away:?}");

    let (registry, _) = Registry::numbered(1);
    stage.folder.write("bridge.toml", &Settings::stdio(&registry).render());
    let unset = stage.run_with(&["ls"], "");
    assert_eq!((unset.code, unset.stderr.contains("nats.servers")), (78, true), "{unset:?}");
}
