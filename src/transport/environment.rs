//! The surroundings of a worker's sessions: what each of them is lent with every call.

use std::sync::Arc;

use super::traits::{Meter, Registry};
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::Downlink;
use crate::protocol::envelope::Encoder;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::Uplink;
use crate::session::mqtt::{Context, Event, Observer, SpareBuffers};
use crate::session::step::{Peer, Step};

/// The surroundings that all sessions of one worker share.
pub struct Environment {
    /// Bounds of each session.
    pub limits: Limits,
    /// Memory that the sessions hold together.
    pub load: Load,
    /// Maker of envelopes.
    pub encoder: Encoder,
    /// Destination of records.
    pub uplink: Box<dyn Uplink>,
    /// Destination of outcomes.
    pub downlink: Box<dyn Downlink>,
    /// Source of credentials.
    pub registry: Arc<dyn Registry>,
    /// Counters and log.
    pub meter: Box<dyn Meter>,
    /// The time of the batch of work under way. CoAP ports go by it, so each batch that reaches one sets it first; elsewhere it may
    /// be a tick old.
    pub latest: Now,
    /// Ids of commands that have none.
    pub message_ids: MessageIds,
    /// Buffers that sessions do not need at present.
    pub spare_buffers: SpareBuffers,
}

impl Environment {
    /// Sets the time of the batch of work that begins.
    pub fn set_now(&mut self, now: Now) {
        self.encoder.set_now(now.unix_ms);
        self.latest = now;
    }

    /// Runs `act` with a context for the session of that device; bytes for the device are appended to `send`.
    pub fn with<R>(
        &mut self,
        now: Now,
        device: &str,
        peer: &str,
        send: &mut Vec<u8>,
        act: impl FnOnce(&mut Context<'_>) -> R,
    ) -> R {
        let is_followed = self.meter.is_followed();
        let mut observer = SessionObserver { meter: &mut *self.meter, device, peer };
        let mut ctx = Context {
            now,
            limits: &self.limits,
            load: &mut self.load,
            encoder: &mut self.encoder,
            uplink: &mut *self.uplink,
            downlink: &mut *self.downlink,
            children: &*self.registry,
            observer: &mut observer,
            is_followed,
            send,
            message_ids: &mut self.message_ids,
            spare_buffers: &mut self.spare_buffers,
        };
        act(&mut ctx)
    }

    /// Runs `act` with a context that belongs to no session.
    pub fn without_session(&mut self, now: Now, act: impl FnOnce(&mut Context<'_>)) {
        self.with(now, "", "", &mut Vec::new(), act);
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

    fn step(&mut self, step: &Step<'_>) {
        self.meter.step(Peer::Text(self.peer), step);
    }
}
