//! Filters of followers.

use std::net::SocketAddr;

use super::envelope::Envelope;
use crate::protocol::address;
use crate::protocol::envelope::EnvelopeType;
use crate::protocol::uplink::Record;
use crate::replica::request::{Filter, Subject};
use crate::session::step::{Action, Peer, Step};

impl Filter {
    /// Whether there are envelopes with that type, or with one that ends so.
    pub fn is_type(kind: &str) -> bool {
        EnvelopeType::all().any(|known| has_type(&known.to_string(), kind))
    }

    /// Whether a step is to be shown. The envelope of the step is read only where nothing else decides.
    pub(super) fn takes(&self, step: &Step<'_>, peer: Peer<'_>, envelope: &mut Option<Envelope>) -> bool {
        match self {
            Filter::Envelopes { product, device, kind } => {
                let Action::Envelope(record) = step.action else { return false };
                if device.as_deref().is_some_and(|device| step.device != device && step.about != device) {
                    return false;
                }
                let is_plain = product.is_none() && kind.is_none();
                is_plain || {
                    let envelope = envelope.get_or_insert_with(|| Envelope::of(record));
                    product.as_deref().is_none_or(|product| envelope.product == product)
                        && kind.as_deref().is_none_or(|kind| has_type(&envelope.kind, kind))
                }
            }
            Filter::Trace(Subject::Device(device)) => {
                step.device == device || step.about == device || is_stored_of(step, device)
            }
            Filter::Trace(Subject::Product(product)) => match step.action {
                Action::Stored { record, .. } if step.product.is_empty() => {
                    envelope.get_or_insert_with(|| Envelope::of(record)).product == *product
                }
                _ => step.product == product,
            },
            Filter::Trace(Subject::Address(ip, port)) => peer
                .address()
                .is_some_and(|peer: SocketAddr| peer.ip() == *ip && port.is_none_or(|port| peer.port() == port)),
        }
    }
}

fn has_type(full: &str, wanted: &str) -> bool {
    full.strip_suffix(wanted).is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

/// Whether a stored envelope is about that child: such a step names its gateway alone, and its envelope is read only where
/// its address names the child.
fn is_stored_of(step: &Step<'_>, device: &str) -> bool {
    let Action::Stored { record, .. } = step.action else { return false };
    names(record, device) && Envelope::of(record).device == device
}

fn names(record: &Record, device: &str) -> bool {
    let token = address::token(device);
    *record.address == *device.as_bytes()
        || record.address.split(|byte| *byte == b'.').any(|part| *part == *token.as_bytes())
}
