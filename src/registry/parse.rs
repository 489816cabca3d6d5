//! Records in TOML, read and checked as a whole.

use std::collections::{HashMap, HashSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lines::Lines;
use super::mistake::{RecordError, RecordMistake};
use super::records::{Numbered, Records};
use super::{Credentials, Device, Product};
use crate::protocol::id::{DeviceId, IdError, ProductId};
use crate::protocol::secret::Secret;

/// Reads a file of records: those without a mistake, and the mistakes of the others. `part` says whether the file may
/// leave out products that the registry has.
pub(super) fn read(text: &str, product_secrets: bool, part: Part) -> Records {
    let mut file = File { lines: Lines::of(text), part, records: Records::default() };
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        file.add("", offset, RecordError::Syntax(error.message().trim().to_owned()));
    }
    // What is left of a file after a mistake of syntax may be anything.
    if file.records.mistakes.is_empty() {
        file.read(parsed.get_ref(), product_secrets);
    }
    file.records
}

/// How much of a registry a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Some of it: the secret of a product may be elsewhere.
    Some,
}

struct File {
    lines: Lines,
    part: Part,
    records: Records,
}

/// A record: a table with a name for messages.
struct Record<'t> {
    table: &'t DeTable<'t>,
    offset: usize,
    kind: &'static str,
    number: usize,
}

impl Record<'_> {
    fn name(&self) -> String {
        match self.table.get("id").map(|id| id.get_ref()) {
            Some(DeValue::String(id)) => format!("{} {id:?}", self.kind),
            _ => format!("{} #{}", self.kind, self.number),
        }
    }
}

impl File {
    fn add(&mut self, record: &str, offset: usize, error: RecordError) {
        let line = self.lines.number(offset);
        self.records.mistakes.push(RecordMistake { record: record.to_owned(), line, error });
    }

    fn read(&mut self, root: &DeTable<'_>, product_secrets: bool) {
        for (key, _) in root.iter() {
            if !matches!(key.get_ref().as_ref(), "device" | "product") {
                self.add("", key.span().start, RecordError::UnknownKey(key.get_ref().to_string()));
            }
        }
        // What a full disk or a stray redirection leaves of a file must not end every session.
        if self.part == Part::Whole && root.is_empty() {
            self.add("", 0, RecordError::Empty);
        }
        let products = self.products(root);
        self.devices(root, product_secrets, &products);
    }

    /// Reads the products; the ids of those with a secret.
    fn products(&mut self, root: &DeTable<'_>) -> HashSet<ProductId> {
        let mut with_secret = HashSet::new();
        let mut lines = HashMap::new();
        for record in self.records(root, "product") {
            let before = self.records.mistakes.len();
            self.check_keys(&record, &["id", "secure_id", "secure_key"]);
            let id = self.id(&record, "id", ProductId::new, true);
            let credentials = self.credentials(&record);
            let Some(id) = id else { continue };
            if let Some(first) = lines.insert(id.clone(), record.offset) {
                self.add(&record.name(), record.offset, RecordError::Duplicate(self.lines.number(first)));
            }
            if credentials.is_some() {
                with_secret.insert(id.clone());
            }
            if self.records.mistakes.len() == before {
                let line = self.lines.number(record.offset);
                self.records.products.push(Numbered { line, record: Product { id, credentials } });
            }
        }
        with_secret
    }

    fn devices(&mut self, root: &DeTable<'_>, product_secrets: bool, products: &HashSet<ProductId>) {
        let mut lines: HashMap<DeviceId, usize> = HashMap::new();
        for record in self.records(root, "device") {
            let before = self.records.mistakes.len();
            self.check_keys(&record, &["id", "product", "secure_id", "secure_key", "gateway", "enabled"]);
            let id = self.id(&record, "id", DeviceId::new, true);
            let product = self.id(&record, "product", ProductId::new, true);
            let gateway = self.id(&record, "gateway", DeviceId::new, false);
            let credentials = self.credentials(&record);
            let enabled = match record.table.get("enabled").map(|value| (value.get_ref(), value.span())) {
                None => true,
                Some((DeValue::Boolean(flag), _)) => *flag,
                Some((_, span)) => {
                    self.add(&record.name(), span.start, RecordError::Type("enabled", "true or false"));
                    true
                }
            };
            let (Some(id), Some(product)) = (id, product) else { continue };
            if gateway.as_ref() == Some(&id) {
                self.add(&record.name(), record.offset, RecordError::OwnGateway);
            }
            let has_own = record.table.contains_key("secure_id") || record.table.contains_key("secure_key");
            // A secret that does not count is no mistake: it may count elsewhere.
            let may_share = products.contains(&product) || (product_secrets && self.part == Part::Some);
            if gateway.is_none() && !has_own && !may_share {
                self.add(&record.name(), record.offset, RecordError::NoSecret);
            }
            if let Some(first) = lines.get(&id) {
                self.add(&record.name(), record.offset, RecordError::Duplicate(self.lines.number(*first)));
            } else {
                lines.insert(id.clone(), record.offset);
            }
            if self.records.mistakes.len() == before {
                let device = Device { id, product, credentials, enabled, gateway, children: Vec::new() };
                let line = self.lines.number(record.offset);
                self.records.devices.push(Numbered { line, record: device });
            }
        }
    }

    fn records<'r>(&mut self, root: &'r DeTable<'r>, kind: &'static str) -> Vec<Record<'r>> {
        let Some(value) = root.get(kind) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let expected = if kind == "device" { "written as [[device]]" } else { "written as [[product]]" };
            self.add("", value.span().start, RecordError::Type(kind, expected));
            return Vec::new();
        };
        let mut records = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    records.push(Record { table, offset: item.span().start, kind, number: at + 1 });
                }
                _ => self.add(&format!("{kind} #{}", at + 1), item.span().start, RecordError::Type(kind, "a table")),
            }
        }
        records
    }

    fn check_keys(&mut self, record: &Record<'_>, known: &[&str]) {
        for (key, _) in record.table.iter() {
            if !known.contains(&key.get_ref().as_ref()) {
                self.add(&record.name(), key.span().start, RecordError::UnknownKey(key.get_ref().to_string()));
            }
        }
    }

    fn text<'r>(&mut self, record: &Record<'r>, key: &'static str) -> Option<(&'r str, usize)> {
        let value: &Spanned<DeValue<'r>> = record.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.as_ref(), value.span().start)),
            _ => {
                self.add(&record.name(), value.span().start, RecordError::Type(key, "a text in quotes"));
                None
            }
        }
    }

    fn id<I>(
        &mut self,
        record: &Record<'_>,
        key: &'static str,
        make: fn(&str) -> Result<I, IdError>,
        is_required: bool,
    ) -> Option<I> {
        if !record.table.contains_key(key) {
            if is_required {
                self.add(&record.name(), record.offset, RecordError::Missing(key));
            }
            return None;
        }
        let (text, offset) = self.text(record, key)?;
        match make(text) {
            Ok(id) => Some(id),
            Err(error) => {
                self.add(&record.name(), offset, RecordError::Id(key, error));
                None
            }
        }
    }

    fn credentials(&mut self, record: &Record<'_>) -> Option<Credentials> {
        let has = |key| record.table.contains_key(key);
        if !has("secure_id") && !has("secure_key") {
            return None;
        }
        let mistakes = self.records.mistakes.len();
        let secure_id = self.text(record, "secure_id").map(|(text, _)| text);
        let secure_key = self.text(record, "secure_key").map(|(text, _)| text);
        match (secure_id, secure_key) {
            (Some(secure_id), Some(secure_key)) if !secure_id.is_empty() && !secure_key.is_empty() => {
                if secure_id.contains('|') {
                    self.add(&record.name(), record.offset, RecordError::SecureId("secure_id"));
                    return None;
                }
                Some(Credentials { secure_id: secure_id.to_owned(), secure_key: Secret::new(secure_key) })
            }
            _ => {
                // A value of a wrong type was reported already.
                if self.records.mistakes.len() == mistakes {
                    let error = RecordError::HalfSecret("secure_id", "secure_key");
                    self.add(&record.name(), record.offset, error);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::catalog::Catalog;
    use crate::registry::{Lookup, RecordMistakes};

    fn catalog(text: &str, product_secrets: bool) -> Result<Catalog, RecordMistakes> {
        read(text, product_secrets, Part::Whole).catalog(product_secrets)
    }

    fn errors(text: &str) -> Vec<String> {
        catalog(text, false).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    fn find(catalog: &Catalog, id: &str) -> std::sync::Arc<Device> {
        match catalog.device(id) {
            Lookup::Found(device) => device,
            other => panic!("{other:?}"),
        }
    }

    const SECRET: &str = "secure_id = 'test'\nsecure_key = 'testtesttesttest'\n";

    #[test]
    fn a_record_is_read_with_its_defaults() {
        let text = format!("[[device]]\nid = 'device1'\nproduct = 'product1'\n{SECRET}");
        let device = find(&catalog(&text, false).unwrap(), "device1");
        assert_eq!((device.product.as_str(), device.enabled, &device.gateway), ("product1", true, &None));
        let expected = device.expected();
        assert_eq!((expected.secure_id, expected.secure_key), ("test", "testtesttesttest"));
    }

    #[test]
    fn a_gateway_knows_its_enabled_children() {
        let text = format!(
            "[[device]]\nid='gw1'\nproduct='product1'\n{SECRET}\
             [[device]]\nid='child2'\nproduct='product2'\ngateway='gw1'\n\
             [[device]]\nid='child1'\nproduct='product2'\ngateway='gw1'\n\
             [[device]]\nid='child3'\nproduct='product2'\ngateway='gw1'\nenabled=false\n"
        );
        let catalog = catalog(&text, false).unwrap();
        let gateway = find(&catalog, "gw1");
        let children: Vec<&str> = gateway.children.iter().map(|child| child.id.as_str()).collect();
        assert_eq!(children, ["child1", "child2"]);
        assert_eq!(find(&catalog, "child1").expected().secure_key, "");
    }

    #[test]
    fn a_products_secret_counts_only_when_it_is_allowed_and_the_device_has_none() {
        let text = "[[product]]\nid='product1'\nsecure_id='p'\nsecure_key='pk'\n\
                    [[device]]\nid='device1'\nproduct='product1'\n\
                    [[device]]\nid='device2'\nproduct='product1'\nsecure_id='own'\nsecure_key='ok'\n";
        let devices = catalog(text, true).unwrap();
        assert_eq!(find(&devices, "device1").expected().secure_id, "p");
        assert_eq!(find(&devices, "device2").expected().secure_id, "own");
        let devices = catalog(text, false).unwrap();
        assert_eq!(find(&devices, "device1").credentials, None);
        assert_eq!(find(&devices, "device2").expected().secure_id, "own");
    }

    #[test]
    fn every_mistake_is_reported_with_its_line_and_record() {
        let text = "extra = 1\n\
                    [[device]]\nid = 'device1'\nproduct = 'product1'\nsecure_id = 'test'\n\
                    [[device]]\nid = 'device1'\nproduct = 'product1'\ngateway = 'gw1'\ncolour = 'red'\n\
                    [[device]]\nid = 'a/b'\nproduct = 5\nenabled = 'yes'\n\
                    [[device]]\nproduct = 'product1'\n\
                    [[device]]\nid = 'device5'\nproduct = 'product1'\n\
                    [[device]]\nid = 'gw1'\nproduct = 'product1'\ngateway = 'gw1'\nsecure_id = 'a|b'\nsecure_key = 'k'\n";
        assert_eq!(
            errors(text),
            [
                "line 1: unknown key \"extra\"",
                "line 2: device \"device1\": secure_id and secure_key go together, and neither may be empty",
                "line 10: device \"device1\": unknown key \"colour\"",
                "line 6: device \"device1\": the id stands in line 2 already",
                "line 12: device \"a/b\": id: an id must not contain '/'",
                "line 13: device \"a/b\": product must be a text in quotes",
                "line 14: device \"a/b\": enabled must be true or false",
                "line 15: device #4: id is missing",
                "line 17: device \"device5\": neither a secret nor a gateway: it could never speak",
                "line 20: device \"gw1\": secure_id must not contain |",
                "line 20: device \"gw1\": a device is not its own gateway",
            ]
        );
    }

    #[test]
    fn a_mistake_never_shows_a_secret() {
        let text = "[[device]]\nid='device1'\nproduct='product1'\nsecure_id='test'\nsecure_key='hush-hush' x\n";
        let shown = errors(text).join("\n");
        assert!(shown.contains("line 5") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_file_without_devices_is_a_mistake_unless_it_says_so() {
        const MISTAKE: &str = "line 1: no device and no product; where there shall be none, write device = []";
        for text in ["", "\n\n", "# devices of the plant\n"] {
            assert_eq!(errors(text), [MISTAKE], "{text:?}");
            assert_eq!(read(text, false, Part::Some).mistakes, [], "{text:?}");
        }
        for text in ["device = []", "# none yet\nproduct = []\n"] {
            assert_eq!(catalog(text, false).map(|devices| devices.len()), Ok(0), "{text:?}");
        }
    }

    #[test]
    fn records_without_a_mistake_are_read_beside_those_that_have_one() {
        let good = "[[device]]\nid='device1'\nproduct='product1'\nsecure_id='a'\nsecure_key='b'\n";
        let text = format!("{good}[[device]]\nid='device2'\nproduct='product1'\nsecure_id='a'\n{good}");
        let records = read(&text, false, Part::Whole);
        let ids: Vec<_> = records.devices.iter().map(|device| (device.line, device.record.id.as_str())).collect();
        assert_eq!((ids, records.mistakes.len()), (vec![(1, "device1")], 2));
    }

    #[test]
    fn a_part_of_a_registry_may_leave_the_secret_of_a_product_out() {
        let text = "[[device]]\nid='device1'\nproduct='product1'\n";
        assert_eq!(read(text, true, Part::Some).mistakes, []);
        assert_eq!(read(text, true, Part::Whole).mistakes.len(), 1);
        assert_eq!(read(text, false, Part::Some).mistakes.len(), 1);
    }
}
