//! The records of a text.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::json::{self, UnknownMembers};
use super::mistake::{RecordError, RecordMistake, RecordMistakes};
use super::parse::{self, Part};
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
    /// Reads records that are to be added to a registry: TOML as in the file of a registry, or one JSON object a line,
    /// each a device. Which of the two it is shows the first character.
    pub fn read(text: &str, product_secrets: bool) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with('{') {
            Self::read_lines(text, product_secrets)
        } else {
            parse::read(text, product_secrets, Part::Some)
        }
    }

    fn read_lines(text: &str, product_secrets: bool) -> Self {
        let mut records = Self::default();
        let mut lines: HashMap<DeviceId, usize> = HashMap::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let device = match json::read_device(text.as_bytes(), UnknownMembers::Refused) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
                "line 6: no JSON: EOF while parsing an object at line 1 column 15",
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
