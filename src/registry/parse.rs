//! Records in TOML, read piece by piece and checked as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::fields::{Field, Fields, Members};
use super::mistake::{RecordError, RecordMistake};
use super::pieces::pieces;
use super::product_ids::ProductIds;
use super::records::{Numbered, Records};
use super::{Device, Product};
use crate::protocol::id::{DeviceId, ProductId};

/// Reads a file of records: those without a mistake, and the mistakes of the others. `part` says whether the file may
/// leave out products that the registry has.
pub(super) fn read(text: &str, product_secrets: bool, part: Part) -> Records {
    let mut file = File::new(text, product_secrets);
    let mut has_keys = false;
    for (start, piece) in pieces(text) {
        file.base = start;
        let (parsed, errors) = DeTable::parse_recoverable(piece);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            file.add("", offset, RecordError::Syntax(error.message().trim().to_owned()));
        }
        let root = parsed.get_ref();
        has_keys |= !root.is_empty();
        file.read(root);
    }
    file.base = 0;
    // What a full disk or a stray redirection leaves of a file must not end every session.
    if part == Part::Whole && !has_keys && file.mistakes.is_empty() {
        file.add("", 0, RecordError::Empty);
    }
    file.finish(part)
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
    product_secrets: bool,
    /// Where the piece begins that offsets are relative to.
    base: usize,
    devices: Vec<Numbered<Arc<Device>>>,
    products: Vec<Numbered<Product>>,
    /// Mistakes, with the place of the record that each is in.
    mistakes: Vec<(usize, RecordMistake)>,
    /// Where each device and product begins.
    device_offsets: HashMap<DeviceId, usize>,
    product_offsets: HashMap<ProductId, usize>,
    product_ids: ProductIds,
    with_secret: HashSet<ProductId>,
    /// Devices without anything that lets them speak, unless it is their product; where each begins.
    without_secret: HashMap<DeviceId, (usize, ProductId)>,
    /// Records so far, for the names of those without an id.
    device_count: usize,
    product_count: usize,
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
    fn new(text: &str, product_secrets: bool) -> Self {
        Self {
            lines: Lines::of(text),
            product_secrets,
            base: 0,
            devices: Vec::new(),
            products: Vec::new(),
            mistakes: Vec::new(),
            device_offsets: HashMap::new(),
            product_offsets: HashMap::new(),
            product_ids: ProductIds::default(),
            with_secret: HashSet::new(),
            without_secret: HashMap::new(),
            device_count: 0,
            product_count: 0,
        }
    }

    /// Notes a mistake at an offset that belongs to no record.
    fn add(&mut self, record: &str, offset: usize, error: RecordError) {
        let offset = self.base + offset;
        let mistake = RecordMistake { record: record.to_owned(), line: self.lines.number(offset), error };
        self.mistakes.push((offset, mistake));
    }

    /// Notes the mistakes in a record.
    fn report(&mut self, record: &Record<'_>, mistakes: Vec<(usize, RecordError)>) {
        for (offset, error) in mistakes {
            let line = self.lines.number(self.base + offset);
            let mistake = RecordMistake { record: record.name(), line, error };
            self.mistakes.push((self.base + record.offset, mistake));
        }
    }

    fn read(&mut self, root: &DeTable<'_>) {
        for (key, _) in root.iter() {
            if !matches!(key.get_ref().as_ref(), "device" | "product") {
                self.add("", key.span().start, RecordError::UnknownKey(key.get_ref().to_string()));
            }
        }
        for record in self.records(root, "product") {
            self.product(&record);
        }
        for record in self.records(root, "device") {
            self.device(&record);
        }
    }

    fn product(&mut self, record: &Record<'_>) {
        let mut fields = Fields::new(record.table, record.offset, Some(&["id", "secure_id", "secure_key"]));
        let id = fields.id("id", ProductId::new);
        let credentials = fields.credentials("secure_id", "secure_key");
        let offset = self.base + record.offset;
        if let Some(id) = id {
            if let Some(first) = self.product_offsets.insert(id.clone(), offset) {
                fields.add(RecordError::Duplicate(self.lines.number(first)));
            }
            if credentials.is_some() {
                self.with_secret.insert(id.clone());
            }
            if fields.mistakes.is_empty() {
                self.products.push(Numbered { line: self.lines.number(offset), record: Product { id, credentials } });
            }
        }
        self.report(record, fields.mistakes);
    }

    fn device(&mut self, record: &Record<'_>) {
        let known = ["id", "product", "secure_id", "secure_key", "gateway", "enabled"];
        let mut fields = Fields::new(record.table, record.offset, Some(&known));
        let id = fields.id("id", DeviceId::new);
        let product = fields.id("product", ProductId::new);
        let gateway = fields.optional_id("gateway", DeviceId::new);
        let credentials = fields.credentials("secure_id", "secure_key");
        let enabled = fields.flag("enabled", true);
        let offset = self.base + record.offset;
        if let (Some(id), Some(product)) = (id, product) {
            if gateway.as_ref() == Some(&id) {
                fields.add(RecordError::OwnGateway);
            }
            let has_own = record.table.contains_key("secure_id") || record.table.contains_key("secure_key");
            match self.device_offsets.get(&id) {
                Some(first) => fields.add(RecordError::Duplicate(self.lines.number(*first))),
                None => {
                    self.device_offsets.insert(id.clone(), offset);
                    if gateway.is_none() && !has_own {
                        self.without_secret.insert(id.clone(), (offset, product.clone()));
                    }
                }
            }
            if fields.mistakes.is_empty() {
                let mut device = Device { id, product, credentials, enabled, gateway, children: Box::default() };
                self.product_ids.share_all(&mut device);
                self.devices.push(Numbered { line: self.lines.number(offset), record: Arc::new(device) });
            }
        }
        self.report(record, fields.mistakes);
    }

    fn finish(mut self, part: Part) -> Records {
        // A secret that does not count is no mistake: it may count elsewhere.
        if !(self.product_secrets && part == Part::Some) {
            let Self { devices, mistakes, with_secret, without_secret, lines, .. } = &mut self;
            without_secret.retain(|_, (_, product)| !with_secret.contains(product));
            for (id, (offset, _)) in without_secret.iter() {
                let (record, line) = (format!("device {id:?}"), lines.number(*offset));
                mistakes.push((*offset, RecordMistake { record, line, error: RecordError::NoSecret }));
            }
            devices.retain(|device| !without_secret.contains_key(&device.record.id));
        }
        self.mistakes.sort_by_key(|(offset, _)| *offset);
        let mut mistakes: Vec<_> = self.mistakes.into_iter().map(|(_, mistake)| mistake).collect();
        // What is left of a file after a mistake of syntax may be anything.
        let is_syntax = |mistake: &RecordMistake| matches!(mistake.error, RecordError::Syntax(_));
        if mistakes.iter().any(is_syntax) {
            mistakes.retain(is_syntax);
            return Records { mistakes, ..Records::default() };
        }
        Records { devices: self.devices, products: self.products, mistakes }
    }

    fn records<'r>(&mut self, root: &'r DeTable<'r>, kind: &'static str) -> Vec<Record<'r>> {
        let Some(value) = root.get(kind) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let expected = if kind == "device" { "written as [[device]]" } else { "written as [[product]]" };
            self.add("", value.span().start, RecordError::Type(kind, expected));
            return Vec::new();
        };
        let count = if kind == "device" { &mut self.device_count } else { &mut self.product_count };
        let first = *count + 1;
        *count += items.len();
        let mut records = Vec::with_capacity(items.len());
        for (number, item) in (first..).zip(items) {
            match item.get_ref() {
                DeValue::Table(table) => records.push(Record { table, offset: item.span().start, kind, number }),
                _ => self.add(&format!("{kind} #{number}"), item.span().start, RecordError::Type(kind, "a table")),
            }
        }
        records
    }
}

impl Members for DeTable<'_> {
    fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.iter().map(|(key, _)| (key.get_ref().as_ref(), key.span().start))
    }

    fn field(&self, key: &str) -> Option<(Field<'_>, usize)> {
        let value = self.get(key)?;
        let field = match value.get_ref() {
            DeValue::String(text) => Field::Text(text),
            DeValue::Boolean(flag) => Field::Flag(*flag),
            _ => Field::Other,
        };
        Some((field, value.span().start))
    }
}

/// Ends of the lines of a text, from which the number of a line is found fast enough for 100,000 mistakes.
struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        Self { ends: memchr::memchr_iter(b'\n', text.as_bytes()).collect() }
    }

    /// The number of the line, from 1, that holds the byte at `offset`.
    fn number(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
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
    fn a_large_file_is_checked_as_a_whole() {
        let record = |number: usize| format!("[[device]]\nid='device{number}'\nproduct='product1'\n{SECRET}");
        let many: String = (1..=10_000).map(record).collect();
        let bare = "[[device]]\nid='bare'\nproduct='product1'\n";
        let end = format!("{bare}{}[[device]]\nproduct='product1'\n", record(1));
        assert_eq!(
            errors(&format!("{many}{end}")),
            [
                "line 50001: device \"bare\": neither a secret nor a gateway: it could never speak",
                "line 50004: device \"device1\": the id stands in line 1 already",
                "line 50009: device #10003: id is missing",
            ]
        );
        // The product of a device may stand in another piece.
        let product = "[[product]]\nid='product1'\nsecure_id='p'\nsecure_key='pk'\n";
        let devices = catalog(&format!("{bare}{many}{product}"), true).unwrap();
        assert_eq!((devices.len(), find(&devices, "bare").expected().secure_id), (10_001, "p"));
        assert_eq!(errors(&format!("{bare}{many}x = y\n")).len(), 1, "a mistake of syntax hides all others");
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

    #[test]
    fn a_line_begins_after_the_end_of_the_one_before() {
        let lines = Lines::of("a\nb\n");
        assert_eq!([0, 1, 2, 3, 4].map(|offset| lines.number(offset)), [1, 1, 2, 2, 3]);
    }
}
