//! Where a device speaks from, as far as resources are shared out by it.

use std::net::{IpAddr, Ipv6Addr};

/// The addresses of one holder: an IPv4 address, or the /64 of an IPv6 address, of which nobody has less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address. An IPv4 address mapped into IPv6, as a listener on `[::]` sees it, is the IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Protocol of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MQTT.
    Mqtt,
    /// CoAP below DTLS.
    Dtls,
    /// CoAP alone, where a sender may give any address as its own.
    Coap,
}

impl Protocol {
    /// Every protocol, in order.
    pub const ALL: [Protocol; 3] = [Protocol::Mqtt, Protocol::Dtls, Protocol::Coap];
}

/// Origin of a look-up: shares of a registry are by protocol, and below it by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its network; behind a proxy that names its clients, that of the client.
    pub network: Network,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_of_ipv4_or_a_64_of_ipv6() {
        let network = |address: &str| Network::of(address.parse().unwrap());
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("::ffff:10.0.0.1"), network("::ffff:10.0.0.2"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }
}
