mod records;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVerifyMode};
use openssl::x509::X509;

use super::record::Record;
use super::{Bounds, CookieSecret, Server, Sessions};
use crate::protocol::limit::Now;
use crate::session::coap::PeerKey;
use crate::transport::connection_limit::{Admission, ConnectionLimit, SocketBounds};
use crate::transport::traits::Handshake;

const SECOND: u64 = 1_000_000;

/// A datagram socket of a client, in memory.
#[derive(Default)]
pub(super) struct Link {
    pub(super) incoming: std::collections::VecDeque<Vec<u8>>,
    pub(super) outgoing: Vec<Vec<u8>>,
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Link {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Client {
    address: SocketAddr,
    stream: SslStream<Link>,
}

impl Client {
    fn new(port: u16) -> Self {
        Self::at(address(port))
    }

    fn at(address: SocketAddr) -> Self {
        Self::with(address, |_| {})
    }

    fn with(address: SocketAddr, adjust: impl FnOnce(&mut SslContextBuilder)) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
        context.set_verify(SslVerifyMode::NONE);
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_read_ahead(true);
        adjust(&mut context);
        let mut ssl = Ssl::new(&context.build()).unwrap();
        ssl.set_mtu(1200).unwrap();
        // With it a hello does not fit into a datagram of 256 bytes.
        ssl.set_hostname(&"a".repeat(180)).unwrap();
        ssl.set_connect_state();
        Self { address, stream: SslStream::new(ssl, Link::default()).unwrap() }
    }

    /// Goes on with the handshake; what it sends.
    fn shake(&mut self) -> Vec<Vec<u8>> {
        let _waiting = self.stream.do_handshake();
        std::mem::take(&mut self.stream.get_mut().outgoing)
    }

    fn encrypt(&mut self, plain: &[u8]) -> Vec<u8> {
        self.stream.ssl_write(plain).unwrap();
        self.stream.get_mut().outgoing.pop().unwrap()
    }

    fn decrypt(&mut self) -> Vec<u8> {
        let mut plain = [0; 2048];
        let bytes = self.stream.ssl_read(&mut plain).unwrap();
        plain[..bytes].to_vec()
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

struct Rig {
    sessions: Sessions,
    connection_limit: Arc<ConnectionLimit>,
    now: Now,
    outcomes: Vec<Handshake>,
}

fn server() -> Server {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut certificate = X509::builder().unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    Server::new(&text(certificate.build().to_pem().unwrap()), &text(key.private_key_to_pem_pkcs8().unwrap())).unwrap()
}

impl Rig {
    fn new() -> Self {
        Self::with(100)
    }

    fn with(connections: usize) -> Self {
        let connection_limit = Arc::new(ConnectionLimit::new(connections, SocketBounds::new(0)));
        let now = Now { unix_ms: 1_700_000_000_000, us: SECOND };
        let bounds = Bounds {
            half_open: 8,
            unproven: 12,
            unproven_per_network: 4,
            handshakes_per_second: 1000,
            idle_us: 3600 * SECOND,
        };
        let sessions = Sessions::new(server(), CookieSecret::new([7; 32]), connection_limit.clone(), bounds, now);
        Self { sessions, connection_limit, now, outcomes: Vec::new() }
    }

    fn pass(&mut self, us: u64) {
        self.now.us += us;
        self.now.unix_ms += us / 1000;
    }

    /// Lets time pass in which every session is looked at.
    fn pass_ticking(&mut self, us: u64) {
        self.pass(us);
        for _ in 0..=super::sessions::TICKS_PER_ROUND {
            self.sessions.tick(self.now);
        }
        self.outcomes.extend(self.sessions.take_outcomes().into_iter().map(|(_, outcome)| outcome));
    }

    /// Feeds a datagram; what is sent to its address.
    fn feed(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.sessions.feed(self.now, from, datagram);
        self.outcomes.extend(self.sessions.take_outcomes().into_iter().map(|(_, outcome)| outcome));
        let to = |(peer, datagram): (PeerKey, &[u8])| (peer == PeerKey::Address(from)).then(|| datagram.to_vec());
        let sent = self.sessions.sent().iter().filter_map(to).collect();
        self.sessions.clear_sent();
        sent
    }

    /// Lets the client and the server speak until neither has anything to say.
    fn shake(&mut self, client: &mut Client) {
        for _ in 0..8 {
            for datagram in client.shake() {
                let answers = self.feed(client.address, &datagram);
                client.stream.get_mut().incoming.extend(answers);
            }
        }
    }

    /// A client over whose session a device has authenticated.
    fn device(&mut self, address: SocketAddr) -> Client {
        let mut client = Client::at(address);
        self.shake(&mut client);
        let peer = self.say(&mut client, b"token").expect("it was heard");
        self.sessions.prove(self.now, peer);
        client
    }

    /// A client that has shown its cookie and then falls silent.
    fn half_open(&mut self, address: SocketAddr) {
        let mut client = Client::at(address);
        for _ in 0..2 {
            for datagram in client.shake() {
                let answers = self.feed(address, &datagram);
                client.stream.get_mut().incoming.extend(answers);
            }
        }
    }

    /// The client's plaintexts, each with its sender as the sessions tell it.
    fn say(&mut self, client: &mut Client, plain: &[u8]) -> Option<PeerKey> {
        let datagram = client.encrypt(plain);
        self.hear(client.address, &datagram, plain)
    }

    fn hear(&mut self, from: SocketAddr, datagram: &[u8], plain: &[u8]) -> Option<PeerKey> {
        self.feed(from, datagram);
        let heard = self.sessions.received().iter().find(|(_, received)| *received == plain).map(|(peer, _)| peer);
        self.sessions.clear_received();
        heard
    }

    /// Answers a session; the datagrams for the address.
    fn answer(&mut self, peer: PeerKey, client: &mut Client, plain: &[u8]) {
        self.sessions.send(peer, plain);
        client.stream.get_mut().incoming.extend(self.sessions.sent().iter().map(|(_, datagram)| datagram.to_vec()));
        self.sessions.clear_sent();
    }

    fn count(&self, outcome: Handshake) -> usize {
        self.outcomes.iter().filter(|other| **other == outcome).count()
    }
}

#[test]
fn a_session_carries_messages_both_ways_after_one_cookie() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    assert_eq!(rig.outcomes, [Handshake::CookieRequested, Handshake::Finished]);
    let peer = rig.say(&mut client, b"question").expect("it was heard");
    rig.answer(peer, &mut client, b"answer");
    assert_eq!(client.decrypt(), b"answer");
    assert_eq!((rig.sessions.open(), rig.sessions.half_open()), (1, 0));
}

#[test]
fn a_session_that_rested_goes_on() {
    let mut rig = Rig::new();
    let mut client = rig.device(address(1));
    for round in 0..3 {
        rig.pass_ticking(60 * SECOND);
        let peer = rig.say(&mut client, b"question").expect("it was heard");
        rig.pass_ticking(60 * SECOND);
        rig.answer(peer, &mut client, b"answer");
        assert_eq!(client.decrypt(), b"answer", "round {round}");
    }
}

#[test]
fn nothing_is_kept_for_an_address_that_was_not_proven() {
    let mut rig = Rig::new();
    for port in 1..=1000 {
        let mut client = Client::new(port);
        let hello = client.shake().remove(0);
        let answers = rig.feed(client.address, &hello);
        assert!(answers.len() == 1 && answers[0].len() < hello.len());
    }
    assert_eq!((rig.sessions.half_open(), rig.count(Handshake::CookieRequested)), (0, 1000));
    // The cookie of one address is none for another.
    let mut client = Client::new(1);
    let hello = client.shake().remove(0);
    client.stream.get_mut().incoming.extend(rig.feed(client.address, &hello));
    let second = client.shake().remove(0);
    rig.feed(SocketAddr::from(([192, 0, 2, 1], 2)), &second);
    assert_eq!(rig.sessions.half_open(), 0);
}

#[test]
fn an_older_session_goes_on_until_a_new_handshake_at_its_address_is_finished() {
    let mut rig = Rig::new();
    let mut older = Client::new(1);
    rig.shake(&mut older);
    let old_peer = rig.say(&mut older, b"one").expect("it was heard");
    rig.half_open(older.address);
    assert_eq!((rig.sessions.open(), rig.sessions.half_open()), (1, 1));
    assert_eq!(rig.say(&mut older, b"two"), Some(old_peer));
    assert!(rig.sessions.take_ended().is_empty());

    let mut newer = Client::new(1);
    rig.shake(&mut newer);
    assert_eq!(rig.sessions.take_ended(), [old_peer]);
    assert_eq!((rig.sessions.open(), rig.sessions.half_open()), (1, 0));
    let new_peer = rig.say(&mut newer, b"three").expect("it was heard");
    assert_ne!(new_peer, old_peer);
    assert_eq!(rig.say(&mut older, b"four"), None);
}

#[test]
fn half_open_handshakes_are_bounded_per_network_and_in_all_and_end_after_a_while() {
    let mut rig = Rig::new();
    for port in 1..=20 {
        rig.half_open(SocketAddr::from(([192, 0, 2, 1], port)));
    }
    assert_eq!((rig.sessions.half_open(), rig.count(Handshake::Refused)), (4, 16));
    for port in 1..=20 {
        let same_network = [0x2001, 0xdb8, 0, 0, port, 0, 0, 1];
        rig.half_open(SocketAddr::from((same_network, port)));
    }
    assert_eq!(rig.sessions.half_open(), 8);
    rig.pass(6 * SECOND);
    let mut device = rig.device(SocketAddr::from(([198, 51, 100, 1], 1)));
    assert!(rig.say(&mut device, b"heard").is_some(), "silent handshakes kept a device out");
    rig.pass_ticking(25 * SECOND);
    assert_eq!((rig.sessions.half_open(), rig.sessions.open()), (0, 1));
    assert_eq!(rig.count(Handshake::TimedOut), 8);
}

#[test]
fn a_lost_flight_is_sent_again() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    let first = client.shake().remove(0);
    let request = rig.feed(client.address, &first);
    client.stream.get_mut().incoming.extend(request);
    let second = client.shake().remove(0);
    assert!(!rig.feed(client.address, &second).is_empty());
    // Its flight is lost; the hello that the client sends again does not begin another handshake.
    assert!(rig.feed(client.address, &second).is_empty());
    assert_eq!(rig.sessions.half_open(), 1);
    // The timer of OpenSSL runs on the clock of the system.
    let flight = loop {
        rig.sessions.tick(rig.now);
        let sent: Vec<Vec<u8>> = rig.sessions.sent().iter().map(|(_, datagram)| datagram.to_vec()).collect();
        if !sent.is_empty() {
            break sent;
        }
    };
    rig.sessions.clear_sent();
    client.stream.get_mut().incoming.extend(flight);
    rig.shake(&mut client);
    assert!(rig.say(&mut client, b"heard").is_some());
}

/// The record of that kind in a handshake, with these bytes behind its header.
fn record(content: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
    [&[content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9, 0, u8::try_from(body.len()).unwrap()], body].concat()
}

/// One byte of ClientKeyExchange, which has so many.
fn fragment(message: u8, bytes: u32) -> Vec<u8> {
    let [_, high, middle, low] = bytes.to_be_bytes();
    record(22, 0, &[16, high, middle, low, 0, message, 0, 0, 0, 0, 0, 1, 7])
}

impl Rig {
    /// A client that has everything that it needs for the rest of its handshake, which is sent to nobody yet.
    fn nearly_open(&mut self, port: u16) -> (Client, Vec<Vec<u8>>) {
        let mut client = Client::new(port);
        for _ in 0..2 {
            for datagram in client.shake() {
                let answers = self.feed(client.address, &datagram);
                client.stream.get_mut().incoming.extend(answers);
            }
        }
        let flight = client.shake();
        (client, flight)
    }

    /// Whether a client whose last datagrams the server has got may speak.
    fn is_open(&mut self, client: &mut Client) -> bool {
        client.stream.do_handshake().is_ok() && self.say(client, b"heard").is_some()
    }
}

#[test]
fn records_of_a_flight_may_come_in_any_datagrams_and_finished_first() {
    let mut rig = Rig::new();
    for (port, order) in (1..).zip([[0, 1, 2], [2, 0, 1], [0, 2, 1]]) {
        let (mut client, flight) = rig.nearly_open(port);
        let flight = flight.concat();
        let (exchange, rest) = Record::read(&flight).unwrap();
        let (change, finished) = Record::read(rest).unwrap();
        let records = [exchange.whole, change.whole, finished];
        for place in order {
            let answers = rig.feed(client.address, records[place]);
            client.stream.get_mut().incoming.extend(answers);
        }
        assert!(rig.is_open(&mut client), "{order:?}");
    }
}

#[test]
fn what_no_handshake_needs_is_noise_and_harms_none() {
    let mut rig = Rig::new();
    let (mut client, flight) = rig.nearly_open(1);
    let needless = [fragment(2, 102_400), fragment(3, 16_384), fragment(12, 66), record(23, 1, &[0; 40]), vec![0; 40]];
    for datagram in needless.iter().cycle().take(1000) {
        assert!(rig.feed(client.address, datagram).is_empty());
    }
    assert_eq!((rig.count(Handshake::Noise), rig.sessions.half_open()), (1000, 1));
    for datagram in flight {
        let answers = rig.feed(client.address, &datagram);
        client.stream.get_mut().incoming.extend(answers);
    }
    assert!(rig.is_open(&mut client));
}

#[test]
fn a_handshake_ends_when_it_has_had_all_that_it_may_have() {
    let mut rig = Rig::new();
    let forged = |_| record(22, 1, &[0; 40]);
    let messages = |number: usize| fragment(3 + (number % 3) as u8, 2048);
    let all: [&dyn Fn(usize) -> Vec<u8>; 2] = [&messages, &forged];
    for (port, next) in (1..).zip(all) {
        let (client, flight) = rig.nearly_open(port);
        if port == 2 {
            // Up to Finished, so that what is forged reaches OpenSSL.
            let flight = flight.concat();
            let (exchange, rest) = Record::read(&flight).unwrap();
            let (change, _) = Record::read(rest).unwrap();
            rig.feed(client.address, &[exchange.whole, change.whole].concat());
        }
        let taken = (0..1000).take_while(|number| {
            rig.feed(client.address, &next(*number));
            rig.sessions.half_open() == 1
        });
        let taken = taken.count();
        assert!((4..=64).contains(&taken), "{taken} datagrams");
    }
    assert_eq!((rig.count(Handshake::Failed), rig.sessions.half_open(), rig.sessions.open()), (2, 0, 0));
}

#[test]
fn foreign_datagrams_end_no_session() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    let genuine = client.encrypt(b"genuine");
    for at in 0..genuine.len() {
        let mut changed = genuine.clone();
        changed[at] ^= 1;
        assert_eq!(rig.hear(client.address, &changed, b"genuine"), None, "byte {at}");
        assert_eq!(rig.sessions.open(), 1, "byte {at}");
    }
    // A fatal alert in the clear, an empty datagram, one that is no record.
    for foreign in [&[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40][..], &[], &[0; 5]] {
        rig.feed(client.address, foreign);
        assert_eq!(rig.sessions.open(), 1, "{foreign:?}");
    }
    assert!(rig.hear(client.address, &genuine, b"genuine").is_some());
    assert_eq!(rig.hear(client.address, &genuine, b"genuine"), None, "a record was taken twice");
    assert!(rig.say(&mut client, b"more").is_some());
}

#[test]
fn a_peer_that_says_goodbye_is_forgotten() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    let peer = rig.say(&mut client, b"hello").expect("it was heard");
    client.stream.shutdown().unwrap();
    let goodbye = client.stream.get_mut().outgoing.pop().unwrap();
    rig.feed(client.address, &goodbye);
    assert_eq!(rig.sessions.take_ended(), [peer]);
    assert_eq!(rig.sessions.open(), 0);
}

#[test]
fn an_idle_session_ends_and_its_peer_is_told() {
    let mut rig = Rig::new();
    let mut client = rig.device(address(1));
    rig.pass_ticking(3601 * SECOND);
    assert_eq!((rig.sessions.open(), rig.sessions.take_ended().len()), (0, 1));
    let goodbye: Vec<Vec<u8>> = rig.sessions.sent().iter().map(|(_, datagram)| datagram.to_vec()).collect();
    client.stream.get_mut().incoming.extend(goodbye);
    let error = client.stream.ssl_read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.code(), openssl::ssl::ErrorCode::ZERO_RETURN);
}

#[test]
fn a_session_over_which_nobody_authenticates_has_ten_seconds() {
    let mut rig = Rig::new();
    let mut silent = Client::new(1);
    let mut device = rig.device(address(2));
    rig.shake(&mut silent);
    rig.pass_ticking(9 * SECOND);
    assert!(rig.say(&mut silent, b"no token").is_some());
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Unauthenticated)), (2, 0));
    rig.pass_ticking(SECOND);
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Unauthenticated)), (1, 1));
    assert!(rig.sessions.sent().iter().any(|(peer, _)| peer == PeerKey::Address(silent.address)), "it is not told");
    rig.pass_ticking(60 * SECOND);
    assert!(rig.say(&mut device, b"heard").is_some());
}

#[test]
fn who_has_not_authenticated_is_bounded_per_network_and_in_all() {
    let mut rig = Rig::new();
    let mut clients: Vec<Client> = (1..=6).map(Client::new).collect();
    for client in &mut clients {
        rig.shake(client);
    }
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Refused)), (4, 2));
    let peer = rig.say(&mut clients[0], b"token").expect("it was heard");
    rig.sessions.prove(rig.now, peer);
    rig.sessions.prove(rig.now, peer);
    rig.shake(&mut Client::new(7));
    rig.shake(&mut Client::new(8));
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Refused)), (5, 3));
    for host in 1..=40 {
        rig.pass(1000);
        rig.shake(&mut Client::at(SocketAddr::from(([198, 51, 100, host], 1))));
    }
    // As a socket on `[::]` sees addresses of IPv4.
    let mut mapped = Rig::new();
    for host in 1..=3 {
        for port in 1..=5 {
            let ip = std::net::Ipv4Addr::from([198, 51, 100, host]).to_ipv6_mapped();
            mapped.shake(&mut Client::at(SocketAddr::from((ip, port))));
        }
    }
    assert_eq!((mapped.sessions.open(), mapped.count(Handshake::Refused)), (12, 3));
    // The oldest of twelve has made room for each.
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Refused)), (13, 3));
    assert_eq!(rig.count(Handshake::Unauthenticated), 32);
    assert!(rig.say(&mut clients[0], b"heard").is_some());
}

#[test]
fn at_the_limit_of_connections_who_has_not_authenticated_makes_room_for_everybody() {
    let mut rig = Rig::with(3);
    let mut silent: Vec<Client> = (1..=3).map(Client::new).collect();
    for client in &mut silent {
        rig.pass(1000);
        rig.shake(client);
    }
    // A connection of MQTT, in the place of the oldest.
    assert_eq!(rig.connection_limit.enter(), Admission::Admitted);
    rig.pass_ticking(1000);
    assert_eq!((rig.sessions.open(), rig.say(&mut silent[0], b"gone")), (2, None));
    let mut device = rig.device(SocketAddr::from(([198, 51, 100, 1], 1)));
    assert_eq!((rig.sessions.open(), rig.say(&mut silent[1], b"gone")), (2, None));
    assert_eq!(rig.connection_limit.enter(), Admission::Admitted);
    rig.pass_ticking(1000);
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Unauthenticated)), (1, 3));
    // Now all three are taken by who has shown a credential.
    rig.half_open(address(9));
    assert_eq!((rig.sessions.half_open(), rig.count(Handshake::Refused)), (0, 1));
    assert!(rig.say(&mut device, b"heard").is_some());
    rig.connection_limit.leave();
    rig.connection_limit.leave();
    drop(rig.sessions);
    assert!((0..3).all(|_| rig.connection_limit.enter() == Admission::Admitted), "places are lost");
}

#[test]
fn who_authenticates_when_every_place_is_taken_has_no_session() {
    let mut rig = Rig::with(2);
    let mut client = Client::new(1);
    rig.shake(&mut client);
    let peer = rig.say(&mut client, b"token").expect("it was heard");
    assert_eq!(
        (rig.connection_limit.enter(), rig.connection_limit.enter()),
        (Admission::Admitted, Admission::Admitted)
    );
    rig.sessions.prove(rig.now, peer);
    assert_eq!((rig.sessions.open(), rig.sessions.take_ended()), (0, vec![peer]));
}

#[test]
fn at_the_limit_of_connections_only_a_session_left_behind_makes_room() {
    let mut rig = Rig::with(2);
    let mut clients: Vec<Client> = (1..=2).map(|port| rig.device(address(port))).collect();
    rig.shake(&mut Client::new(3));
    assert_eq!((rig.sessions.open(), rig.count(Handshake::Refused)), (2, 1));
    rig.pass(61 * SECOND);
    assert!(rig.say(&mut clients[0], b"alive").is_some());
    let mut another = rig.device(address(4));
    assert!(rig.say(&mut another, b"heard").is_some());
    assert!(rig.say(&mut clients[0], b"still alive").is_some());
    assert_eq!(rig.sessions.open(), 2);
    drop(rig.sessions);
    assert_eq!(rig.connection_limit.enter(), Admission::Admitted);
}
