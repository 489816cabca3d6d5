//! What a listener speaks below MQTT.

use std::sync::Arc;

use crate::transport::port::Way;
use crate::transport::tls::TlsServer;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// TLS, when it does.
    pub tls: Option<TlsServer>,
    /// WebSocket, when it does: the path of the request.
    pub websocket_path: Option<Arc<str>>,
}

impl Door {
    /// How devices come that use it.
    pub fn way(&self) -> Way {
        match (&self.tls, &self.websocket_path) {
            (None, None) => Way::Tcp,
            (Some(_), None) => Way::Tls,
            (None, Some(_)) => Way::WebSocket,
            (Some(_), Some(_)) => Way::WebSocketTls,
        }
    }
}
