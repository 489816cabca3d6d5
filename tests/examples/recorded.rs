//! Presence as the example programs tell it from a topic that is there already: the same records for each language.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::program::{PATIENCE, Program};
use crate::support::Kafka;

const TOPIC: &str = "jetlinks.device";

/// Partitions: of devices, of heartbeats, of children.
const DEVICES: i32 = 0;
const BEATS: i32 = 1;
const CHILDREN: i32 = 2;

/// Reports between the records of presence, so that no partition is read at once.
const REPORTS: i64 = 3_000;

/// Writes envelopes as the bridge does.
struct Writer {
    producer: BaseProducer,
    written: u64,
}

impl Writer {
    /// A record that was taken so many seconds after the first one. Returns its envelope.
    fn write(&mut self, partition: i32, second: i64, attributes: Value) -> Value {
        self.written += 1;
        let mut envelope = json!({
            "specversion": "1.0", "id": format!("01M8{:022}", self.written), "source": "/product1/device1", "origin": "bridge",
            "recordedtime": format!("2026-11-22T{:02}:{:02}:{:02}.000Z", second / 3_600, second / 60 % 60, second % 60),
            "data": {},
        });
        envelope.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
        self.store(partition, &envelope);
        envelope
    }

    fn store(&self, partition: i32, envelope: &Value) {
        let text = envelope.to_string();
        self.producer.send(BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&text)).unwrap();
        self.producer.poll(std::time::Duration::ZERO);
    }

    /// Presence of a device that is connected to a replica.
    fn device(&mut self, second: i64, kind: &str, device: &str, session: &str, replica: &str) -> Value {
        let attributes = json!({"type": format!("org.jetlinks.device.{kind}"), "deviceid": device, "sessionid": session,
            "replicaid": replica});
        self.write(DEVICES, second, attributes)
    }

    /// Presence of a child, by the bridge of that replica, else by its gateway.
    fn child(&mut self, kind: &str, child: &str, gateway: &str, session: &str, replica: Option<&str>) {
        let mut attributes = json!({"type": format!("org.jetlinks.device.{kind}"), "deviceid": child, "gatewayid": gateway,
            "sessionid": session});
        match replica {
            Some(replica) => attributes["replicaid"] = json!(replica),
            None => attributes["origin"] = json!("device"),
        }
        self.write(CHILDREN, 20, attributes);
    }

    fn beat(&mut self, second: i64, replica: &str, interval: Option<u64>) {
        let mut data = json!({"replicaid": replica, "sessions": 1});
        if let Some(interval) = interval {
            data["interval_ms"] = json!(interval);
        }
        self.write(BEATS, second, json!({"type": "org.jetlinks.bridge.replica", "replicaid": replica, "data": data}));
    }
}

#[test]
fn whoever_reads_a_topic_from_its_beginning_knows_who_is_online() {
    let kafka = Kafka::start_with_topics(&[TOPIC], 3);
    let producer: BaseProducer = kafka.client().set("acks", "all").create().unwrap();
    let mut writer = Writer { producer, written: 0 };

    // replica1 lives; replica2 and the one of which no interval is known are silent for longer than three beats; replica3 is
    // not, as it says how seldom it beats.
    let last = REPORTS;
    for second in (0..last).step_by(30) {
        writer.beat(second, "replica1", Some(30_000));
    }
    for (replica, interval) in [("replica2", Some(30_000)), ("replica4", None), ("replica3", Some(3_600_000))] {
        writer.beat(0, replica, interval);
    }

    writer.device(10, "online", "device1", "session1", "replica1");
    writer.device(10, "online", "device2", "session2", "replica2");
    writer.device(10, "online", "device3", "session3", "replica3");
    writer.device(10, "online", "device4", "session4", "replica4");
    // Taken over; the end of the older session comes late.
    writer.device(10, "online", "device5", "session5", "replica1");
    writer.device(11, "online", "device5", "session6", "replica1");
    writer.device(12, "offline", "device5", "session5", "replica1");
    // A copy of its `online` is stored behind its `offline`.
    let copy = writer.device(10, "online", "device6", "session7", "replica1");
    writer.device(11, "offline", "device6", "session7", "replica1");
    writer.store(DEVICES, &copy);
    // What devices say of themselves is no presence.
    writer.device(10, "online", "device7", "session8", "replica1");
    let own = json!({"type": "org.jetlinks.device.offline", "origin": "device", "deviceid": "device7",
        "sessionid": "session8"});
    writer.write(DEVICES, 11, own);
    // The `online` of the newer session is told again behind that of the older one, which came late.
    writer.device(11, "online", "device8", "session10", "replica1");
    writer.device(10, "online", "device8", "session9", "replica1");
    writer.device(12, "offline", "device8", "session9", "replica1");
    writer.device(13, "online", "device8", "session10", "replica1");

    // Children that came with their gateway, by themselves, and left.
    writer.device(10, "online", "gw1", "session11", "replica1");
    writer.child("online", "child1", "gw1", "session11", Some("replica1"));
    writer.child("online", "child2", "gw1", "session11", None);
    writer.child("online", "child3", "gw1", "session11", Some("replica1"));
    writer.child("offline", "child3", "gw1", "session11", None);
    // A gateway that left: the child that came by itself gets no `offline`.
    writer.device(10, "online", "gw2", "session12", "replica1");
    writer.device(11, "offline", "gw2", "session12", "replica1");
    writer.child("online", "child4", "gw2", "session12", None);
    // A gateway that came again and has not named the child since.
    writer.device(10, "online", "gw3", "session13", "replica1");
    writer.device(11, "online", "gw3", "session14", "replica1");
    writer.child("online", "child5", "gw3", "session13", None);
    // A gateway on a replica that died.
    writer.device(10, "online", "gw4", "session15", "replica2");
    writer.child("online", "child6", "gw4", "session15", Some("replica2"));
    for second in 0..REPORTS {
        let report = json!({"type": "org.jetlinks.device.properties.report", "origin": "device", "deviceid": "device1",
            "sessionid": "session1"});
        writer.write(DEVICES, second, report);
    }
    writer.producer.flush(PATIENCE).unwrap();

    let mut programs = Program::start_all("presence", &[], &[("KAFKA_BROKERS", &kafka.brokers())]);
    let online = ["child1", "child2", "device1", "device3", "device5", "device7", "device8", "gw1", "gw3"];
    let mut expected: Vec<String> = online.iter().map(|device| format!("{device} online")).collect();
    for program in &mut programs {
        program.wait_for("whoever is online", |lines| lines.len() >= expected.len());
    }
    // Nothing comes behind it but what happens.
    writer.device(REPORTS, "offline", "gw1", "session11", "replica1");
    expected.extend(["child1 offline", "child2 offline", "gw1 offline"].map(str::to_owned));
    writer.producer.flush(PATIENCE).unwrap();
    for program in &mut programs {
        program.wait_for("the gateway's end", |lines| lines.len() >= expected.len());
        assert_eq!(program.lines(), expected, "{:?}", program.language);
    }
}
