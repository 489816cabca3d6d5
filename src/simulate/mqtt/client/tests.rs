use std::net::SocketAddr;

use super::*;
use crate::codec::mqtt::{Frame, Version};
use crate::simulate::report::ReportTemplate;

const SECOND: u64 = 1_000_000_000;

/// A client with all that it needs, and the packets that it sent in the last step.
struct Bench {
    plan: Plan,
    template: ReportTemplate,
    counters: Counters,
    client: Client,
    out: Vec<u8>,
    now_ns: u64,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan {
            address: SocketAddr::from(([127, 0, 0, 1], 1883)),
            transport: crate::simulate::Transport::Mqtt,
            anonymous: false,
            interval_ns: 0,
            qos: Qos::AtLeastOnce,
            window: 3,
            count: u64::MAX,
            version: Version::V311,
            respond: true,
            subscribe: None,
            reconnect: true,
            connect_interval_ns: 0,
            keep_alive_secs: 60,
        };
        change(&mut plan);
        let identity = Identity {
            product: "product1".to_owned(),
            device: "device1".to_owned(),
            secure_id: "test".to_owned(),
            secure_key: "testtesttesttest".to_owned(),
        };
        let client = Client::new(0, identity, 0);
        let template = ReportTemplate::new("R", 200);
        Self { plan, template, counters: Counters::default(), client, out: Vec::new(), now_ns: SECOND }
    }

    /// Lets the client do something; what it sends replaces what it sent before.
    fn step<R>(&mut self, act: impl FnOnce(&mut Client, &mut Step<'_>) -> R) -> R {
        self.out.clear();
        let mut step = Step {
            plan: &self.plan,
            template: &self.template,
            counters: &mut self.counters,
            out: &mut self.out,
            scratch: &mut Vec::new(),
            now_ns: self.now_ns,
            wall_ms: 1_601_196_762_389,
        };
        act(&mut self.client, &mut step)
    }

    /// Connects and lets the client fill its window.
    fn connect(&mut self) {
        self.step(Client::open);
        self.step(|client, step| {
            assert_eq!(client.receive(&encode::connack(ConnectCode::Accepted), step), Ok(()));
            client.produce(true, step);
        });
    }

    /// Takes bytes and fills the window again.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.step(|client, step| {
            client.receive(bytes, step)?;
            client.produce(true, step);
            Ok(())
        })
    }

    /// The packets that the client sent in the last step.
    fn sent(&self) -> Vec<Packet<'_>> {
        let mut packets = Vec::new();
        let mut rest = &self.out[..];
        while let Some(frame) = mqtt::frame(rest).expect("clients send whole packets") {
            let Frame { first_byte, header_bytes, .. } = frame;
            packets.push(
                mqtt::decode(mqtt::Version::V311, first_byte, &rest[header_bytes..frame.total_bytes()])
                    .expect("a packet"),
            );
            rest = &rest[frame.total_bytes()..];
        }
        packets
    }

    /// (n, connection, packet id) of the reports that the client sent in the last step.
    fn reports(&self) -> Vec<(u64, u64, u16)> {
        let of_packet = |packet: &Packet<'_>| match packet {
            Packet::Publish(publish) => {
                assert_eq!(publish.head.topic, "/product1/device1/properties/report");
                let json: serde_json::Value = serde_json::from_slice(publish.payload).expect("a report is JSON");
                let number = |name: &str| json["properties"][name].as_u64().expect("a number");
                Some((number("n"), number("connection"), publish.head.packet_id.map_or(0, PacketId::get)))
            }
            _ => None,
        };
        self.sent().iter().filter_map(of_packet).collect()
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("tests use ids above 0")
}

fn command(topic: &str, qos: Qos) -> Vec<u8> {
    let head = PublishHead { dup: false, qos, retain: false, topic, packet_id: (qos > Qos::AtMostOnce).then(|| id(9)) };
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, &Publish { head, payload: br#"{"messageId":"7","properties":["sn"]}"# });
    bytes
}

#[test]
fn connect_carries_the_credentials_and_nothing_is_sent_before_connack() {
    let mut bench = Bench::new(|_| {});
    bench.step(|client, step| {
        client.open(step);
        client.produce(true, step);
    });
    let sent = bench.sent();
    let [Packet::Connect(connect)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((connect.client_id, connect.clean_session, connect.keep_alive_secs), ("device1", true, 60));
    assert_eq!(connect.credentials.username, Some("test|1601196762389"));
    assert_eq!(connect.credentials.password.map(<[u8]>::len), Some(32));
}

#[test]
fn an_anonymous_client_shows_no_credentials() {
    let mut bench = Bench::new(|plan| plan.anonymous = true);
    bench.step(Client::open);
    let sent = bench.sent();
    let [Packet::Connect(connect)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(connect.credentials, Credentials { username: None, password: None });
}

#[test]
fn the_window_is_filled_and_each_acknowledgement_makes_room_for_one() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    assert_eq!(bench.reports(), [(1, 1, 1), (2, 1, 2), (3, 1, 3)]);
    bench.now_ns += SECOND;
    assert_eq!(bench.receive(&encode::puback(id(1))), Ok(()));
    assert_eq!(bench.reports(), [(4, 1, 4)]);
    assert_eq!((bench.counters.sent, bench.counters.acknowledged, bench.counters.latency.max_us()), (4, 1, 1_000_000));
}

#[test]
fn a_packet_in_pieces_counts_once_it_is_whole() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    let bytes = [encode::puback(id(1)), encode::puback(id(2))].concat();
    for (index, piece) in bytes.chunks(3).enumerate() {
        assert_eq!(bench.receive(piece), Ok(()));
        assert_eq!(bench.counters.acknowledged, [0, 1, 2][index]);
    }
}

#[test]
fn what_a_lost_connection_left_unacknowledged_goes_first_and_in_order() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    assert_eq!(bench.receive(&encode::puback(id(2))), Ok(()));
    bench.client.close(&mut bench.counters);
    assert!(!bench.client.is_settled());
    bench.connect();
    assert_eq!(bench.reports(), [(1, 2, 1), (3, 2, 2), (4, 2, 3)]);
    assert_eq!((bench.counters.sent, bench.counters.resent, bench.counters.reconnects), (4, 2, 1));
}

#[test]
fn a_connection_lost_before_all_was_sent_again_loses_nothing() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    bench.client.close(&mut bench.counters);
    bench.plan.window = 1;
    bench.connect();
    assert_eq!(bench.reports(), [(1, 2, 1)]);
    bench.client.close(&mut bench.counters);
    bench.plan.window = 4;
    bench.connect();
    assert_eq!(bench.reports(), [(1, 3, 1), (2, 3, 2), (3, 3, 3), (4, 3, 4)]);
}

#[test]
fn at_qos_2_pubrec_acknowledges_and_pubcomp_makes_room() {
    let mut bench = Bench::new(|plan| plan.qos = Qos::ExactlyOnce);
    bench.connect();
    assert_eq!(bench.receive(&encode::pubrec(id(1))), Ok(()));
    assert_eq!(bench.sent(), [Packet::Pubrel(id(1))]);
    assert_eq!(bench.counters.acknowledged, 1);
    assert_eq!(bench.receive(&encode::pubcomp(id(1))), Ok(()));
    assert_eq!(bench.reports(), [(4, 1, 4)]);
    bench.client.close(&mut bench.counters);
    bench.connect();
    assert_eq!(bench.reports(), [(2, 2, 1), (3, 2, 2), (4, 2, 3)]);
}

#[test]
fn at_qos_0_nothing_waits_for_an_acknowledgement() {
    let mut bench = Bench::new(|plan| (plan.qos, plan.count) = (Qos::AtMostOnce, 4));
    bench.connect();
    assert_eq!(bench.reports(), [(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    assert!(bench.client.is_eager(&bench.plan) && !bench.client.is_done(&bench.plan));
    bench.step(|client, step| client.produce(true, step));
    assert_eq!(bench.reports(), [(4, 1, 0)]);
    assert!(bench.client.is_done(&bench.plan) && !bench.client.is_eager(&bench.plan));
}

#[test]
fn a_rate_spaces_messages_and_makes_up_for_a_second_at_most() {
    let mut bench = Bench::new(|plan| (plan.interval_ns, plan.window) = (SECOND / 10, 100));
    bench.connect();
    assert_eq!(bench.reports().len(), 1);
    assert_eq!(bench.client.deadline_ns(true, &bench.plan), bench.now_ns + SECOND / 10);
    bench.now_ns += SECOND / 10;
    bench.step(|client, step| client.produce(true, step));
    assert_eq!(bench.reports().len(), 1);
    bench.now_ns += 60 * SECOND;
    bench.step(|client, step| client.produce(true, step));
    assert!((10..=12).contains(&bench.reports().len()), "{} messages", bench.reports().len());
}

#[test]
fn the_count_ends_a_device_once_everything_is_acknowledged() {
    let mut bench = Bench::new(|plan| plan.count = 2);
    bench.connect();
    assert_eq!(bench.reports().len(), 2);
    assert!(!bench.client.is_done(&bench.plan));
    assert_eq!(bench.receive(&[encode::puback(id(1)), encode::puback(id(2))].concat()), Ok(()));
    assert!(bench.client.is_done(&bench.plan));
    assert_eq!(bench.reports(), []);
}

#[test]
fn a_settling_client_sends_again_and_nothing_new() {
    let mut bench = Bench::new(|_| {});
    bench.connect();
    bench.client.close(&mut bench.counters);
    bench.step(Client::open);
    bench.step(|client, step| {
        assert_eq!(client.receive(&encode::connack(ConnectCode::Accepted), step), Ok(()));
        client.produce(false, step);
    });
    assert_eq!(bench.reports().len(), 3);
    let acknowledgements = [encode::puback(id(1)), encode::puback(id(2)), encode::puback(id(3))].concat();
    bench.step(|client, step| {
        assert_eq!(client.receive(&acknowledgements, step), Ok(()));
        client.produce(false, step);
    });
    assert!(bench.client.is_settled());
    assert_eq!(bench.reports(), []);
}

#[test]
fn a_refusal_is_told_with_its_code() {
    let mut bench = Bench::new(|_| {});
    bench.step(Client::open);
    let refusal = encode::connack(ConnectCode::BadUserNameOrPassword);
    assert_eq!(bench.receive(&refusal), Err(End::Refused(4)));
    assert!(!bench.client.was_connected());
}

#[test]
fn a_silent_client_pings_and_gives_up_a_server_that_does_not_answer() {
    let mut bench = Bench::new(|plan| plan.count = 0);
    bench.connect();
    bench.now_ns += 44 * SECOND;
    assert_eq!(bench.step(|client, step| client.tick(step)), Ok(()));
    assert_eq!(bench.sent(), []);
    bench.now_ns = bench.client.deadline_ns(true, &bench.plan);
    assert_eq!(bench.step(|client, step| client.tick(step)), Ok(()));
    assert_eq!(bench.sent(), [Packet::Pingreq]);
    assert_eq!(bench.receive(&encode::PINGRESP), Ok(()));
    bench.now_ns = bench.client.deadline_ns(true, &bench.plan);
    assert_eq!(bench.step(|client, step| client.tick(step)), Ok(()));
    bench.now_ns = bench.client.deadline_ns(true, &bench.plan);
    assert_eq!(bench.step(|client, step| client.tick(step)), Err(End::NoPingresp));
}

#[test]
fn a_server_that_does_not_answer_connect_is_given_up() {
    let mut bench = Bench::new(|_| {});
    bench.step(Client::open);
    bench.now_ns = bench.client.deadline_ns(true, &bench.plan);
    assert_eq!(bench.step(|client, step| client.tick(step)), Err(End::NoConnack));
}

#[test]
fn a_command_is_acknowledged_counted_and_answered() {
    let mut bench = Bench::new(|plan| plan.count = 0);
    bench.connect();
    assert_eq!(bench.receive(&command("/product1/device1/properties/read", Qos::AtLeastOnce)), Ok(()));
    let sent = bench.sent();
    let [Packet::Puback(acknowledged), Packet::Publish(reply)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*acknowledged, id(9));
    assert_eq!(reply.head.topic, "/product1/device1/properties/read/reply");
    assert!(reply.payload.starts_with(b"{"));
    assert_eq!(bench.counters.commands.get("properties/read"), Some(&1));
    assert_eq!(bench.counters.replies, 1);
    assert_eq!(bench.receive(&encode::puback(id(1))), Ok(()));
    assert_eq!(bench.counters.acknowledged, 0, "a reply counted as a report");
}

#[test]
fn a_silent_device_counts_commands_and_answers_none() {
    let mut bench = Bench::new(|plan| (plan.count, plan.respond) = (0, false));
    bench.connect();
    assert_eq!(bench.receive(&command("/product1/device1/properties/read", Qos::AtMostOnce)), Ok(()));
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.counters.commands.get("properties/read"), Some(&1));
}

#[test]
fn a_subscription_is_asked_for_at_once() {
    let mut bench = Bench::new(|plan| (plan.subscribe, plan.count) = (Some(Qos::AtLeastOnce), 0));
    bench.connect();
    let sent = bench.sent();
    let [Packet::Subscribe(_, filters)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(filters.collect::<Vec<_>>(), [("/product1/device1/#", Qos::AtLeastOnce)]);
}

#[test]
fn what_a_server_must_not_send_ends_the_connection() {
    for bytes in [&encode::PINGREQ[..], &encode::connack(ConnectCode::Accepted), &[0xf0, 0], &[0x40, 2, 0, 0]] {
        let mut bench = Bench::new(|_| {});
        bench.connect();
        assert_eq!(bench.receive(bytes), Err(End::Malformed), "{bytes:?}");
    }
    let mut bench = Bench::new(|_| {});
    bench.step(Client::open);
    assert_eq!(bench.receive(&encode::puback(id(1))), Err(End::Malformed));
}
