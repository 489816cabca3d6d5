//! The records of the bucket as they are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Key;
use super::feed::Entry;
use crate::protocol::id::{DeviceId, ProductId};
use crate::registry::catalog::Catalog;
use crate::registry::product_ids::ProductIds;
use crate::registry::{Change, Device, Lookup, Product, RecordError};

/// The records that can be read, and the ids of those that cannot.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) catalog: Catalog,
    unreadable: HashSet<DeviceId>,
    unreadable_products: HashSet<ProductId>,
}

impl Known {
    /// Knows nothing.
    pub(super) fn new(product_secrets: bool) -> Self {
        Self { catalog: Catalog::new(product_secrets), ..Self::default() }
    }

    /// The device as it may connect.
    pub(super) fn device(&self, id: &str) -> Lookup {
        if self.unreadable.contains(id) { Lookup::Away } else { self.catalog.device(id) }
    }

    /// Takes one record in: whose sessions must end, or that it cannot be read.
    pub(super) fn take(&mut self, entry: Entry) -> Change {
        let ended = match entry {
            Entry::Device(id, Some(Err(mistakes))) => {
                let record = Key::Device(id.clone()).text();
                self.unreadable.insert(id);
                return Change::Unreadable { record, mistakes };
            }
            Entry::Product(id, Some(Err(mistakes))) => {
                let record = Key::Product(id.clone()).text();
                self.unreadable_products.insert(id);
                return Change::Unreadable { record, mistakes };
            }
            Entry::Foreign(record) => return Change::Unreadable { record, mistakes: vec![RecordError::OtherId] },
            Entry::Device(id, record) => {
                self.unreadable.remove(&id);
                match record.and_then(Result::ok) {
                    Some(device) => self.catalog.put_device(device),
                    None => self.catalog.remove_device(id.as_str()),
                }
            }
            Entry::Product(id, record) => {
                self.unreadable_products.remove(&id);
                match record.and_then(Result::ok) {
                    Some(product) => self.catalog.put_product(product),
                    None => self.catalog.remove_product(&id),
                }
            }
        };
        Change::Devices { known: self.catalog.len(), ended }
    }

    /// Takes over what was known of records that cannot be read: their sessions go on.
    pub(super) fn keep_unreadable(&mut self, before: &Known) {
        for id in &self.unreadable_products {
            if let Some(product) = before.catalog.product(id) {
                self.catalog.put_product(product);
            }
        }
        for id in &self.unreadable {
            if let Some(record) = before.catalog.record(id.as_str()) {
                self.catalog.put_device(record);
            }
        }
    }
}

/// All records of the bucket while they are read.
#[derive(Debug, Default)]
pub(super) struct Loading {
    devices: HashMap<DeviceId, Result<Arc<Device>, Vec<RecordError>>>,
    product_ids: ProductIds,
    products: HashMap<ProductId, Result<Product, Vec<RecordError>>>,
    foreign: Vec<String>,
}

impl Loading {
    /// Takes one record in; of two with one id the later counts.
    pub(super) fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Device(_, Some(Ok(mut device))) => {
                self.product_ids.share_all(&mut device);
                self.devices.insert(device.id.clone(), Ok(Arc::new(device)));
            }
            Entry::Device(id, Some(Err(mistakes))) => drop(self.devices.insert(id, Err(mistakes))),
            Entry::Device(id, None) => drop(self.devices.remove(&id)),
            Entry::Product(id, Some(record)) => drop(self.products.insert(id, record)),
            Entry::Product(id, None) => drop(self.products.remove(&id)),
            Entry::Foreign(key) => self.foreign.push(key),
        }
    }

    /// The records that are known then, and those that cannot be read.
    pub(super) fn finish(self, product_secrets: bool) -> (Known, Vec<Change>) {
        let (mut devices, mut products) = (Vec::new(), Vec::new());
        let mut broken: Vec<Entry> = self.foreign.into_iter().map(Entry::Foreign).collect();
        for (id, record) in self.devices {
            match record {
                Ok(device) => devices.push(device),
                Err(mistakes) => broken.push(Entry::Device(id, Some(Err(mistakes)))),
            }
        }
        for (id, record) in self.products {
            match record {
                Ok(product) => products.push(product),
                Err(mistakes) => broken.push(Entry::Product(id, Some(Err(mistakes)))),
            }
        }
        let catalog = Catalog::of(product_secrets, devices, products);
        let mut known = Known { catalog, ..Known::default() };
        let unreadable = broken.into_iter().map(|entry| known.take(entry)).collect();
        (known, unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_version_of_a_record_counts_while_all_are_read() {
        let id = DeviceId::new("device1").unwrap();
        let product = ProductId::new("product1").unwrap();
        let good = || Device {
            id: id.clone(),
            product: product.clone(),
            credentials: None,
            enabled: true,
            gateway: None,
            children: Box::default(),
        };
        let broken = || Err(vec![RecordError::NoObject]);
        let end = |entries: Vec<Option<Result<Device, Vec<RecordError>>>>| {
            let mut loading = Loading::default();
            entries.into_iter().for_each(|record| loading.take(Entry::Device(id.clone(), record)));
            loading.take(Entry::Foreign("other".to_owned()));
            let (known, unreadable) = loading.finish(false);
            (known.device("device1"), unreadable.len())
        };
        assert!(matches!(end(vec![Some(broken()), Some(Ok(good()))]), (Lookup::Found(_), 1)));
        assert_eq!(end(vec![Some(Ok(good())), Some(broken())]), (Lookup::Away, 2));
        assert_eq!(end(vec![Some(broken()), None]), (Lookup::Unknown, 1));
    }
}
