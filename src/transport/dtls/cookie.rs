//! Cookies: proof that who sends from an address also receives there (RFC 6347 section 4.2.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Length of a cookie.
pub(super) const COOKIE_BYTES: usize = 16;

/// How long one key makes cookies; the one before is still accepted.
const PERIOD_MS: u64 = 60_000;

/// The key of cookies; random, one for the process. Never shown.
#[derive(Clone)]
pub struct CookieSecret([u8; 32]);

impl CookieSecret {
    /// A secret of random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret")
    }
}

/// Makes and checks cookies. The key of each minute is derived from the secret, so workers need not agree on a change.
#[derive(Debug)]
pub(super) struct Cookies {
    secret: CookieSecret,
    period: u64,
    current: Hmac<Sha256>,
    previous: Hmac<Sha256>,
}

impl Cookies {
    pub(super) fn new(secret: CookieSecret) -> Self {
        let (current, previous) = (key(&secret, 0), key(&secret, u64::MAX));
        Self { secret, period: 0, current, previous }
    }

    /// The cookie for that address at this time.
    pub(super) fn make(&mut self, address: SocketAddr, unix_ms: u64) -> [u8; COOKIE_BYTES] {
        self.turn(unix_ms);
        sign(&self.current, address)
    }

    /// Whether the cookie was made for that address within the last minute or two.
    pub(super) fn is_good(&mut self, address: SocketAddr, cookie: &[u8], unix_ms: u64) -> bool {
        self.turn(unix_ms);
        let is_of = |key| sign(key, address).ct_eq(cookie);
        (is_of(&self.current) | is_of(&self.previous)).into()
    }

    fn turn(&mut self, unix_ms: u64) {
        let period = unix_ms / PERIOD_MS;
        if period != self.period {
            self.period = period;
            self.current = key(&self.secret, period);
            self.previous = key(&self.secret, period.wrapping_sub(1));
        }
    }
}

fn key(secret: &CookieSecret, period: u64) -> Hmac<Sha256> {
    let mut derived = hmac(&secret.0);
    derived.update(&period.to_be_bytes());
    hmac(&derived.finalize().into_bytes().into())
}

fn hmac(bytes: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads its key to a whole block.
    let mut block = [0; 64];
    block[..32].copy_from_slice(bytes);
    Hmac::new(&block.into())
}

fn sign(key: &Hmac<Sha256>, address: SocketAddr) -> [u8; COOKIE_BYTES] {
    let mut mac = key.clone();
    match address.ip() {
        IpAddr::V4(ip) => mac.update(&ip.octets()),
        IpAddr::V6(ip) => mac.update(&ip.octets()),
    }
    mac.update(&address.port().to_be_bytes());
    let mut cookie = [0; COOKIE_BYTES];
    cookie.copy_from_slice(&mac.finalize().into_bytes()[..COOKIE_BYTES]);
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_cookie_is_good_for_its_address_alone_and_for_a_minute_or_two() {
        let mut cookies = Cookies::new(CookieSecret::new([7; 32]));
        let made_ms = 10 * PERIOD_MS;
        let cookie = cookies.make(address(1), made_ms);
        assert!(cookies.is_good(address(1), &cookie, made_ms));
        assert!(cookies.is_good(address(1), &cookie, made_ms + 2 * PERIOD_MS - 1));
        assert!(!cookies.is_good(address(1), &cookie, made_ms + 2 * PERIOD_MS));
        assert!(!cookies.is_good(address(2), &cookie, made_ms));
        assert!(!cookies.is_good(SocketAddr::from(([192, 0, 2, 2], 1)), &cookie, made_ms));
        for wrong in [&cookie[..15], &[], &[0; 16]] {
            assert!(!cookies.is_good(address(1), wrong, made_ms));
        }
    }

    #[test]
    fn workers_with_the_same_secret_accept_each_others_cookies_and_others_do_not() {
        let cookie = Cookies::new(CookieSecret::new([7; 32])).make(address(1), 1);
        assert!(Cookies::new(CookieSecret::new([7; 32])).is_good(address(1), &cookie, 1));
        assert!(!Cookies::new(CookieSecret::new([8; 32])).is_good(address(1), &cookie, 1));
    }
}
