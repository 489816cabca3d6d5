//! The message types of the JetLinks official protocol.

/// A JetLinks message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Up, `properties/report`.
    ReportProperty,
    /// Down, `properties/read`.
    ReadProperty,
    /// Up, `properties/read/reply`.
    ReadPropertyReply,
    /// Down, `properties/write`.
    WriteProperty,
    /// Up, `properties/write/reply`.
    WritePropertyReply,
    /// Down, `function/invoke`.
    InvokeFunction,
    /// Up, `function/invoke/reply`.
    InvokeFunctionReply,
    /// Up, `event/{eventId}`.
    Event,
    /// Up, `register`.
    Register,
    /// Up, `unregister`.
    Unregister,
    /// Up, `online` or `connected`.
    Online,
    /// Up, `offline`, `disconnect` or `disconnected`.
    Offline,
    /// Up, `tags`.
    UpdateTag,
    /// Up, `log`.
    Log,
    /// Up and down, `direct`.
    Direct,
    /// Up, `metadata/derived`.
    DerivedMetadata,
    /// Down, `firmware/upgrade`.
    UpgradeFirmware,
    /// Up, `firmware/upgrade/reply`.
    UpgradeFirmwareReply,
    /// Up, `firmware/upgrade/progress`.
    UpgradeFirmwareProgress,
    /// Up, `firmware/pull`.
    RequestFirmware,
    /// Down, `firmware/pull/reply`.
    RequestFirmwareReply,
    /// Up, `firmware/report`.
    ReportFirmware,
    /// Down, `firmware/read`.
    ReadFirmware,
    /// Up, `firmware/read/reply`.
    ReadFirmwareReply,
    /// Down, `disconnect`.
    Disconnect,
    /// Up, `disconnect/reply`.
    DisconnectReply,
    /// Down, `state-check`.
    StateCheck,
    /// Up, `state-check/reply`.
    StateCheckReply,
    /// Up, `collector/report`.
    ReportCollector,
    /// Down, `collector/read`.
    ReadCollectorData,
    /// Up, `collector/read/reply`.
    ReadCollectorDataReply,
    /// Down, `collector/write`.
    WriteCollectorData,
    /// Up, `collector/write/reply`.
    WriteCollectorDataReply,
    /// On no topic: the outcome of a command that has no reply of its own.
    Acknowledge,
}

/// Which way a type travels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
    Both,
    Neither,
}

use Direction::{Both, Down, Neither, Up};
use MessageType as T;

/// One row per type: type, JetLinks' name, canonical suffix, suffix with dots, direction.
const TABLE: [(MessageType, &str, &str, &str, Direction); 34] = [
    (T::ReportProperty, "REPORT_PROPERTY", "properties/report", "properties.report", Up),
    (T::ReadProperty, "READ_PROPERTY", "properties/read", "properties.read", Down),
    (T::ReadPropertyReply, "READ_PROPERTY_REPLY", "properties/read/reply", "properties.read.reply", Up),
    (T::WriteProperty, "WRITE_PROPERTY", "properties/write", "properties.write", Down),
    (T::WritePropertyReply, "WRITE_PROPERTY_REPLY", "properties/write/reply", "properties.write.reply", Up),
    (T::InvokeFunction, "INVOKE_FUNCTION", "function/invoke", "function.invoke", Down),
    (T::InvokeFunctionReply, "INVOKE_FUNCTION_REPLY", "function/invoke/reply", "function.invoke.reply", Up),
    (T::Event, "EVENT", "event", "event", Up),
    (T::Register, "REGISTER", "register", "register", Up),
    (T::Unregister, "UN_REGISTER", "unregister", "unregister", Up),
    (T::Online, "ONLINE", "online", "online", Up),
    (T::Offline, "OFFLINE", "offline", "offline", Up),
    (T::UpdateTag, "UPDATE_TAG", "tags", "tags", Up),
    (T::Log, "LOG", "log", "log", Up),
    (T::Direct, "DIRECT", "direct", "direct", Both),
    (T::DerivedMetadata, "DERIVED_METADATA", "metadata/derived", "metadata.derived", Up),
    (T::UpgradeFirmware, "UPGRADE_FIRMWARE", "firmware/upgrade", "firmware.upgrade", Down),
    (T::UpgradeFirmwareReply, "UPGRADE_FIRMWARE_REPLY", "firmware/upgrade/reply", "firmware.upgrade.reply", Up),
    (
        T::UpgradeFirmwareProgress,
        "UPGRADE_FIRMWARE_PROGRESS",
        "firmware/upgrade/progress",
        "firmware.upgrade.progress",
        Up,
    ),
    (T::RequestFirmware, "REQUEST_FIRMWARE", "firmware/pull", "firmware.pull", Up),
    (T::RequestFirmwareReply, "REQUEST_FIRMWARE_REPLY", "firmware/pull/reply", "firmware.pull.reply", Down),
    (T::ReportFirmware, "REPORT_FIRMWARE", "firmware/report", "firmware.report", Up),
    (T::ReadFirmware, "READ_FIRMWARE", "firmware/read", "firmware.read", Down),
    (T::ReadFirmwareReply, "READ_FIRMWARE_REPLY", "firmware/read/reply", "firmware.read.reply", Up),
    (T::Disconnect, "DISCONNECT", "disconnect", "disconnect", Down),
    (T::DisconnectReply, "DISCONNECT_REPLY", "disconnect/reply", "disconnect.reply", Up),
    (T::StateCheck, "STATE_CHECK", "state-check", "state-check", Down),
    (T::StateCheckReply, "STATE_CHECK_REPLY", "state-check/reply", "state-check.reply", Up),
    (T::ReportCollector, "REPORT_COLLECTOR", "collector/report", "collector.report", Up),
    (T::ReadCollectorData, "READ_COLLECTOR_DATA", "collector/read", "collector.read", Down),
    (T::ReadCollectorDataReply, "READ_COLLECTOR_DATA_REPLY", "collector/read/reply", "collector.read.reply", Up),
    (T::WriteCollectorData, "WRITE_COLLECTOR_DATA", "collector/write", "collector.write", Down),
    (T::WriteCollectorDataReply, "WRITE_COLLECTOR_DATA_REPLY", "collector/write/reply", "collector.write.reply", Up),
    (T::Acknowledge, "ACKNOWLEDGE", "acknowledge", "acknowledge", Neither),
];

impl MessageType {
    /// Every type, in the order of the contract's table.
    pub fn all() -> impl Iterator<Item = MessageType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name that JetLinks gives it, such as `REPORT_PROPERTY`.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Its topic behind product, device and children, such as `properties/report`; never an alias. An event's id
    /// follows as one more segment.
    pub fn suffix(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The suffix with dots, such as `properties.report`: the end of an envelope's `type` and of a NATS subject.
    pub fn dotted(self) -> &'static str {
        TABLE[self as usize].3
    }

    /// The type with that name, whichever way it travels.
    pub fn from_name(name: &str) -> Option<MessageType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The type with that suffix with dots, whichever way it travels.
    pub fn from_dotted(dotted: &str) -> Option<MessageType> {
        TABLE.iter().find(|row| row.3 == dotted).map(|row| row.0)
    }

    /// The type that goes down under that suffix with dots, as the end of a command's subject gives it.
    pub fn from_dotted_down(dotted: &str) -> Option<MessageType> {
        TABLE.iter().find(|row| row.3 == dotted && row.0.goes_down()).map(|row| row.0)
    }

    /// The type of the device's reply; `None` for what has none.
    pub fn reply(self) -> Option<MessageType> {
        match self {
            T::ReadProperty => Some(T::ReadPropertyReply),
            T::WriteProperty => Some(T::WritePropertyReply),
            T::InvokeFunction => Some(T::InvokeFunctionReply),
            T::UpgradeFirmware => Some(T::UpgradeFirmwareReply),
            T::ReadFirmware => Some(T::ReadFirmwareReply),
            T::Disconnect => Some(T::DisconnectReply),
            T::StateCheck => Some(T::StateCheckReply),
            T::ReadCollectorData => Some(T::ReadCollectorDataReply),
            T::WriteCollectorData => Some(T::WriteCollectorDataReply),
            _ => None,
        }
    }

    /// The command that a device answers with this type; besides the replies, progress answers an upgrade.
    pub fn answers(self) -> Option<MessageType> {
        match self {
            T::UpgradeFirmwareProgress => Some(T::UpgradeFirmware),
            _ => TABLE.iter().map(|row| row.0).find(|command| command.reply() == Some(self)),
        }
    }

    /// Whether devices send it.
    pub fn goes_up(self) -> bool {
        matches!(TABLE[self as usize].4, Up | Both)
    }

    /// Whether devices get it.
    pub fn goes_down(self) -> bool {
        matches!(TABLE[self as usize].4, Down | Both)
    }

    /// Whether an empty body stands for `{}`: the topic alone says all that there is to say.
    pub fn allows_empty_body(self) -> bool {
        matches!(self, T::Online | T::Offline | T::Register | T::Unregister | T::RequestFirmware)
    }

    /// Whether it is a reply, in either direction: it carries `success` and `message`.
    pub fn is_reply(self) -> bool {
        matches!(
            self,
            T::ReadPropertyReply
                | T::WritePropertyReply
                | T::InvokeFunctionReply
                | T::UpgradeFirmwareReply
                | T::RequestFirmwareReply
                | T::ReadFirmwareReply
                | T::DisconnectReply
                | T::StateCheckReply
                | T::ReadCollectorDataReply
                | T::WriteCollectorDataReply
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_stands_in_its_own_row_under_its_own_name_and_suffix() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(row.2.replace('/', "."), row.3);
            assert_eq!(MessageType::from_name(row.1), Some(row.0));
            assert_eq!(TABLE.iter().filter(|other| other.2 == row.2).count(), 1, "{}", row.2);
        }
        assert_eq!(MessageType::from_name("report_property"), None);
    }

    #[test]
    fn a_reply_travels_against_its_command_and_under_the_commands_name() {
        for command in MessageType::all() {
            if let Some(reply) = command.reply() {
                assert!(command.goes_down() && reply.goes_up() && reply.is_reply());
                assert_eq!(reply.name(), format!("{}_REPLY", command.name()));
                assert_eq!(reply.suffix(), format!("{}/reply", command.suffix()));
                assert_eq!(reply.answers(), Some(command));
            }
        }
        assert_eq!(T::UpgradeFirmwareProgress.answers(), Some(T::UpgradeFirmware));
        assert_eq!(T::Event.answers(), None);
    }

    #[test]
    fn only_what_goes_down_is_found_behind_a_commands_subject() {
        assert_eq!(MessageType::from_dotted_down("properties.read"), Some(T::ReadProperty));
        assert_eq!(MessageType::from_dotted_down("direct"), Some(T::Direct));
        assert_eq!(MessageType::from_dotted_down("properties.report"), None);
        assert_eq!(MessageType::from_dotted_down("acknowledge"), None);
    }
}
