//! Datagrams of peers that have finished no handshake.
//!
//! The input is a sequence of operations: what a byte stands for, and for a datagram its length and bytes.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;

use jetlinks_bridge::protocol::limit::Now;
use jetlinks_bridge::session::coap::PeerKey;
use jetlinks_bridge::transport::dtls::{Bounds, CookieSecret, Server, Sessions};
use jetlinks_bridge::transport::{ConnectionLimit, SocketBounds};

/// Made for this and known nowhere.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBgDCCASWgAwIBAgIURmhKTJ2H9/3HNaUIlNf0Yg5tooowCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNjIwMTMzOFoYDzIxMjYxMTAy\n\
MjAxMzM4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAATfMLJSMEnexElJC8wzChPu7CCm5W3qlWEZ2ShsdYdLhR5OH9BlGq0g\n\
UoQOMLRUGlNfdDM9BdCZ7YrbYehdd4i4o1MwUTAdBgNVHQ4EFgQUoPH5DhTgVYJ3\n\
sAAWIiT/wnJS++gwHwYDVR0jBBgwFoAUoPH5DhTgVYJ3sAAWIiT/wnJS++gwDwYD\n\
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAi6/uq41ERTi2ZiBalEID\n\
gxH0ZOqsMNtztLZadp+/OpoCIQC3LJlRBH/5PUFSyMwuubLgGFPKK9cttq6ozbhk\n\
vSz+tQ==\n\
-----END CERTIFICATE-----\n";
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRhTBcSSQgQP2er8+\n\
5vWVMbN8FHj1zqgPTavDefuFlp6hRANCAATfMLJSMEnexElJC8wzChPu7CCm5W3q\n\
lWEZ2ShsdYdLhR5OH9BlGq0gUoQOMLRUGlNfdDM9BdCZ7YrbYehdd4i4\n\
-----END PRIVATE KEY-----\n";

const BOUNDS: Bounds =
    Bounds { half_open: 4, unproven: 5, unproven_per_network: 2, handshakes_per_second: 1_000, idle_us: 60_000_000 };

/// Sessions that the gate lets in, handshakes included.
const SESSIONS: usize = 16;

/// Addresses of peers: four ports at each of three hosts.
const PEERS: usize = 12;

const RECORD_BYTES: usize = 13;

const FRAGMENT_BYTES: u16 = 12;

/// Where the session id of a hello begins: behind both headers, the version and a random number.
const SESSION_ID_AT: usize = 13 + 12 + 2 + 32;

/// Where the cookie of a request for it begins: behind both headers, the version and a length.
const COOKIE_AT: usize = 13 + 12 + 3;

thread_local! {
    // Its context is the same for all runs, and costs more than one.
    static SERVER: OnceCell<Server> = const { OnceCell::new() };
}

/// Whoever has shown no cookie gets fewer bytes than he sent, and no handshake. Handshakes stay within their bounds, go
/// after a time, and give their places back.
pub fn check(data: &[u8]) {
    let server =
        SERVER.with(|server| server.get_or_init(|| Server::new(CERTIFICATE, KEY).expect("the pair is good")).clone());
    let connection_limit = Arc::new(ConnectionLimit::new(SESSIONS, SocketBounds::new(0)));
    let mut now = Now { unix_ms: 1_700_000_000_000, us: 1_000_000 };
    let mut sessions = Sessions::new(server, CookieSecret::new([7; 32]), Arc::clone(&connection_limit), BOUNDS, now);
    let mut cookies: [Vec<u8>; PEERS] = Default::default();
    let mut has_shown = [false; PEERS];
    let mut rest = data;
    while let [operation, length, after @ ..] = rest {
        let (datagram, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let peer = usize::from(operation & 0x3f) % PEERS;
        let from = SocketAddr::from(([10, 0, 0, (peer / 4) as u8], 5684 + (peer % 4) as u16));
        let mut datagram = datagram.to_vec();
        match operation >> 6 {
            3 => has_shown[peer] |= with_cookie(&mut datagram, &cookies[peer]),
            2 => {
                now.us += u64::from(*length) * 100_000;
                now.unix_ms += u64::from(*length) * 100;
                sessions.tick(now);
                sessions.clear_sent();
            }
            _ => {}
        }
        let before = sessions.half_open();
        sessions.feed(now, from, &datagram);
        let mut sent = 0;
        for (to, bytes) in sessions.sent().iter() {
            assert_eq!(to, PeerKey::Address(from), "somebody else is spoken to");
            sent += bytes.len();
            if bytes.len() > COOKIE_AT && bytes[13] == 3 {
                cookies[peer] = bytes[COOKIE_AT..].to_vec();
            }
        }
        sessions.clear_sent();
        if !has_shown[peer] {
            assert!(sent == 0 || sent < datagram.len(), "{sent} bytes for {}", datagram.len());
            assert!(sessions.half_open() <= before, "a handshake without a cookie");
        }
        assert!(sessions.received().is_empty() && sessions.open() == 0, "a handshake without keys");
        assert!(sessions.half_open() <= BOUNDS.half_open);
    }
    now.us += 3_600_000_000;
    sessions.tick(now);
    assert_eq!(sessions.half_open(), 0);
    assert!((0..SESSIONS).all(|_| connection_limit.enter_unproven()), "a place was not given back");
}

/// Puts a cookie into a hello without one; whether it was one.
fn with_cookie(hello: &mut Vec<u8>, cookie: &[u8]) -> bool {
    if hello.len() < SESSION_ID_AT + 2 || hello[SESSION_ID_AT..SESSION_ID_AT + 2] != [0, 0] || cookie.is_empty() {
        return false;
    }
    hello[SESSION_ID_AT + 1] = cookie.len() as u8;
    hello.splice(SESSION_ID_AT + 2..SESSION_ID_AT + 2, cookie.iter().copied());
    let record = (hello.len() - RECORD_BYTES) as u16;
    let message = (record - FRAGMENT_BYTES).to_be_bytes();
    hello[11..RECORD_BYTES].copy_from_slice(&record.to_be_bytes());
    // Of the message, and of the fragment that is all of it.
    hello[15..17].copy_from_slice(&message);
    hello[23..25].copy_from_slice(&message);
    true
}
