//! `schema`: the contract for machines. JSON Schemas of envelopes, commands and outcomes come from the tables that the bridge
//! reads and writes by; an AsyncAPI document has the channels, an OpenAPI document the admin API.

mod asyncapi;
mod command;
mod envelope;
mod object;
mod openapi;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::check::EXIT_CONFIGURATION;
use super::examples;
use super::input::configuration;
use crate::config::{Config, Sources};
use crate::protocol::envelope::EnvelopeType;
use crate::protocol::topic::MessageType;

/// Prints JSON Schemas of what the bridge writes and reads, an AsyncAPI and an OpenAPI document
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = examples::SCHEMA)]
pub struct SchemaArgs {
    /// The document, or the kind of it
    #[command(subcommand)]
    pub document: Document,
}

/// A document, or the kind of it.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Document {
    /// Whole envelopes of a type, as in structured mode
    #[command(after_help = examples::SCHEMA_ENVELOPE)]
    Envelope(TypeArgs),
    /// Data of the envelopes of a type, as in binary mode
    #[command(after_help = examples::SCHEMA_DATA)]
    Data(TypeArgs),
    /// Commands with their address, as on Kafka and stdin
    #[command(after_help = examples::SCHEMA_COMMAND)]
    Command(CommandArgs),
    /// Commands on NATS, whose address is the subject
    #[command(after_help = examples::SCHEMA_COMMAND_BODY)]
    CommandBody(CommandArgs),
    /// Outcomes of a command, as whole envelopes
    #[command(after_help = examples::SCHEMA_OUTCOME)]
    Outcome(CommandArgs),
    /// AsyncAPI 3.0: topics, subjects, keys, headers and messages
    #[command(after_help = examples::SCHEMA_ASYNCAPI)]
    Asyncapi,
    /// OpenAPI 3.1: the admin API
    #[command(after_help = examples::SCHEMA_OPENAPI)]
    Openapi,
    /// Every document, a file each
    #[command(after_help = examples::SCHEMA_ALL)]
    All(AllArgs),
}

/// A type of envelopes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct TypeArgs {
    /// The type, such as org.jetlinks.device.event, or its end, such as event; without one the names of all are printed
    #[arg(value_parser = type_end)]
    pub r#type: Option<String>,
}

/// A type of commands.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct CommandArgs {
    /// The messageType; without one the names of all are printed
    #[arg(value_parser = PossibleValuesParser::new(command::all().map(MessageType::name)))]
    pub message_type: Option<String>,
}

/// A folder for all documents.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AllArgs {
    /// The folder, made where it is missing; files there are replaced
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Prints a document to `out`, or writes all of them. Exit code 1 when that fails, 78 when the configuration has mistakes
/// (it gives the names of topics and subjects, and the longest time-out).
pub fn run(args: &SchemaArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    let written = match &args.document {
        Document::All(all) => write_all(&config, &all.output),
        document => out.write_all(print(&config, document).as_bytes()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed as well.
            let _ = writeln!(err, "schema: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(config: &Config, document: &Document) -> String {
    let (folder, name) = match document {
        Document::Envelope(args) => ("envelope", args.r#type.as_deref()),
        Document::Data(args) => ("data", args.r#type.as_deref()),
        Document::Command(args) => ("command", args.message_type.as_deref()),
        Document::CommandBody(args) => ("command-body", args.message_type.as_deref()),
        Document::Outcome(args) => ("outcome", args.message_type.as_deref()),
        Document::Asyncapi => return text(&asyncapi::document(config)),
        Document::Openapi => return text(&openapi::document(timeout_max_ms(config))),
        Document::All(_) => return String::new(),
    };
    let mut documents = of_kind(config, folder);
    match name.and_then(|name| documents.iter().position(|(own, _)| own == name)) {
        Some(index) => text(&documents.swap_remove(index).1),
        None => documents.into_iter().map(|(name, _)| name + "\n").collect(),
    }
}

/// The kinds of schemas, each a folder.
const KINDS: [&str; 5] = ["envelope", "data", "command", "command-body", "outcome"];

/// Name and schema of each document of that kind.
fn of_kind(config: &Config, kind: &str) -> Vec<(String, Value)> {
    let of_types = |schema: fn(EnvelopeType) -> Value| {
        EnvelopeType::all().map(|envelope_type| (envelope_type.end().to_owned(), schema(envelope_type))).collect()
    };
    let longest = timeout_max_ms(config);
    let name = |message_type: MessageType| message_type.name().to_owned();
    match kind {
        "envelope" => of_types(envelope::envelope),
        "data" => of_types(envelope::data),
        "command" => command::all().map(|one| (name(one), command::command(one, longest))).collect(),
        "command-body" => command::all().filter_map(|one| Some((name(one), command::body(one, longest)?))).collect(),
        _ => command::all().map(|one| (name(one), envelope::outcome(one))).collect(),
    }
}

fn timeout_max_ms(config: &Config) -> u64 {
    u64::try_from(config.commands.timeout_max.as_millis()).unwrap_or(u64::MAX)
}

fn write_all(config: &Config, folder: &Path) -> io::Result<()> {
    let write = |file: &Path, document: &Value| {
        fs::write(file, text(document))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
    };
    for kind in KINDS {
        let folder = folder.join(kind);
        fs::create_dir_all(&folder)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
        for (name, schema) in of_kind(config, kind) {
            write(&folder.join(format!("{name}.json")), &schema)?;
        }
    }
    write(&folder.join("asyncapi.json"), &asyncapi::document(config))?;
    write(&folder.join("openapi.json"), &openapi::document(timeout_max_ms(config)))
}

fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

/// The end of a type that is written: the name of its documents.
fn type_end(text: &str) -> Result<String, String> {
    let is_meant = |own: &EnvelopeType| own.end() == text || own.to_string() == text;
    match EnvelopeType::all().find(is_meant) {
        Some(own) => Ok(own.end().to_owned()),
        None => Err("no such type; `jetlinks-bridge schema envelope` prints all".to_owned()),
    }
}
