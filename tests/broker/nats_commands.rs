//! Commands from a real NATS server, and the outcomes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use jetlinks_bridge::protocol::command::{Command, CommandError};
use jetlinks_bridge::protocol::downlink::{Code, Downlink, DownlinkEvent, Outcome, Recipient, Ticket};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::uplink::{Availability, SlotId};
use jetlinks_bridge::queue::nats::{NatsDownlink, NatsSettings, NatsStats};
use tokio::sync::mpsc;

use super::support::link::{End, Link};
use super::support::{self, Nats};
use super::worker::{self, PATIENCE};

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

struct Fixture {
    downlink: NatsDownlink,
    events: mpsc::Receiver<DownlinkEvent>,
    stats: Arc<NatsStats>,
}

/// Contents of a command event.
struct Given {
    to: Recipient,
    ticket: Option<Ticket>,
    command: Command,
}

fn start(url: String) -> Fixture {
    let (sender, events) = mpsc::channel(16);
    let stats = Arc::new(NatsStats::default());
    let downlink = NatsDownlink::start(&NatsSettings::new(vec![url]), sender, Arc::clone(&stats));
    Fixture { downlink: downlink.expect("the settings are right"), events, stats }
}

fn session(slot: u32) -> SlotId {
    SlotId { index: slot, generation: 0 }
}

fn outcome(failure: Option<(Code, &str)>) -> Outcome {
    Outcome {
        device: "device1".to_owned(),
        correlation_id: "1".to_owned(),
        payload: Bytes::from_static(b"{\"answer\":1}"),
        attributes: Vec::new(),
        trace: None,
        failure: failure.map(|(code, text)| (code, text.to_owned())),
    }
}

impl Fixture {
    fn attach(&mut self, slot: u32, device: &str) {
        let product = ProductId::new("product1").expect("an id");
        self.downlink.attach(session(slot), &[(product, DeviceId::new(device).expect("an id"))]);
    }

    async fn attached(&mut self, slot: u32, device: &str) {
        self.attach(slot, device);
        match self.event().await {
            DownlinkEvent::Attached(attached) => assert_eq!(attached, session(slot)),
            other => panic!("{other:?}"),
        }
    }

    async fn event(&mut self) -> DownlinkEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time");
        event.expect("the downlink runs")
    }

    async fn command(&mut self) -> Given {
        match self.event().await {
            DownlinkEvent::Command { to, ticket, command } => {
                Given { to, ticket, command: command.expect("a readable command") }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request and answers it as the worker does.
    async fn answered(&mut self, caller: &Client, subject: String) -> Message {
        let request = caller.request(subject, Bytes::from_static(b"{\"properties\":[\"sn\"]}"));
        let answer = async {
            let given = self.command().await;
            self.downlink.answer(given.ticket.expect("a request waits"), outcome(None));
        };
        let (reply, ()) = tokio::join!(request, answer);
        reply.expect("the request is answered")
    }
}

async fn caller(nats: &Nats) -> Client {
    support::caller::client(&nats.url()).await
}

fn read(device: &str) -> String {
    format!("jetlinks.command.product1.{device}.properties.read")
}

#[test]
fn a_request_gets_through_as_soon_as_the_device_is_attached() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(0, "first").await;
        for slot in 1..=200 {
            let device = format!("device.{slot}");
            fixture.attached(slot, &device).await;
            let reply = fixture.answered(&caller, read(&format!("device%2E{slot}"))).await;
            assert_eq!(&reply.payload[..], b"{\"answer\":1}");
        }
        let unconfirmed = fixture.stats.unconfirmed_interests.load(Ordering::Relaxed);
        assert!(unconfirmed <= 1, "only the first may come before the connection: {unconfirmed}");
        assert_eq!(fixture.stats.answers.load(Ordering::Relaxed), 200);
    });
}

#[test]
fn many_devices_are_attached_at_once_and_each_gets_its_own_commands() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        for slot in 0..2000 {
            fixture.attach(slot, &format!("device{slot}"));
        }
        for _ in 0..2000 {
            assert!(matches!(fixture.event().await, DownlinkEvent::Attached(_)));
        }
        for slot in [0, 999, 1999] {
            caller.publish(read(&format!("device{slot}")), Bytes::new()).await.expect("the client runs");
            let given = fixture.command().await;
            assert_eq!(given.to, Recipient::Session(session(slot)));
            assert_eq!(given.ticket, None, "nobody waits");
            assert_eq!(given.command.device, format!("device{slot}"));
        }
    });
}

#[test]
fn headers_of_the_message_win_over_those_of_the_body() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let mut headers = HeaderMap::new();
        headers.insert("correlation-id", "c1");
        headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let body = Bytes::from_static(br#"{"properties":["sn"],"headers":{"correlation-id":"c0"}}"#);
        caller.publish_with_headers(read("device1"), headers, body).await.expect("the client runs");
        let given = fixture.command().await;
        assert_eq!(given.command.correlation_id.as_deref(), Some("c1"));
        let trace = given.command.trace.map(|trace| trace.to_text().as_str().to_owned());
        assert_eq!(trace.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    });
}

#[test]
fn a_failure_tells_its_code_in_the_headers() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let request = caller.request(read("device1"), Bytes::new());
        let answer = async {
            let ticket = fixture.command().await.ticket.expect("a request waits");
            fixture.downlink.answer(ticket, outcome(Some((Code::TimeOut, "no reply\nin time"))));
            // A ticket is good for one outcome.
            fixture.downlink.answer(ticket, outcome(None));
        };
        let (reply, ()) = tokio::join!(request, answer);
        let headers = reply.expect("the request is answered").headers.expect("a failure has headers");
        assert_eq!(headers.get("Nats-Service-Error-Code").map(|v| v.as_str()), Some("TIME_OUT"));
        assert_eq!(headers.get("Nats-Service-Error").map(|v| v.as_str()), Some("no reply in time"));
        assert_eq!(headers.get("content-type").map(|v| v.as_str()), Some("application/cloudevents+json"));
    });
}

#[test]
fn an_outcome_above_the_servers_limit_becomes_a_failure() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let request = caller.request(read("device1"), Bytes::new());
        let answer = async {
            let ticket = fixture.command().await.ticket.expect("a request waits");
            let payload = Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
            fixture.downlink.answer(ticket, Outcome { payload, ..outcome(None) });
        };
        let (reply, ()) = tokio::join!(request, answer);
        let headers = reply.expect("the request is answered").headers.expect("a failure has headers");
        assert_eq!(headers.get("Nats-Service-Error-Code").map(|v| v.as_str()), Some("SYSTEM_ERROR"));
    });
}

#[test]
fn a_reply_subject_of_the_bridge_or_the_server_is_refused_and_not_executed() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        for reply in ["jetlinks.device.product1.device1.event.e", "$JS.API.INFO"] {
            caller.publish_with_reply(read("device1"), reply, Bytes::new()).await.expect("the client runs");
        }
        caller.publish_with_reply(read("device1"), "elsewhere", Bytes::new()).await.expect("the client runs");
        for _ in 0..2 {
            assert!(matches!(fixture.event().await, DownlinkEvent::ReplySubjectRefused));
        }
        assert!(fixture.command().await.ticket.is_some());
        assert_eq!(fixture.stats.reply_subjects_refused.load(Ordering::Relaxed), 2);
        assert_eq!(fixture.stats.commands.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn texts_of_a_caller_that_are_too_long_to_be_kept_are_a_parameter_error() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let mut headers = HeaderMap::new();
        headers.insert("correlation-id", "c".repeat(129));
        let long_reply = format!("answers.{}", "r".repeat(249));
        let direct = "jetlinks.command.product1.device1.direct";
        let mut endless = HeaderMap::new();
        endless.insert("timeout", "0");
        for (subject, reply, headers) in [
            (read("device1"), "answers", headers),
            (read("device1"), long_reply.as_str(), HeaderMap::new()),
            (direct.to_owned(), "answers", endless),
        ] {
            let sent = caller.publish_with_reply_and_headers(subject, reply.to_owned(), headers, Bytes::new());
            sent.await.expect("the client runs");
            let DownlinkEvent::Command { ticket: Some(_), command, .. } = fixture.event().await else { panic!("none") };
            assert!(matches!(command, Err(CommandError::Parameter(..))), "{command:?}");
        }
        let reply = long_reply[1..].to_owned();
        caller.publish_with_reply(read("device1"), reply, Bytes::new()).await.expect("the client runs");
        assert!(fixture.command().await.ticket.is_some(), "256 bytes are taken");
    });
}

#[test]
fn outcomes_that_nats_does_not_take_are_bounded_in_bytes_and_each_caller_is_told() {
    const CALLERS: usize = 60;
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let mut replies = caller.subscribe("answers").await.expect("the client runs");
        for _ in 0..CALLERS {
            caller.publish_with_reply(read("device1"), "answers", Bytes::new()).await.expect("the client runs");
        }
        let mut tickets = Vec::new();
        for _ in 0..CALLERS {
            tickets.push(fixture.command().await.ticket.expect("a request waits"));
        }
        nats.process().signal(SIGSTOP);
        let payload = Bytes::from(vec![b'x'; 900_000]);
        for ticket in tickets {
            fixture.downlink.answer(ticket, Outcome { payload: payload.clone(), ..outcome(None) });
            // Whatever can leave does.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        nats.process().signal(SIGCONT);
        let (mut whole, mut bare) = (0, 0);
        for _ in 0..CALLERS {
            let reply = tokio::time::timeout(PATIENCE, replies.next()).await.expect("an answer in time");
            let reply = reply.expect("the subscription lives");
            let code = reply.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
            match reply.payload.len() {
                0 => assert_eq!(code.map(|code| code.as_str()), Some("SYSTEM_ERROR")),
                _ => assert_eq!(code, None),
            }
            *(if reply.payload.is_empty() { &mut bare } else { &mut whole }) += 1;
        }
        // 16 MiB in line, 4 MiB with the client, and what the sockets hold.
        assert!(whole >= 22 && bare >= 10, "{whole} whole, {bare} without their envelope");
    });
}

#[test]
fn a_detached_device_is_no_longer_routable() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        fixture.attached(2, "device2").await;
        fixture.downlink.detach(session(1));
        // Later operations of the connection come after the withdrawal.
        fixture.attached(3, "device3").await;
        fixture.attached(4, "device4").await;
        let refused = caller.request(read("device1"), Bytes::new()).await.expect_err("nobody is there");
        assert_eq!(refused.kind(), RequestErrorKind::NoResponders);
        fixture.answered(&caller, read("device2")).await;
    });
}

#[test]
fn a_command_that_is_on_its_way_when_its_session_ends_still_comes() {
    let nats = Nats::start();
    let link = Link::to(nats.address());
    worker::run(async {
        let mut fixture = start(format!("nats://{}", link.address()));
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        link.silence_to(End::Near);
        for _ in 0..3 {
            caller.publish(read("device1"), Bytes::new()).await.expect("the client runs");
        }
        caller.flush().await.expect("the server is there");
        let subscriptions = nats.subscriptions();
        fixture.downlink.detach(session(1));
        worker::until(async || nats.subscriptions() < subscriptions).await;
        // The server has ended the subscription, and the commands are still on their way.
        let refused = caller.request(read("device1"), Bytes::new()).await.expect_err("nobody is there");
        assert_eq!(refused.kind(), RequestErrorKind::NoResponders);
        assert!(!fixture.downlink.is_settled());
        // Whatever the client does meanwhile.
        fixture.attach(2, "device2");
        worker::until(async || nats.subscriptions() == subscriptions).await;
        link.heal();
        for _ in 0..3 {
            assert_eq!(fixture.command().await.to, Recipient::Ended);
        }
        assert!(matches!(fixture.event().await, DownlinkEvent::Attached(attached) if attached == session(2)));
        worker::until(async || fixture.downlink.is_settled()).await;
    });
}

#[test]
fn a_newer_session_gets_the_commands_and_the_older_ones_end_does_not_matter() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        fixture.attached(2, "device1").await;
        fixture.downlink.detach(session(1));
        fixture.attached(3, "device3").await;
        caller.publish(read("device1"), Bytes::new()).await.expect("the client runs");
        assert_eq!(fixture.command().await.to, Recipient::Session(session(2)));
        caller.publish(read("device3"), Bytes::new()).await.expect("the client runs");
        let next = fixture.command().await;
        assert_eq!(next.to, Recipient::Session(session(3)), "the command was delivered once");
    });
}

#[test]
fn sessions_are_let_in_while_the_server_is_away_and_routable_when_it_is_back() {
    let mut nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        fixture.attached(1, "device1").await;
        while fixture.downlink.availability() != Availability::Ok {
            tokio::task::yield_now().await;
        }
        nats.kill9();
        while fixture.downlink.availability() == Availability::Ok {
            tokio::time::timeout(PATIENCE, tokio::task::yield_now()).await.expect("the loss is noticed");
        }
        fixture.attached(2, "device2").await;
        let nats = worker::aside(move || {
            nats.restart();
            nats
        })
        .await;
        let caller = caller(&nats).await;
        for (slot, device) in [(1, "device1"), (2, "device2")] {
            loop {
                let request = caller.request(read(device), Bytes::new());
                let answer = async {
                    let next = tokio::time::timeout(Duration::from_millis(200), fixture.events.recv()).await;
                    if let Ok(Some(DownlinkEvent::Command { to, ticket: Some(ticket), .. })) = next {
                        assert_eq!(to, Recipient::Session(session(slot)));
                        fixture.downlink.answer(ticket, outcome(None));
                    }
                };
                let (reply, ()) = tokio::join!(request, answer);
                match reply {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.kind(), RequestErrorKind::NoResponders, "not routable yet"),
                }
            }
        }
    });
}

#[test]
fn thousands_of_devices_connect_while_the_server_is_away() {
    let mut nats = Nats::start();
    nats.kill9();
    worker::run(async {
        let mut fixture = start(nats.url());
        for slot in 0..5000 {
            fixture.attach(slot, &format!("device{slot}"));
        }
        for _ in 0..5000 {
            assert!(matches!(fixture.event().await, DownlinkEvent::Attached(_)));
        }
        let nats = worker::aside(move || {
            nats.restart();
            nats
        })
        .await;
        let caller = caller(&nats).await;
        // All interests go out before that of a device which connects when the server is back.
        while fixture.downlink.availability() != Availability::Ok {
            tokio::task::yield_now().await;
        }
        fixture.attached(9999, "last").await;
        fixture.answered(&caller, read("device4999")).await;
        fixture.answered(&caller, read("device0")).await;
    });
}

#[test]
fn a_stream_that_stores_commands_is_named() {
    let nats = Nats::start();
    let add = ["stream", "add", "EVERYTHING", "--subjects", "jetlinks.>", "--defaults"];
    assert!(nats.run_cli(&add).status.success());
    worker::run(async {
        let fixture = start(nats.url());
        let named = async {
            while fixture.stats.foreign_streams().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, named).await.expect("the stream is found");
        assert_eq!(fixture.stats.foreign_streams(), ["EVERYTHING"]);
    });
}

#[test]
fn of_a_flood_every_command_reaches_the_worker_or_is_counted_as_lost() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        // More than may wait; none is taken before that shows.
        const SENT: u64 = 200_000;
        for _ in 0..SENT {
            caller.publish(read("device1"), Bytes::new()).await.expect("the client runs");
        }
        let overflow = async {
            while fixture.stats.commands_dropped.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, overflow).await.expect("more came than may wait");
        let (mut taken, mut lost) = (0, 0);
        while taken + lost < SENT {
            match fixture.event().await {
                DownlinkEvent::Command { .. } => taken += 1,
                DownlinkEvent::Lost(count) => lost += count,
                other => panic!("{other:?}"),
            }
        }
        println!("{taken} taken, {lost} lost");
        assert!(taken > 100_000 && lost > 0, "{taken} taken, {lost} lost");
        assert_eq!(fixture.stats.commands_dropped.load(Ordering::Relaxed), lost);
        // Nothing is counted twice, and the next one gets through.
        fixture.attached(2, "device2").await;
        fixture.answered(&caller, read("device2")).await;
    });
}

#[test]
fn a_command_that_cannot_be_read_comes_as_an_error_with_its_ticket() {
    let nats = Nats::start();
    worker::run(async {
        let mut fixture = start(nats.url());
        let caller = caller(&nats).await;
        fixture.attached(1, "device1").await;
        let mut replies = caller.subscribe("answers").await.expect("the client runs");
        caller.publish_with_reply(read("device1"), "answers", Bytes::from_static(b"{")).await.expect("it runs");
        let DownlinkEvent::Command { ticket: Some(ticket), command, .. } = fixture.event().await else {
            panic!("no command")
        };
        assert!(command.is_err());
        fixture.downlink.answer(ticket, outcome(Some((Code::ParameterError, "no JSON"))));
        assert!(replies.next().await.is_some());
    });
}
