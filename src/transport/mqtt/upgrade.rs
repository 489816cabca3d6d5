//! A request for a WebSocket, from bytes to the answer (RFC 6455 section 4.2).

use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tungstenite::http::{HeaderValue, StatusCode};

use super::Upgrade;

/// Longest request for a WebSocket, in bytes.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Subprotocols of MQTT 3.1.1 and 3.1 (MQTT-6.0.0-3; the older one is what clients of 3.1 ask for).
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// The answer to what a client sent so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// None yet: it is the beginning of a request.
    Incomplete,
    /// A WebSocket begins behind the request, once the answer is sent.
    Agreed {
        /// Bytes of the request.
        used: usize,
        /// The answer.
        text: Vec<u8>,
    },
    /// No WebSocket begins.
    Refused {
        /// The answer.
        text: Vec<u8>,
    },
}

/// Reads what a client sent, at most [`REQUEST_BYTES_MAX`], as a request for a WebSocket.
pub fn answer(granted: &Upgrade, bytes: &[u8]) -> Answer {
    if bytes.is_empty() {
        return Answer::Incomplete;
    }
    let request = match Request::try_parse(bytes) {
        Ok(Some(request)) => Ok(request),
        Ok(None) if bytes.len() < REQUEST_BYTES_MAX => return Answer::Incomplete,
        Ok(None) => Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => Err(StatusCode::METHOD_NOT_ALLOWED),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    };
    match request.and_then(|(used, request)| Ok((used, agree(granted, &request)?))) {
        Ok((used, response)) => Answer::Agreed { used, text: written(&response) },
        Err(status) => Answer::Refused { text: written(&refusal(status)) },
    }
}

/// Writes an answer. Only headers that are no text cannot be written, and all of them were made here.
fn written(response: &Response) -> Vec<u8> {
    let mut text = Vec::new();
    let is_written = write_response(&mut text, response).is_ok();
    debug_assert!(is_written, "a header is no text");
    text
}

/// The answer to a request, or the status of its refusal.
fn agree(granted: &Upgrade, request: &Request) -> Result<Response, StatusCode> {
    if request.uri().path() != &*granted.path {
        return Err(StatusCode::NOT_FOUND);
    }
    let headers = request.headers();
    if headers.contains_key("Content-Length") || headers.contains_key("Transfer-Encoding") {
        // A proxy that passes a body on would let its bytes be read as frames (RFC 9112, section 11.2).
        return Err(StatusCode::BAD_REQUEST);
    }
    let is_granted = |origin: &HeaderValue| {
        let mut origins = granted.origins.iter();
        origins.len() == 0 || origins.any(|granted| granted.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    };
    if !headers.get_all("Origin").iter().all(is_granted) {
        // RFC 6455, section 4.2.2.
        return Err(StatusCode::FORBIDDEN);
    }
    let mut response = create_response(request).map_err(|error| match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => StatusCode::UPGRADE_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    })?;
    let offered = headers.get_all("Sec-WebSocket-Protocol");
    let offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let chosen = offered.map(str::trim).find_map(|name| SUBPROTOCOLS.iter().find(|&&served| served == name));
    let chosen = chosen.ok_or(StatusCode::BAD_REQUEST)?;
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(chosen));
    Ok(response)
}

fn refusal(status: StatusCode) -> Response {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("Connection", HeaderValue::from_static("close"));
    headers.insert("Content-Length", HeaderValue::from_static("0"));
    match status {
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert("Upgrade", HeaderValue::from_static("websocket"));
            headers.insert("Sec-WebSocket-Version", HeaderValue::from_static("13"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert("Allow", HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    response
}
