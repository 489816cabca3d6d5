//! The records of a text.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::json::{self, UnknownMembers};
use super::mistake::{RecordError, RecordMistake, RecordMistakes};
use super::parse::{self, Part};
use super::table::Table;
use super::{Device, Product};
use crate::protocol::id::DeviceId;

/// A record and the line that it begins in, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered<R> {
    /// The line.
    pub line: usize,
    /// The record.
    pub record: R,
}

/// Records without a mistake, in the order of their text, and the mistakes of all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Devices, each id once.
    pub devices: Vec<Numbered<Arc<Device>>>,
    /// Products, each id once.
    pub products: Vec<Numbered<Product>>,
    /// The mistakes, in the order of the text.
    pub mistakes: Vec<RecordMistake>,
}

impl Records {
    /// Reads records that are to be added to a registry: TOML as in the file of a registry; or devices alone, as JSON objects,
    /// one a line or as a list, or as CSV with a header. Which of them it is shows the beginning.
    pub fn read(text: &str, product_secrets: bool) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        let begin = text.trim_start();
        let is_list = begin.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']']));
        if begin.starts_with('{') {
            let lines = (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty());
            Self::read_objects(lines.map(|(line, text)| (line, read_object(text))), product_secrets)
        } else if is_list {
            match json::items(text) {
                Ok(items) => Self::read_objects(items.map(|(line, text)| (line, read_object(text))), product_secrets),
                Err(mistake) => Self { mistakes: vec![mistake], ..Self::default() },
            }
        } else if let Some(table) = Table::find(text) {
            let mut records = Self::read_objects(table.records(), product_secrets);
            records.mistakes.splice(0..0, table.mistakes_of_header());
            records
        } else {
            parse::read(text, product_secrets, Part::Some)
        }
    }

    /// Devices, each with the line in which it begins.
    fn read_objects(
        objects: impl Iterator<Item = (usize, Result<Device, Vec<RecordError>>)>,
        product_secrets: bool,
    ) -> Self {
        let mut records = Self::default();
        let mut lines: HashMap<DeviceId, usize> = HashMap::new();
        for (line, read) in objects {
            let device = match read {
                Ok(device) => device,
                Err(errors) => {
                    let mistake = |error| RecordMistake { record: String::new(), line, error };
                    records.mistakes.extend(errors.into_iter().map(mistake));
                    continue;
                }
            };
            let first = *lines.entry(device.id.clone()).or_insert(line);
            let error = if first != line {
                Some(RecordError::Duplicate(first))
            } else if device.credentials.is_none() && device.gateway.is_none() && !product_secrets {
                Some(RecordError::NoSecret)
            } else {
                None
            };
            match error {
                Some(error) => {
                    records.mistakes.push(RecordMistake { record: format!("device {:?}", device.id), line, error });
                }
                None => records.devices.push(Numbered { line, record: Arc::new(device) }),
            }
        }
        records
    }

    /// The catalog of the records, when there is no mistake.
    pub(super) fn catalog(self, product_secrets: bool) -> Result<Catalog, RecordMistakes> {
        if !self.mistakes.is_empty() {
            return Err(RecordMistakes(self.mistakes));
        }
        let devices = self.devices.into_iter().map(|device| device.record);
        let products = self.products.into_iter().map(|product| product.record);
        Ok(Catalog::of(product_secrets, devices, products))
    }
}

fn read_object(text: &str) -> Result<Device, Vec<RecordError>> {
    json::read_device(text.as_bytes(), UnknownMembers::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(usize, String)>, Vec<String>) {
        let records = Records::read(text, false);
        let devices = records.devices.iter().map(|device| (device.line, device.record.id.to_string())).collect();
        (devices, records.mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_of_json_is_devices_each_with_the_line_that_it_begins_in() {
        let text =
            "[\n  {\"id\":\"device1\",\"product\":\"p\",\n   \"gateway\":\"gw1\"},\n  {\"id\":\"device2\"},\n 7 ]";
        let (devices, mistakes) = read(text);
        assert_eq!(devices, [(2, "device1".to_owned())]);
        assert_eq!(mistakes, ["line 4: product is missing", "line 5: not a JSON object"]);
        let (devices, mistakes) = read("[{\"id\":\"device1\",\n");
        assert!(devices.is_empty() && mistakes.len() == 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with("line 2: invalid JSON: "), "{mistakes:?}");
        assert_eq!(read("[]"), (vec![], vec![]));
    }

    #[test]
    fn a_table_is_devices_whatever_stands_between_its_columns() {
        let expected = [(2, "device1".to_owned()), (3, "child1".to_owned())];
        for text in [
            "id,product,secure_id,secure_key,gateway,enabled\ndevice1,p,test,\"k,1\",,true\nchild1,p,,,gw1,\n",
            "id;secureKey;product;secureId;gateway\r\n device1 ; k ; p ; test ;\r\nchild1;;p;;gw1\r\n",
            "\u{feff}id\tproduct\tsecure_id\tsecure_key\tgateway\ndevice1\tp\ttest\tk\t\nchild1\tp\t\t\tgw1",
        ] {
            let (devices, mistakes) = read(text);
            assert_eq!((&devices[..], &mistakes[..]), (&expected[..], &[][..]), "{text}");
        }
        let device = &Records::read("id,product,secure_id,secure_key\ndevice1,p,test,\"k,1\"", false).devices[0];
        assert_eq!((device.record.expected().secure_id, device.record.expected().secure_key), ("test", "k,1"));
    }

    #[test]
    fn mistakes_of_a_table_name_line_and_column() {
        let text = "id,product,colour,secure_key,gateway,enabled\n\
                    device1,p,red,,gw1,perhaps\n\
                    a/b,p,,,gw1,\n\
                    device2,p\n\
                    device3,p,,k,,\n";
        let (devices, mistakes) = read(text);
        assert!(devices.is_empty(), "{devices:?}");
        let expected = [
            "line 1: unknown key \"colour\"",
            "line 2: enabled must be true or false",
            "line 3: id: an id must not contain '/'",
            "line 4: invalid CSV: 2 fields, and the header has 6",
            "line 5: secureId and secureKey go together, and neither may be empty",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn lines_of_json_are_devices_and_a_mistake_names_line_and_member() {
        let text = "\u{feff}{\"id\":\"device1\",\"product\":\"p\",\"secureId\":\"a\",\"secureKey\":\"b\"}\r\n\
                    \n\
                    {\"id\":\"device2\",\"product\":\"p\",\"secureId\":\"a\"}\n\
                    {\"id\":\"device1\",\"product\":\"p\",\"gateway\":\"gw1\"}\n\
                    {\"id\":\"device3\",\"product\":\"p\"}\n\
                    {\"id\":\"device4\"\n\
                    {\"id\":\"device5\",\"product\":\"p\",\"gateway\":\"gw1\",\"secure_key\":\"x\"}\n\
                    {\"id\":\"device6\",\"product\":\"p\",\"gateway\":\"gw1\"}";
        let records = Records::read(text, false);
        let ids: Vec<_> = records.devices.iter().map(|device| (device.line, device.record.id.as_str())).collect();
        assert_eq!(ids, [(1, "device1"), (8, "device6")]);
        let mistakes: Vec<_> = records.mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            mistakes,
            [
                "line 3: secureId and secureKey go together, and neither may be empty",
                "line 4: device \"device1\": the id stands in line 1 already",
                "line 5: device \"device3\": neither a secret nor a gateway: it could never speak",
                "line 6: invalid JSON: EOF while parsing an object at line 1 column 15",
                "line 7: unknown key \"secure_key\"",
            ]
        );
        assert_eq!(Records::read("{\"id\":\"device3\",\"product\":\"p\"}", true).mistakes, []);
    }

    #[test]
    fn what_does_not_begin_as_json_is_read_as_toml() {
        let records = Records::read("[[device]]\nid='device1'\nproduct='p'\ngateway='gw1'\n", false);
        assert_eq!((records.devices.len(), records.mistakes.len()), (1, 0));
    }
}
