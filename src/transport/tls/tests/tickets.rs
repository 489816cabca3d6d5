//! Tickets: who accepts which, and for how long.

use tokio_rustls::rustls::server::ProducesTickets as _;
use tokio_rustls::rustls::{ClientConnection, Error, HandshakeKind, ServerConnection};

use super::super::expiry::earliest_expiry_secs;
use super::*;

/// The server's view of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    is_resumed: bool,
    certificate: Option<Vec<u8>>,
}

fn connect(client: &Arc<ClientConfig>, server: &TlsServer) -> Result<Connection, Error> {
    let mut client = ClientConnection::new(client.clone(), "localhost".try_into().unwrap())?;
    let mut server = ServerConnection::new(server.config())?;
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    let is_resumed = server.handshake_kind() == Some(HandshakeKind::Resumed);
    let certificate = server.peer_certificates().and_then(|chain| Some(chain.first()?.to_vec()));
    Ok(Connection { is_resumed, certificate })
}

fn is_resumed(client: &Arc<ClientConfig>, server: &TlsServer) -> bool {
    connect(client, server).expect("the handshake comes to its end").is_resumed
}

#[test]
fn a_session_is_resumed_by_every_server_with_the_secret_and_by_no_other() {
    let world = World::new();
    let replicas = ["the-secret-of-both", "the-secret-of-both"].map(|secret| world.server(None, &[secret]));
    let other = world.server(None, &["another-secret"]);
    for version in VERSIONS {
        let client = world.client(version, None);
        assert!(!is_resumed(&client, &replicas[0]), "the first one");
        assert!(is_resumed(&client, &replicas[1]), "{version:?}");
        assert!(is_resumed(&client, &replicas[0]), "with the ticket of a resumed session: {version:?}");
        assert!(!is_resumed(&client, &other), "with another secret: {version:?}");
    }
}

#[test]
fn without_a_secret_nobody_gets_a_ticket() {
    let world = World::new();
    let server = world.server(None, &[]);
    for version in VERSIONS {
        let client = world.client(version, None);
        assert!(!is_resumed(&client, &server));
        assert!(!is_resumed(&client, &server));
    }
}

#[test]
fn a_ticket_of_a_former_secret_is_accepted_until_that_is_taken_away() {
    let world = World::new();
    for version in VERSIONS {
        let client = world.client(version, None);
        assert!(!is_resumed(&client, &world.server(None, &["first"])));
        let both = world.server(None, &["second", "first"]);
        assert!(is_resumed(&client, &both), "{version:?}");
        let ticketed_anew = world.client(version, None);
        assert!(!is_resumed(&ticketed_anew, &both));
        let second = world.server(None, &["second"]);
        assert!(is_resumed(&ticketed_anew, &second), "new tickets are of the first secret: {version:?}");
        let stale = world.client(version, None);
        assert!(!is_resumed(&stale, &world.server(None, &["first"])));
        assert!(!is_resumed(&stale, &second), "{version:?}");
    }
}

#[test]
fn other_secrets_count_for_all_clones_from_then_on() {
    let world = World::new();
    let server = world.server(None, &["first"]);
    let listener = server.clone();
    let client = world.client(&TLS13, None);
    assert!(!is_resumed(&client, &listener));
    server.replace(&world.server(None, &["second"]));
    assert!(!is_resumed(&client, &listener));
    assert!(is_resumed(&client, &listener));
}

#[test]
fn a_resumed_session_has_the_certificate_of_its_client() {
    let world = World::new();
    let device = Pair::new("device1", Some(&world.authority), 1_000 * HOUR_SECS);
    let replicas = [(); 2].map(|()| world.server(Some(&world.authority), &["secret"]));
    for version in VERSIONS {
        let client = world.client(version, Some(&device));
        for (replica, is_resumed) in [(0, false), (1, true), (0, true)] {
            let connection = connect(&client, &replicas[replica]);
            assert_eq!(connection, Ok(Connection { is_resumed, certificate: Some(device.der()) }), "{version:?}");
        }
    }
}

#[test]
fn a_certificate_that_has_expired_is_not_taken_from_a_ticket() {
    let world = World::new();
    let device = Pair::new("device1", Some(&world.authority), HOUR_SECS);
    let server = world.server(Some(&world.authority), &["secret"]);
    for version in VERSIONS {
        world.clock.set(0);
        let client = world.client(version, Some(&device));
        assert!(!is_resumed(&client, &server));
        world.clock.set(HOUR_SECS - 1);
        assert!(is_resumed(&client, &server), "{version:?}");
        world.clock.set(HOUR_SECS + 1);
        assert!(connect(&client, &server).is_err(), "{version:?}: as without a ticket");
    }
}

#[test]
fn with_other_authorities_a_certificate_is_checked_again() {
    let world = World::new();
    let device = Pair::new("device1", Some(&world.authority), 1_000 * HOUR_SECS);
    let stranger = Pair::new("stranger", None, 1_000 * HOUR_SECS);
    for version in VERSIONS {
        let client = world.client(version, Some(&device));
        assert!(!is_resumed(&client, &world.server(Some(&world.authority), &["secret"])));
        let strict = world.server(Some(&stranger), &["secret"]);
        assert!(connect(&client, &strict).is_err(), "{version:?}");
        let client = world.client(version, None);
        assert!(!is_resumed(&client, &world.server(None, &["secret"])));
        assert!(connect(&client, &strict).is_err(), "no ticket stands for a certificate: {version:?}");
    }
}

#[test]
fn nobody_resumes_longer_than_a_day_after_the_full_handshake() {
    let world = World::new();
    let server = world.server(None, &["secret"]);
    for version in VERSIONS {
        world.clock.set(0);
        let client = world.client(version, None);
        assert!(!is_resumed(&client, &server));
        for hour in [1, 12, 23] {
            world.clock.set(hour * HOUR_SECS);
            assert!(is_resumed(&client, &server), "{version:?}, hour {hour}");
        }
        world.clock.set(24 * HOUR_SECS);
        assert!(!is_resumed(&client, &server), "{version:?}: the ticket of hour 23 does not begin anew");
        world.clock.set(25 * HOUR_SECS);
        assert!(is_resumed(&client, &server), "{version:?}: that of the full handshake does");
    }
}

fn tickets(world: &World, secret: &str) -> ConnectionTickets {
    let keys = TicketKeys::new(&[Secret::new(secret)], std::iter::empty()).unwrap();
    ConnectionTickets::new(Arc::new(keys), Arc::new(world.clock.clone()))
}

/// A session as rustls writes it, without name and certificate.
const SESSION: [u8; 26] = [0, 3, 3, 0xc0, 43, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0];

#[test]
fn no_other_byte_of_a_ticket_is_accepted_and_none_panics() {
    let world = World::new();
    let ticket = tickets(&world, "secret").encrypt(&SESSION).expect("a ticket");
    let accepting = tickets(&world, "secret");
    assert_eq!(accepting.decrypt(&ticket), Some(SESSION.to_vec()));
    for at in 0..ticket.len() {
        let mut other = ticket.clone();
        other[at] ^= 1;
        assert_eq!(accepting.decrypt(&other), None, "byte {at}");
        assert_eq!(accepting.decrypt(&ticket[..at]), None, "cut at {at}");
    }
    assert_eq!(accepting.decrypt(&[&ticket[..], &[0]].concat()), None);
}

#[test]
fn two_tickets_of_one_session_have_nothing_in_common_but_the_name_of_the_key() {
    let world = World::new();
    let [first, second] = [(); 2].map(|()| tickets(&world, "secret").encrypt(&SESSION).expect("a ticket"));
    assert_eq!(first[..16], second[..16]);
    let equal = first.iter().zip(&second).skip(16).filter(|(a, b)| a == b).count();
    assert!(equal < 16, "{equal} of {} bytes are equal", first.len() - 16);
}

#[test]
fn the_lifetime_that_a_client_hears_is_what_is_left() {
    let world = World::new();
    let first = tickets(&world, "secret");
    let ticket = first.encrypt(&SESSION).expect("a ticket");
    assert_eq!(u64::from(first.lifetime()), 24 * HOUR_SECS);
    world.clock.set(20 * HOUR_SECS);
    let second = tickets(&world, "secret");
    second.decrypt(&ticket).expect("it is good");
    second.encrypt(&SESSION).expect("another one");
    assert_eq!(u64::from(second.lifetime()), 4 * HOUR_SECS);
}

#[test]
fn what_cannot_be_read_and_what_is_too_long_gets_no_ticket() {
    let world = World::new();
    for end in 0..SESSION.len() {
        assert_eq!(tickets(&world, "secret").encrypt(&SESSION[..end]), None, "cut at {end}");
    }
    assert_eq!(tickets(&world, "secret").encrypt(&[&SESSION[..], &[0]].concat()), None);
    let mut long = SESSION.to_vec();
    // Data of ours, in front of the 12 bytes at the end.
    let bytes = 9_000_u16;
    let at = long.len() - 14;
    long[at..at + 2].copy_from_slice(&bytes.to_be_bytes());
    long.splice(at + 2..at + 2, std::iter::repeat_n(0, usize::from(bytes)));
    assert_eq!(earliest_expiry_secs(&long), Some(u64::MAX));
    assert_eq!(tickets(&world, "secret").encrypt(&long), None);
}

#[test]
fn secrets_are_not_shown() {
    let world = World::new();
    let shown = format!("{:?} {:?}", tickets(&world, "hush"), world.server(None, &["hush"]));
    assert!(!shown.contains("hush"), "{shown}");
}
