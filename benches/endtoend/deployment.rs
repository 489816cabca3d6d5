//! What a load is put on.

use crate::load::Load;
use crate::support::Registration;

/// How a bridge is deployed; other servers are always alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// Replicas that share a queue and, above one, tell each other of their sessions; devices are divided among them.
    pub(crate) replicas: u32,
    /// Threads of each that serve devices.
    pub(crate) workers: u32,
    /// Devices in the registry; never fewer than those that connect.
    pub(crate) registered: u32,
    /// Products that devices are divided among.
    pub(crate) products: u32,
}

impl Default for Deployment {
    fn default() -> Self {
        Self { replicas: 1, workers: 1, registered: 0, products: 1 }
    }
}

impl Deployment {
    /// The devices of the registry: first those of the load.
    pub(crate) fn registrations(self, load: Load) -> Vec<Registration> {
        let registration = |number: u32| Registration {
            product: format!("product{}", number % self.products + 1),
            ..Registration::encrypting(&format!("device{}", number + 1))
        };
        (0..self.registered.max(load.devices)).map(registration).collect()
    }

    /// How many devices of the load connect to each replica.
    pub(crate) fn shares(self, load: Load) -> Vec<u32> {
        let of = |replica| load.devices / self.replicas + u32::from(replica < load.devices % self.replicas);
        (0..self.replicas).map(of).collect()
    }
}
