//! The command line of `send`.

use std::time::Duration;

use clap::Args;

use crate::config::parse;
use crate::protocol::id::{DeviceId, IdError, ProductId};
use crate::protocol::topic::MessageType;

/// Sends a command to a device, waits for its outcome and prints it
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = crate::cli::examples::SEND)]
pub struct SendArgs {
    /// The command as JSON, with messageType, productId and deviceId; with --device its fields alone (the bytes for
    /// direct). The text itself, @FILE, or - for stdin
    #[arg(value_name = "JSON|@FILE|-", required_unless_present = "device", allow_hyphen_values = true)]
    pub command: Option<String>,

    /// The device, or a child behind its gateway
    #[arg(long, value_name = "PRODUCT/DEVICE[/CHILD[/CHILD]]", value_parser = parse_address, requires = "message_type")]
    pub device: Option<DeviceAddress>,

    /// Kind of command: a message type (READ_PROPERTY) or the end of its topic (properties.read, properties/read)
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type, requires = "device")]
    pub message_type: Option<MessageType>,

    /// How long the device may take to answer; without it as the command says, else commands.timeout
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// A device as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Product of the connected device.
    pub product: ProductId,
    /// The connected device.
    pub device: DeviceId,
    /// The children below it, from the gateway's own to the one that is meant.
    pub children: Vec<DeviceId>,
}

/// Reads `product1/device1`, or `product1/gw1/child1` for a child.
pub fn parse_address(text: &str) -> Result<DeviceAddress, String> {
    let mut parts = text.split('/');
    let (Some(product), Some(device)) = (parts.next(), parts.next()) else {
        return Err("expected PRODUCT/DEVICE".to_owned());
    };
    let ids = || -> Result<_, IdError> {
        let children = parts.map(DeviceId::new).collect::<Result<_, _>>()?;
        Ok(DeviceAddress { product: ProductId::new(product)?, device: DeviceId::new(device)?, children })
    };
    ids().map_err(|error| error.to_string())
}

/// Reads the kind of a command.
pub fn parse_type(text: &str) -> Result<MessageType, String> {
    let named = MessageType::from_name(text).filter(|message_type| message_type.goes_down());
    named.or_else(|| MessageType::from_dotted_down(&text.replace('/', "."))).ok_or_else(|| {
        let all: Vec<&str> = MessageType::all().filter(|one| one.goes_down()).map(MessageType::dotted).collect();
        format!("expected one of {}", all.join(", "))
    })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    parse::duration(text).filter(|duration| !duration.is_zero()).ok_or_else(|| format!("expected {}", parse::DURATION))
}
