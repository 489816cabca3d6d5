//! The settings of all sources in one tree.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Origin;

/// A value as a source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A TOML text.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array.
    List(Vec<Value>),
    /// What the environment or `--set` said; the key decides its type.
    Raw(String),
    /// A TOML value that no key takes: float, date, table within an array.
    Other(String),
}

/// A value, where it came from, and how many sources it has beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
    pub(super) layer: usize,
}

/// A key or a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(Setting),
    Table(Table),
}

/// The keys of a section.
pub(super) type Table = BTreeMap<String, Node>;

impl Node {
    /// Where the key, or the first key of the section, was set.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Node::Leaf(setting) => Some(&setting.origin),
            Node::Table(table) => table.values().find_map(Node::origin),
        }
    }
}

/// Sets one key. What stands at the same name, or at a part of it, gives way. `path` is not empty.
///
/// `nats.stream` is the name of the stream and the section of its settings at once; as a name it becomes
/// `nats.stream.name`, so that both can be set.
pub(super) fn insert(table: &mut Table, path: &[&str], setting: Setting) {
    match path {
        ["nats", "stream"] => place(table, &["nats", "stream", "name"], setting),
        _ => place(table, path, setting),
    }
}

fn place(table: &mut Table, path: &[&str], setting: Setting) {
    match path {
        [] => {}
        [name] => {
            table.insert((*name).to_owned(), Node::Leaf(setting));
        }
        [name, rest @ ..] => {
            let node = table.entry((*name).to_owned()).or_insert_with(|| Node::Table(Table::new()));
            if let Node::Leaf(_) = node {
                *node = Node::Table(Table::new());
            }
            if let Node::Table(inner) = node {
                place(inner, rest, setting);
            }
        }
    }
}

/// The node at a dotted name.
pub(super) fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Node> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (node, None) => Some(node),
        (Node::Table(inner), Some(rest)) => find(inner, rest),
        (Node::Leaf(_), Some(_)) => None,
    }
}

/// Sets every key of a parsed TOML text. A quoted name with dots in it is the same as nested tables, so that
/// `"sasl.password"` in one file and `sasl.password` in another are one key. `origin` gets the offset in the text.
pub(super) fn insert_toml(table: &mut Table, parsed: &DeTable<'_>, layer: usize, origin: &dyn Fn(usize) -> Origin) {
    fn walk(
        table: &mut Table,
        path: &mut Vec<String>,
        parsed: &DeTable<'_>,
        layer: usize,
        origin: &dyn Fn(usize) -> Origin,
    ) {
        for (name, value) in parsed.iter() {
            let depth = path.len();
            path.extend(name.get_ref().split('.').map(str::to_owned));
            match value.get_ref() {
                DeValue::Table(inner) => walk(table, path, inner, layer, origin),
                _ => {
                    let setting = Setting { value: convert(value), origin: origin(name.span().start), layer };
                    insert(table, &path.iter().map(String::as_str).collect::<Vec<_>>(), setting);
                }
            }
            path.truncate(depth);
        }
    }
    walk(table, &mut Vec::new(), parsed, layer, origin);
}

/// A TOML value without its place.
pub(super) fn convert(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other(number.as_str().to_owned()),
        },
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Array(items) => Value::List(items.iter().map(convert).collect()),
        DeValue::Float(number) => Value::Other(number.as_str().to_owned()),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Table(_) => Value::Other("a table".to_owned()),
    }
}
