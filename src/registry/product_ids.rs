//! Ids of products, each kept once.

use std::collections::HashMap;

use super::Device;
use crate::protocol::id::ProductId;

/// Ids of products that records name: thousands of devices share the memory of one.
#[derive(Debug, Default)]
pub(super) struct ProductIds {
    /// Each with the number of its users.
    users: HashMap<ProductId, usize>,
}

impl ProductIds {
    /// Makes a device share the ids of its product and those of its children, and counts it as their user.
    pub(super) fn share_all(&mut self, device: &mut Device) {
        self.count_all(device);
        for id in std::iter::once(&mut device.product).chain(device.children.iter_mut().map(|child| &mut child.product))
        {
            if let Some((shared, _)) = self.users.get_key_value(id) {
                *id = shared.clone();
            }
        }
    }

    /// Counts a device as a user of its ids.
    pub(super) fn count_all(&mut self, device: &Device) {
        for id in ids(device) {
            *self.users.entry(id.clone()).or_default() += 1;
        }
    }

    /// Counts a device out.
    pub(super) fn release_all(&mut self, device: &Device) {
        for id in ids(device) {
            match self.users.get_mut(id) {
                Some(users) if *users > 1 => *users -= 1,
                _ => drop(self.users.remove(id)),
            }
        }
    }
}

fn ids(device: &Device) -> impl Iterator<Item = &ProductId> {
    std::iter::once(&device.product).chain(device.children.iter().map(|child| &child.product))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::DeviceId;
    use crate::registry::Child;

    fn gateway(product: &str) -> Device {
        let product = || ProductId::new(product).unwrap();
        Device {
            id: DeviceId::new("gw1").unwrap(),
            product: product(),
            credentials: None,
            enabled: true,
            gateway: None,
            children: Box::new([Child { id: DeviceId::new("child1").unwrap(), product: product() }]),
        }
    }

    #[test]
    fn ids_that_are_the_same_are_kept_once_and_as_long_as_somebody_uses_them() {
        let mut ids = ProductIds::default();
        let (mut first, mut second) = (gateway("product1"), gateway("product1"));
        ids.share_all(&mut first);
        ids.share_all(&mut second);
        let place = |id: &ProductId| id.as_str().as_ptr();
        assert_eq!(place(&first.product), place(&second.product));
        assert_eq!(place(&first.product), place(&second.children[0].product));
        ids.release_all(&first);
        assert_eq!(ids.users.len(), 1);
        ids.release_all(&second);
        assert!(ids.users.is_empty());
    }
}
