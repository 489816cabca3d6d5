//! CoAP: from the configuration to the ports of each worker.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::listeners;
use super::worker::us;
use crate::config::Config;
use crate::protocol::limit::Now;
use crate::session::coap::{Endpoint, FingerprintKey, Security, Settings, TokenSecrets};
use crate::transport::dtls::{self, Bounds, CookieSecret, Sessions};
use crate::transport::{CoapPort, ConnectionLimit};

/// Ports of one worker at most: a token names one in 7 bits, and the last number is not used.
const PORTS_MAX: usize = 126;

/// DTLS handshakes that may be half open in the process.
const HALF_OPEN_MAX: usize = 1024;

/// DTLS handshakes and sessions of the process over which no device has authenticated: 256 MiB. A good device needs
/// two round trips, so these are enough for all the handshakes that begin in two seconds.
const UNPROVEN_MAX: usize = 4096;

/// The part of [`UNPROVEN_MAX`] that one network may have: many devices may stand behind one address, and none must use up
/// everything.
const UNPROVEN_PER_NETWORK_MAX: usize = 256;

/// The parts of DTLS besides a socket; shared by all workers.
#[derive(Debug, Clone)]
pub struct Dtls {
    server: dtls::Server,
    secrets: Arc<TokenSecrets>,
    cookies: CookieSecret,
}

/// The parts of a port, before its worker's thread runs.
#[derive(Debug)]
pub struct PortPlan {
    socket: UdpSocket,
    number: u8,
    /// `None` on a port without DTLS.
    dtls: Option<Dtls>,
}

/// Makes the parts of DTLS besides its server.
pub fn prepare(config: &Config, server: dtls::Server) -> anyhow::Result<Dtls> {
    let dtls = &config.dtls;
    let secrets = match &dtls.token_secret[..] {
        // The configuration warns of it.
        [] => TokenSecrets::new(&random()?, None),
        [current, rest @ ..] => {
            let previous = rest.first().map(|previous| previous.expose().as_bytes());
            TokenSecrets::new(current.expose().as_bytes(), previous)
        }
    };
    Ok(Dtls { server, secrets: Arc::new(secrets), cookies: CookieSecret::new(random()?) })
}

/// Binds every address once for each worker; by worker.
pub fn bind(config: &Config, dtls: Option<&Dtls>, workers: usize) -> anyhow::Result<Vec<Vec<PortPlan>>> {
    let plain = config.coap.listen.iter().map(|address| ("coap", *address, None));
    let secured = config.dtls.listen.iter().map(|address| ("dtls", *address, dtls));
    ensure!(plain.len() + secured.len() <= PORTS_MAX, "coap.listen, dtls.listen: more than {PORTS_MAX} addresses");
    let ipv4 = listeners::Ipv4Ports::of_udp(config);
    let mut plans: Vec<Vec<PortPlan>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, (name, address, dtls)) in (0..).zip(plain.chain(secured)) {
        let sockets =
            listeners::bind_datagrams(name, address, &ipv4, workers).with_context(|| format!("{name}.listen"))?;
        for (plan, socket) in plans.iter_mut().zip(sockets) {
            plan.push(PortPlan { socket, number, dtls: dtls.cloned() });
        }
    }
    Ok(plans)
}

impl PortPlan {
    /// The port and its socket, on its worker's thread, with that worker's share of the configuration.
    pub fn open(
        self,
        config: &Config,
        connection_limit: &Arc<ConnectionLimit>,
        now: Now,
    ) -> anyhow::Result<(tokio::net::UdpSocket, CoapPort)> {
        let security = match &self.dtls {
            None => Security::Aes,
            Some(dtls) => {
                let token_ttl_secs = config.dtls.token_ttl.as_secs().max(1);
                Security::Dtls { secrets: dtls.secrets.clone(), token_ttl_secs }
            }
        };
        let max_age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let settings = Settings {
            max_age_ms: config.coap.max_age.filter(|_| self.dtls.is_none()).map(max_age_ms),
            takes_direct: config.coap.direct,
            exchanges_per_peer: config.limits.inflight_per_connection,
            ..Settings::new(self.number, security, FingerprintKey::new(random()?))
        };
        let share = |number: usize| number.div_ceil(config.runtime.workers);
        let bounds = Bounds {
            half_open: share(HALF_OPEN_MAX),
            unproven: share(UNPROVEN_MAX),
            unproven_per_network: share(UNPROVEN_PER_NETWORK_MAX),
            handshakes_per_second: share(config.limits.connect_rate as usize) as u64,
            idle_us: us(config.dtls.idle_timeout),
        };
        let sessions =
            self.dtls.map(|dtls| Sessions::new(dtls.server, dtls.cookies, connection_limit.clone(), bounds, now));
        let socket = tokio::net::UdpSocket::from_std(self.socket)?;
        Ok((socket, CoapPort::new(Endpoint::new(settings), sessions)))
    }
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("random numbers")?;
    Ok(bytes)
}
