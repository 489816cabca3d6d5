//! What the sessions of one worker share.

use std::sync::Arc;

use super::clock::Clock;
use super::port::{Meter, Registry};
use crate::protocol::child::{Child, Children};
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::Downlink;
use crate::protocol::envelope::Encoder;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::Uplink;
use crate::session::mqtt::{Context, Event, Observer};

/// Lent to a session with every call.
pub struct Core {
    /// Bounds of each session.
    pub limits: Limits,
    /// What the sessions hold together.
    pub load: Load,
    /// Makes envelopes.
    pub encoder: Encoder,
    /// Where records go.
    pub uplink: Box<dyn Uplink>,
    /// Where outcomes go.
    pub downlink: Box<dyn Downlink>,
    /// Where credentials come from.
    pub registry: Arc<dyn Registry>,
    /// Counts and logs.
    pub meter: Box<dyn Meter>,
    /// The worker's clocks.
    pub clock: Clock,
    /// The time of the batch of work under way, for what need not be exact: at most a tick old.
    pub latest: Now,
    /// Gives ids to commands that have none.
    pub message_ids: MessageIds,
}

impl Core {
    /// The time at this moment, told to the encoder.
    pub fn now(&mut self) -> Now {
        let now = self.clock.now();
        self.encoder.set_now(now.unix_ms);
        self.latest = now;
        now
    }

    /// Runs `act` with a context for the session of that device; its words for the device are appended to `send`.
    pub fn with<R>(
        &mut self,
        now: Now,
        device: &str,
        peer: &str,
        send: &mut Vec<u8>,
        act: impl FnOnce(&mut Context<'_>) -> R,
    ) -> R {
        let children = RegistryChildren(&*self.registry);
        let mut observer = SessionObserver { meter: &mut *self.meter, device, peer };
        let mut ctx = Context {
            now,
            limits: &self.limits,
            load: &mut self.load,
            encoder: &mut self.encoder,
            uplink: &mut *self.uplink,
            downlink: &mut *self.downlink,
            children: &children,
            observer: &mut observer,
            send,
            message_ids: &mut self.message_ids,
        };
        act(&mut ctx)
    }
}

struct RegistryChildren<'a>(&'a dyn Registry);

impl Children for RegistryChildren<'_> {
    fn child(&self, id: &str) -> Child {
        self.0.child(id)
    }
}

struct SessionObserver<'a> {
    meter: &'a mut dyn Meter,
    device: &'a str,
    peer: &'a str,
}

impl Observer for SessionObserver<'_> {
    fn event(&mut self, event: Event<'_>) {
        self.meter.session(self.device, self.peer, event);
    }
}
