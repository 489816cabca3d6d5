//! All records of a registry, and the devices that they make together.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::product_ids::ProductIds;
use super::{Child, Credentials, Device, Lookup, Product};
use crate::protocol::child;
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::keyed::{KeyedMap, KeyedSet};

/// Records as they are stored, and devices as the bridge sees them: with the secret of their product where they have
/// none of their own, and gateways with all their children.
///
/// A child is bound to a gateway by its own record, which names the gateway, or by the gateway's record, which lists
/// the child; where the two disagree the child's own record counts.
///
/// A device takes some 300 bytes; docs/operations.md counts on it, and a test of the process holds it.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    product_secrets: bool,
    products: KeyedMap<ProductId, Credentials>,
    records: KeyedSet<ById>,
    /// Devices that differ from their records.
    derived: KeyedMap<DeviceId, Arc<Device>>,
    /// By gateway, the devices whose records name it.
    bound: KeyedMap<DeviceId, HashSet<DeviceId>>,
    /// By child, the gateway that lists it and the product that it gives it.
    listed: KeyedMap<DeviceId, (DeviceId, ProductId)>,
    product_ids: ProductIds,
}

/// A record that is found by its id.
#[derive(Debug)]
struct ById(Arc<Device>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Catalog {
    /// An empty catalog; `product_secrets` says whether secrets of products count.
    pub(super) fn new(product_secrets: bool) -> Self {
        Self { product_secrets, ..Self::default() }
    }

    /// A catalog of these records; of two with one id the later counts. Much faster than one after the other where
    /// gateways have many children.
    pub(super) fn of(
        product_secrets: bool,
        devices: impl IntoIterator<Item = Arc<Device>>,
        products: impl IntoIterator<Item = Product>,
    ) -> Self {
        let mut catalog = Self::new(product_secrets);
        catalog.products =
            products.into_iter().filter_map(|product| Some((product.id, product.credentials?))).collect();
        let devices = devices.into_iter();
        catalog.records.reserve(devices.size_hint().0);
        for device in devices {
            catalog.records.replace(ById(device));
        }
        let records: Vec<Arc<Device>> = catalog.records.iter().map(|record| Arc::clone(&record.0)).collect();
        for record in &records {
            catalog.product_ids.count_all(record);
            catalog.link(record);
        }
        for record in &records {
            if let Some(device) = catalog.derive(record) {
                catalog.derived.insert(record.id.clone(), device);
            }
        }
        catalog
    }

    /// How many devices there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The devices as they may connect.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.records.iter().map(|record| &**self.derived.get(&record.0.id).unwrap_or(&record.0))
    }

    /// The record of a device, as it is stored.
    pub(super) fn record(&self, id: &str) -> Option<Device> {
        self.stored(id).map(|record| Device::clone(record))
    }

    /// The record of a product that has a secret.
    pub(super) fn product(&self, id: &ProductId) -> Option<Product> {
        self.products.get(id).map(|credentials| Product { id: id.clone(), credentials: Some(credentials.clone()) })
    }

    /// The device as it may connect.
    pub(super) fn device(&self, id: &str) -> Lookup {
        self.current(id).map_or(Lookup::Unknown, |device| Lookup::Found(Arc::clone(device)))
    }

    fn stored(&self, id: &str) -> Option<&Arc<Device>> {
        self.records.get(id).map(|record| &record.0)
    }

    fn current(&self, id: &str) -> Option<&Arc<Device>> {
        self.derived.get(id).or_else(|| self.stored(id))
    }

    /// The device as a child.
    pub(super) fn child(&self, id: &str) -> child::Child {
        let listed = self.listed.get(id);
        match (self.stored(id), listed) {
            (Some(record), _) => {
                let gateway = record.gateway.as_ref().or(listed.map(|(gateway, _)| gateway));
                child::Child::Known { product: record.product.clone(), gateway: gateway.cloned() }
            }
            (None, Some((gateway, product))) => {
                child::Child::Known { product: product.clone(), gateway: Some(gateway.clone()) }
            }
            (None, None) => child::Child::Unknown,
        }
    }

    /// Puts a record in the place of the one that was. The devices whose sessions must end for it.
    pub(super) fn put_device(&mut self, mut device: Device) -> Vec<DeviceId> {
        self.product_ids.share_all(&mut device);
        let ended = self.current(device.id.as_str()).cloned();
        let record = Arc::new(device);
        let before = self.records.replace(ById(Arc::clone(&record))).map(|before| before.0);
        if let Some(before) = &before {
            self.unlink(before);
            self.product_ids.release_all(before);
        }
        self.link(&record);
        let next = self.settle(&record);
        let ended = ended.filter(|ended| !ended.permits_under(&next));
        self.renew_gateways(&record, before.as_deref());
        ended.map(|ended| ended.id.clone()).into_iter().collect()
    }

    /// Takes a record out. The devices whose sessions must end for it.
    pub(super) fn remove_device(&mut self, id: &str) -> Vec<DeviceId> {
        let Some(ById(record)) = self.records.take(id) else { return Vec::new() };
        self.unlink(&record);
        self.product_ids.release_all(&record);
        self.derived.remove(id);
        self.renew_gateways(&record, None);
        vec![record.id.clone()]
    }

    /// Puts a product's record in the place of the one that was. The devices whose sessions must end for it.
    pub(super) fn put_product(&mut self, product: Product) -> Vec<DeviceId> {
        let before = match product.credentials {
            Some(credentials) => self.products.insert(product.id.clone(), credentials),
            None => self.products.remove(&product.id),
        };
        if before.as_ref() == self.products.get(&product.id) { Vec::new() } else { self.renew_product(&product.id) }
    }

    /// Takes a product's record out. The devices whose sessions must end for it.
    pub(super) fn remove_product(&mut self, id: &ProductId) -> Vec<DeviceId> {
        if self.products.remove(id).is_some() { self.renew_product(id) } else { Vec::new() }
    }

    /// The devices, in the order of their ids, whose sessions must end when `next` takes the place of this catalog.
    pub(super) fn ended_by(&self, next: &Catalog) -> Vec<DeviceId> {
        let must_end =
            |device: &&Device| next.current(device.id.as_str()).is_none_or(|next| !device.permits_under(next));
        let mut ended: Vec<DeviceId> = self.devices().filter(must_end).map(|device| device.id.clone()).collect();
        ended.sort();
        ended
    }

    fn link(&mut self, record: &Device) {
        if let Some(gateway) = &record.gateway {
            self.bound.entry(gateway.clone()).or_default().insert(record.id.clone());
        }
        for child in &record.children {
            self.listed.insert(child.id.clone(), (record.id.clone(), child.product.clone()));
        }
    }

    fn unlink(&mut self, record: &Device) {
        if let Some(gateway) = &record.gateway
            && let Some(children) = self.bound.get_mut(gateway)
        {
            children.remove(&record.id);
            if children.is_empty() {
                self.bound.remove(gateway);
            }
        }
        for child in &record.children {
            if self.listed.get(&child.id).is_some_and(|(gateway, _)| *gateway == record.id) {
                self.listed.remove(&child.id);
            }
        }
    }

    /// Renews the gateways that a device belongs to or belonged to.
    fn renew_gateways(&mut self, record: &Device, before: Option<&Device>) {
        let named = [record.gateway.as_ref(), before.and_then(|before| before.gateway.as_ref())];
        let listed = self.listed.get(&record.id).map(|(gateway, _)| gateway);
        let gateways: HashSet<DeviceId> = named.into_iter().flatten().chain(listed).cloned().collect();
        for gateway in gateways {
            self.renew(&gateway);
        }
    }

    /// Renews the devices that use the secret of their product.
    fn renew_product(&mut self, product: &ProductId) -> Vec<DeviceId> {
        if !self.product_secrets {
            return Vec::new();
        }
        let uses = |record: &&Arc<Device>| record.product == *product && record.credentials.is_none();
        let records = self.records.iter().map(|record| &record.0);
        let users: Vec<DeviceId> = records.filter(uses).map(|record| record.id.clone()).collect();
        users.into_iter().filter(|id| self.renew(id)).collect()
    }

    /// Makes a device anew from its record; whether its session must end.
    fn renew(&mut self, id: &DeviceId) -> bool {
        let Some(record) = self.stored(id.as_str()).cloned() else { return false };
        let before = self.current(id.as_str()).cloned();
        let next = self.settle(&record);
        before.is_some_and(|before| !before.permits_under(&next))
    }

    /// Puts in force what follows from a record, and gives it.
    fn settle(&mut self, record: &Arc<Device>) -> Arc<Device> {
        match self.derive(record) {
            Some(device) => {
                self.derived.insert(record.id.clone(), Arc::clone(&device));
                device
            }
            None => {
                self.derived.remove(&record.id);
                Arc::clone(record)
            }
        }
    }

    /// The device as it may connect, where it differs from its record.
    fn derive(&self, record: &Device) -> Option<Arc<Device>> {
        let product = self.products.get(&record.product).filter(|_| self.product_secrets);
        let credentials = record.credentials.as_ref().or(product);
        let has_children = !record.children.is_empty() || self.bound.contains_key(&record.id);
        if credentials == record.credentials.as_ref() && !has_children {
            return None;
        }
        let children = if has_children { self.children(record) } else { Box::default() };
        Some(Arc::new(Device { credentials: credentials.cloned(), children, ..Device::clone(record) }))
    }

    /// The enabled children of a gateway, in the order of their ids.
    fn children(&self, gateway: &Device) -> Box<[Child]> {
        let own = |id: &DeviceId| self.stored(id.as_str());
        let is_here =
            |record: &Device| record.enabled && record.gateway.as_ref().is_none_or(|other| *other == gateway.id);
        let listed = gateway.children.iter().filter_map(|child| match own(&child.id) {
            Some(record) => is_here(record).then(|| (child.id.clone(), record.product.clone())),
            None => Some((child.id.clone(), child.product.clone())),
        });
        let bound = self.bound.get(&gateway.id).into_iter().flatten().filter_map(own);
        let bound = bound.filter(|record| is_here(record)).map(|record| (record.id.clone(), record.product.clone()));
        let children: BTreeMap<DeviceId, ProductId> = listed.chain(bound).collect();
        children.into_iter().map(|(id, product)| Child { id, product }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::secret::Secret;

    fn secret(key: &str) -> Option<Credentials> {
        Some(Credentials { secure_id: "test".into(), secure_key: Secret::new(key) })
    }

    fn device(id: &str, key: Option<&str>) -> Device {
        Device {
            id: DeviceId::new(id).unwrap(),
            product: ProductId::new("product1").unwrap(),
            credentials: key.and_then(secret),
            enabled: true,
            gateway: None,
            children: Box::default(),
        }
    }

    fn bound(id: &str, gateway: &str) -> Device {
        Device { gateway: Some(DeviceId::new(gateway).unwrap()), ..device(id, None) }
    }

    fn listing(id: &str, children: &[&str]) -> Device {
        let child = |id: &&str| Child { id: DeviceId::new(id).unwrap(), product: ProductId::new("product2").unwrap() };
        Device { children: children.iter().map(child).collect(), ..device(id, Some("k")) }
    }

    fn product(key: Option<&str>) -> Product {
        Product { id: ProductId::new("product1").unwrap(), credentials: key.and_then(secret) }
    }

    fn of(
        product_secrets: bool,
        devices: impl IntoIterator<Item = Device>,
        products: impl IntoIterator<Item = Product>,
    ) -> Catalog {
        Catalog::of(product_secrets, devices.into_iter().map(Arc::new), products)
    }

    fn found(catalog: &Catalog, id: &str) -> Arc<Device> {
        match catalog.device(id) {
            Lookup::Found(device) => device,
            other => panic!("{id}: {other:?}"),
        }
    }

    fn children(catalog: &Catalog, id: &str) -> Vec<String> {
        found(catalog, id).children.iter().map(|child| format!("{}/{}", child.product, child.id)).collect()
    }

    fn names(ids: Vec<DeviceId>) -> Vec<String> {
        let mut names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn gateway_of(catalog: &Catalog, id: &str) -> Option<String> {
        match catalog.child(id) {
            child::Child::Known { gateway, .. } => Some(gateway.map_or("-".to_owned(), |id| id.to_string())),
            child::Child::Unknown => None,
        }
    }

    #[test]
    fn only_a_change_that_forbids_the_session_ends_it() {
        let mut catalog = of(false, [device("device1", Some("k"))], []);
        assert_eq!(names(catalog.put_device(device("device1", Some("k")))), [""; 0]);
        assert_eq!(names(catalog.put_device(listing("device1", &["child1"]))), [""; 0]);
        assert_eq!(names(catalog.put_device(device("device1", Some("other")))), ["device1"]);
        assert_eq!(
            names(catalog.put_device(Device { enabled: false, ..device("device1", Some("other")) })),
            ["device1"]
        );
        assert_eq!(names(catalog.put_device(device("device1", Some("other")))), [""; 0]);
        assert_eq!(names(catalog.remove_device("device1")), ["device1"]);
        assert_eq!(names(catalog.remove_device("device1")), [""; 0]);
        assert_eq!(catalog.device("device1"), Lookup::Unknown);
    }

    #[test]
    fn a_catalog_built_at_once_is_the_same_as_one_built_record_by_record() {
        let records =
            || [device("device1", None), bound("child1", "gw1"), listing("gw1", &["child2"]), bound("child3", "gw2")];
        let whole = of(true, records(), [product(Some("pk"))]);
        let mut grown = Catalog::new(true);
        for record in records() {
            grown.put_device(record);
        }
        grown.put_product(product(Some("pk")));
        for record in records() {
            assert_eq!(whole.device(record.id.as_str()), grown.device(record.id.as_str()));
        }
        assert_eq!((whole.len(), &whole.derived), (grown.len(), &grown.derived));
        assert_eq!((&whole.listed, &whole.bound), (&grown.listed, &grown.bound));
        assert_eq!(found(&whole, "device1").expected().secure_key, "pk");
    }

    #[test]
    fn a_gateway_has_the_children_that_name_it_and_those_that_it_lists() {
        let mut catalog = of(false, [listing("gw1", &["child2", "child1"]), bound("child3", "gw1")], []);
        assert_eq!(children(&catalog, "gw1"), ["product2/child1", "product2/child2", "product1/child3"]);
        // Its own record counts: another gateway, another product, disabled.
        catalog.put_device(bound("child1", "gw2"));
        catalog.put_device(Device { enabled: false, ..bound("child3", "gw1") });
        catalog.put_device(device("child2", None));
        assert_eq!(children(&catalog, "gw1"), ["product1/child2"]);
        assert_eq!(gateway_of(&catalog, "child1").as_deref(), Some("gw2"));
        assert_eq!(gateway_of(&catalog, "child2").as_deref(), Some("gw1"));
        catalog.remove_device("child1");
        assert_eq!(children(&catalog, "gw1"), ["product2/child1", "product1/child2"]);
        catalog.remove_device("child3");
        catalog.put_device(device("gw1", Some("k")));
        assert_eq!(children(&catalog, "gw1"), [""; 0]);
        assert_eq!(gateway_of(&catalog, "child1"), None);
        assert_eq!(gateway_of(&catalog, "gw1").as_deref(), Some("-"));
        assert!(catalog.bound.is_empty() && catalog.listed.is_empty());
    }

    #[test]
    fn a_products_secret_counts_where_it_is_allowed_and_its_change_ends_those_who_use_it() {
        let records = || [device("device1", None), device("device2", Some("own"))];
        let mut catalog = of(true, records(), [product(Some("pk"))]);
        assert_eq!(found(&catalog, "device1").expected().secure_key, "pk");
        assert_eq!(found(&catalog, "device2").expected().secure_key, "own");
        assert_eq!(names(catalog.put_product(product(Some("pk")))), [""; 0]);
        assert_eq!(names(catalog.put_product(product(Some("other")))), ["device1"]);
        assert_eq!(names(catalog.put_device(device("device1", Some("other")))), [""; 0]);
        assert_eq!(names(catalog.put_device(device("device1", None))), [""; 0]);
        assert_eq!(names(catalog.remove_product(&product(None).id)), ["device1"]);
        let without = of(false, records(), [product(Some("pk"))]);
        assert_eq!(found(&without, "device1").credentials, None);
    }

    #[test]
    fn the_next_catalog_ends_what_it_does_not_permit() {
        let before = of(false, ["same", "rekeyed", "gone"].map(|id| device(id, Some("k"))), []);
        let after = of(false, [device("same", Some("k")), device("rekeyed", Some("x")), device("new", None)], []);
        assert_eq!(names(before.ended_by(&after)), ["gone", "rekeyed"]);
    }
}
