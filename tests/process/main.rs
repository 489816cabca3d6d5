//! The real bridge with stdin and stdout as its queue: raw bytes in, envelopes out.
#![expect(clippy::disallowed_methods, reason = "tests own the clock and the sockets")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod capacity;
mod children;
mod coap;
mod command;
mod command_failure;
mod configuration;
mod connect;
mod descriptors;
mod families;
mod follow;
mod gone;
mod hostile;
mod keep_alive;
mod liveness;
mod log;
mod mqtt_rules;
mod operator;
mod presence;
mod proxy;
mod publish;
mod refused;
mod rejected;
mod relay;
mod renewal;
mod shutdown;
mod simulated;
mod start;
mod subcommand;
mod subscribe;
mod systemd;
mod takeover;
mod terminal;
mod tls;
mod tracing;
mod websocket;

use support::{Bridge, Registration, Registry, Settings, Wire};

/// A bridge that knows device1 and device2 of product1.
struct Stage {
    bridge: Bridge,
    device1: Registration,
    device2: Registration,
    registry: Registry,
}

impl Stage {
    fn new() -> Self {
        Self::with(|settings| settings)
    }

    fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let (device1, device2) = (Registration::new("device1"), Registration::new("device2"));
        let registry = Registry::new(&[device1.clone(), device2.clone()]);
        let bridge = Bridge::start(&change(Settings::stdio(&registry)));
        Self { bridge, device1, device2, registry }
    }

    /// Connects a device and takes its `online` off stdout.
    fn connect(&mut self, device: &Registration) -> Wire {
        let wire = Wire::connect(self.bridge.mqtt(), device);
        self.bridge.expect("device.online", &device.id);
        wire
    }

    /// device1, connected.
    fn connect1(&mut self) -> Wire {
        let device = self.device1.clone();
        self.connect(&device)
    }

    /// Shows that nothing is left on stdout: the next line is the `online` of device2, which connects for that.
    fn assert_nothing_written(&mut self) {
        let device = self.device2.clone();
        let mut wire = self.connect(&device);
        wire.send(&support::packet::DISCONNECT);
        self.bridge.expect("device.offline", &device.id);
    }
}
