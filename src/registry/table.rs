//! Devices as CSV: a header with the names of the columns, one device a line, an empty field for what there is not.

use csv::{ReaderBuilder, StringRecord, Trim};
use serde_json::{Map, Value};

use super::Device;
use super::json::{self, UnknownMembers};
use super::mistake::{RecordError, RecordMistake};

/// Characters that may stand between columns.
const DELIMITERS: [u8; 3] = *b",;\t";

/// Names of columns that the members of a JSON record do not have, and those that they have.
const OTHER_NAMES: [(&str, &str); 2] = [("secure_id", "secureId"), ("secure_key", "secureKey")];

/// Columns that a device has.
const COLUMNS: [&str; 6] = ["id", "product", "secureId", "secureKey", "enabled", "gateway"];

/// A text that is such a table.
pub(super) struct Table {
    text: String,
    delimiter: u8,
    header: Vec<String>,
}

impl Table {
    /// The text as a table. `None`: its first line is no header.
    pub(super) fn find(text: &str) -> Option<Self> {
        let first = text.lines().find(|line| !line.trim().is_empty())?;
        // TOML begins otherwise.
        if first.contains('=') || first.trim_start().starts_with(['#', '[']) {
            return None;
        }
        let delimiter = DELIMITERS.into_iter().find(|delimiter| first.as_bytes().contains(delimiter))?;
        let name = |name: &str| {
            let known = OTHER_NAMES.iter().find(|(other, _)| *other == name);
            known.map_or(name, |(_, own)| own).to_owned()
        };
        // The parser counts lines that end in two characters one late.
        let text = text.replace("\r\n", "\n");
        let header = rows(&text, delimiter).next()?.ok()?.iter().map(name).collect();
        Some(Self { text, delimiter, header })
    }

    /// Columns that no device has.
    pub(super) fn mistakes_of_header(&self) -> Vec<RecordMistake> {
        let unknown = self.header.iter().filter(|name| !COLUMNS.contains(&name.as_str()));
        let mistake = |name: &String| RecordMistake {
            record: String::new(),
            line: 1,
            error: RecordError::UnknownKey(name.clone()),
        };
        unknown.map(mistake).collect()
    }

    /// The devices, each with the line that it begins in.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, Result<Device, Vec<RecordError>>)> {
        rows(&self.text, self.delimiter).skip(1).map(|row| match row {
            Ok(row) => (line(row.position()), self.device(&row)),
            Err(error) => (line(error.position()), Err(vec![RecordError::Csv(error.to_string())])),
        })
    }

    fn device(&self, row: &StringRecord) -> Result<Device, Vec<RecordError>> {
        if row.len() != self.header.len() {
            let text = format!("{} fields, and the header has {}", row.len(), self.header.len());
            return Err(vec![RecordError::Csv(text)]);
        }
        let fields =
            self.header.iter().zip(row).filter(|(name, field)| !field.is_empty() && COLUMNS.contains(&name.as_str()));
        let member = |(name, field): (&String, &str)| {
            let value = match (name.as_str(), field) {
                ("enabled", "true") => Value::Bool(true),
                ("enabled", "false") => Value::Bool(false),
                _ => Value::from(field),
            };
            (name.clone(), value)
        };
        let object: Map<String, Value> = fields.map(member).collect();
        json::read_device(Value::Object(object).to_string().as_bytes(), UnknownMembers::Refused)
    }
}

fn rows(text: &str, delimiter: u8) -> impl Iterator<Item = Result<StringRecord, csv::Error>> {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true).trim(Trim::All);
    builder.from_reader(text.as_bytes()).into_records()
}

fn line(position: Option<&csv::Position>) -> usize {
    position.map_or(1, |position| usize::try_from(position.line()).unwrap_or(usize::MAX))
}
