//! The registry as the device side asks it.

use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::child::{Child, Children};
use crate::protocol::network::Source;
use crate::registry::{self, Device, Registry};
use crate::session::identity::{self, Identity};
use crate::session::mqtt::BoundChild;
use crate::telemetry::metric::{LookupResult, WorkerMetrics};
use crate::transport;

/// The registry behind the device side's port, for one worker.
pub struct RegistryAdapter {
    /// The registry.
    pub registry: Registry,
    /// The worker's numbers.
    pub metrics: Arc<WorkerMetrics>,
}

impl Children for RegistryAdapter {
    fn child(&self, id: &str) -> Child {
        self.registry.child(id)
    }
}

impl transport::Registry for RegistryAdapter {
    fn device<'a>(&'a self, id: &'a str, source: Source) -> Pin<Box<dyn Future<Output = identity::Lookup> + 'a>> {
        Box::pin(async move {
            let (result, lookup) = match self.registry.device(id, source).await {
                registry::Lookup::Found(device) => (LookupResult::Found, identity::Lookup::Found(identity(&device))),
                registry::Lookup::Unknown => (LookupResult::Unknown, identity::Lookup::Unknown),
                registry::Lookup::Away => (LookupResult::Away, identity::Lookup::Away),
                registry::Lookup::Late => (LookupResult::Late, identity::Lookup::Away),
            };
            self.metrics.registry_lookups[result].inc();
            lookup
        })
    }

    fn permits(&self, id: &str, found: &Identity) -> bool {
        match self.registry.last_known(id) {
            registry::Lookup::Found(device) => {
                let expected = device.expected();
                expected.enabled
                    && device.product == found.product
                    && *expected.secure_id == *found.secure_id
                    && *expected.secure_key == *found.secure_key
            }
            registry::Lookup::Unknown => false,
            registry::Lookup::Away | registry::Lookup::Late => true,
        }
    }
}

fn identity(device: &Device) -> Identity {
    let expected = device.expected();
    let children = device.children.iter();
    Identity {
        product: device.product.clone(),
        secure_id: expected.secure_id.into(),
        secure_key: expected.secure_key.into(),
        enabled: expected.enabled,
        children: children.map(|child| BoundChild { id: child.id.clone(), product: child.product.clone() }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{FileRegistry, Lookup};
    use crate::transport::Registry as _;

    #[test]
    fn a_session_may_begin_only_under_the_record_that_is_in_force() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/devices.toml");
        let file = FileRegistry::open(sample.as_ref(), false).unwrap();
        let found = |id: &str| match file.device(id) {
            Lookup::Found(device) => identity(&device),
            other => panic!("{id}: {other:?}"),
        };
        let (device, disabled) = (found("device1"), found("device2"));
        let rekeyed = Identity { secure_key: "another".into(), ..device.clone() };
        let renamed = Identity { secure_id: "another".into(), ..device.clone() };
        let moved = Identity { product: found("child1").product, ..device.clone() };
        let with_children = Identity { children: found("gw1").children, ..device.clone() };
        let port = RegistryAdapter { registry: Registry::File(Arc::new(file)), metrics: Arc::default() };
        assert!(port.permits("device1", &device) && port.permits("device1", &with_children));
        for changed in [rekeyed, renamed, moved] {
            assert!(!port.permits("device1", &changed));
        }
        assert!(!port.permits("device2", &disabled) && !port.permits("device9", &device));
    }
}
