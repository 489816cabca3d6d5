//! The report that simulated devices send.

/// Builds reports of one size: `REPORT_PROPERTY` bodies with the run, the connection and the message's number among
/// their properties, and filling up to the size where there is room for it.
#[derive(Debug, Clone)]
pub(super) struct ReportTemplate {
    head_of_properties: String,
    fixed_bytes: usize,
    payload_bytes: usize,
}

/// Values in which reports differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReportFacts {
    /// Number of the message among those of its device, from 1.
    pub n: u64,
    /// Number of the device's connection on which this copy is sent, from 1.
    pub connection: u32,
    /// The message's time, ms since 1970.
    pub timestamp_ms: u64,
}

const BEFORE_ID: &[u8] = b"{\"messageId\":\"";
const BEFORE_TIMESTAMP: &[u8] = b"\",\"timestamp\":";
const BEFORE_N: &[u8] = b",\"n\":";
const BEFORE_FILLING: &[u8] = b",\"filling\":\"";
const AFTER_FILLING: &[u8] = b"\"";
const TAIL: &[u8] = b"}}";

impl ReportTemplate {
    /// Reports of this run with `payload_bytes` bytes, or as many as they need.
    pub(super) fn new(run: &str, payload_bytes: usize) -> Self {
        // What a person looks for comes first.
        let measured = "\"temperature\":21.5,\"humidity\":48,\"battery\":87";
        let head_of_properties = format!(",\"properties\":{{{measured},\"run\":\"{run}\",\"connection\":");
        let fixed_bytes =
            BEFORE_ID.len() + BEFORE_TIMESTAMP.len() + head_of_properties.len() + BEFORE_N.len() + TAIL.len();
        Self { head_of_properties, fixed_bytes, payload_bytes }
    }

    /// Appends one report.
    pub(super) fn append(&self, out: &mut Vec<u8>, facts: ReportFacts) {
        let mut digits = [[0; 20]; 3];
        let [n, connection, timestamp] = &mut digits;
        let n = decimal(facts.n, n);
        let connection = decimal(u64::from(facts.connection), connection);
        let timestamp = decimal(facts.timestamp_ms, timestamp);
        let used = self.fixed_bytes + 2 * n.len() + connection.len() + timestamp.len();
        out.reserve(used.max(self.payload_bytes));
        out.extend_from_slice(BEFORE_ID);
        out.extend_from_slice(n);
        out.extend_from_slice(BEFORE_TIMESTAMP);
        out.extend_from_slice(timestamp);
        out.extend_from_slice(self.head_of_properties.as_bytes());
        out.extend_from_slice(connection);
        out.extend_from_slice(BEFORE_N);
        out.extend_from_slice(n);
        let frame = BEFORE_FILLING.len() + AFTER_FILLING.len();
        if let Some(filling) = self.payload_bytes.checked_sub(used + frame) {
            out.extend_from_slice(BEFORE_FILLING);
            out.resize(out.len() + filling, b'x');
            out.extend_from_slice(AFTER_FILLING);
        }
        out.extend_from_slice(TAIL);
    }
}

/// The digits of a number, in the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "01JDA0Z6W3T2V4X8Y0ABCDEFGH";

    #[test]
    fn a_report_is_json_of_the_size_asked_for() {
        let template = ReportTemplate::new(RUN, 250);
        let mut bytes = Vec::new();
        for n in [1, 9, 10, 999_999, 1_000_000, u64::MAX] {
            bytes.clear();
            template.append(&mut bytes, ReportFacts { n, connection: 3, timestamp_ms: 1_601_196_762_389 });
            assert_eq!(bytes.len(), 250);
            let json: serde_json::Value = serde_json::from_slice(&bytes).expect("a report is JSON");
            assert_eq!(json["messageId"], n.to_string());
            assert_eq!(json["timestamp"], 1_601_196_762_389_u64);
            assert_eq!(json["properties"]["run"], RUN);
            assert_eq!(json["properties"]["n"], n);
            assert_eq!(json["properties"]["connection"], 3);
        }
    }

    #[test]
    fn a_report_without_filling_fits_200_bytes() {
        let mut bytes = Vec::new();
        let facts = ReportFacts { n: 1_000_000, connection: 9, timestamp_ms: 1_601_196_762_389 };
        ReportTemplate::new(RUN, 1).append(&mut bytes, facts);
        assert!(bytes.len() <= 200, "{} bytes", bytes.len());
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }
}
