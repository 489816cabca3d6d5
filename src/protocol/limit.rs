//! Limits of sessions, and the load that the sessions of a worker cause together.

/// Bounds of one session, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet in bytes whose content is read; up to [`Limits::OVERSIZE_FACTOR`] times that it is rejected,
    /// beyond it the connection is closed.
    pub packet_bytes: usize,
    /// Messages that one connection may have on the way to the queue. Worst case of memory: this times the envelope of
    /// a packet of [`Limits::packet_bytes`], within [`Limits::inflight_bytes`].
    pub inflight_per_connection: usize,
    /// Bytes that the connections of one worker may hold together on the way to the queue.
    pub inflight_bytes: usize,
    /// Time that a message may wait for the queue before its connection is closed, us.
    pub ack_timeout_us: u64,
    /// Silence after which a connection without keep-alive of its own is closed, us.
    pub keep_alive_max_us: u64,
    /// Default time that a command waits for its reply, ms.
    pub command_timeout_ms: u64,
    /// Longest time that a command may ask for, ms.
    pub command_timeout_max_ms: u64,
    /// Commands that may wait for one device.
    pub commands_per_device: usize,
    /// Commands that may wait in one worker.
    pub commands: usize,
}

impl Limits {
    /// A packet this many times over the limit is still taken in, to be rejected in good order.
    pub const OVERSIZE_FACTOR: usize = 4;

    /// Bytes that a connection may hold half read or half written without asking for room; together with its session,
    /// its will and its subscriptions less than 16 KiB.
    pub const FREE_BYTES: usize = 4 * 1024;

    /// Bytes that the connections of one worker may hold together, each beyond [`Limits::FREE_BYTES`], half read or half
    /// written: a quarter of [`Limits::inflight_bytes`], and room for one packet at least.
    pub fn buffered_bytes(&self) -> usize {
        (self.inflight_bytes / 4).max(self.packet_bytes.saturating_add(Self::READ_BYTES))
    }

    /// Bytes that the commands of one worker which wait may hold: an eighth of [`Limits::inflight_bytes`]. A command takes
    /// some 500, a few kilobytes at most.
    pub fn command_bytes(&self) -> usize {
        self.inflight_bytes / 8
    }

    /// Bytes of one read at most.
    pub const READ_BYTES: usize = 64 * 1024;
}

/// Memory that the connections and sessions of one worker hold at this moment. [`Load::takes_more`] bounds the sum of all
/// byte counters by [`Limits::inflight_bytes`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of records that were handed to the queue and are not acknowledged, by [`Record::held_bytes`], and of CoAP
    /// requests that are parked or half received.
    ///
    /// [`Record::held_bytes`]: super::uplink::Record::held_bytes
    pub held_bytes: usize,
    /// Number of records that were handed to the queue and are not acknowledged.
    pub held_records: usize,
    /// Commands that wait for an outcome.
    pub commands: usize,
    /// Bytes of commands that wait for an outcome, with their callers' reply subjects; at most [`Limits::command_bytes`].
    pub command_bytes: usize,
    /// Bytes of packets that connections have read or written in part, of each connection only the bytes beyond
    /// [`Limits::FREE_BYTES`]; at most [`Limits::buffered_bytes`].
    pub buffered_bytes: usize,
    /// Bytes of large wills, which are held as long as their sessions last.
    pub will_bytes: usize,
}

impl Load {
    /// Whether a command that keeps `bytes` may wait.
    pub fn takes_command(&self, bytes: usize, limits: &Limits) -> bool {
        bytes == 0 || self.command_bytes.saturating_add(bytes) <= limits.command_bytes()
    }

    /// Notes that a command does not keep these bytes any more.
    pub fn release_command(&mut self, bytes: usize) {
        self.command_bytes = self.command_bytes.saturating_sub(bytes);
    }

    /// Whether another message may be taken in. What is half read and what waits for devices counts, but never keeps the
    /// last half from the queue.
    pub fn takes_more(&self, limits: &Limits) -> bool {
        let waiting = self.buffered_bytes.saturating_add(self.will_bytes).saturating_add(self.command_bytes);
        let waiting = waiting.min(limits.inflight_bytes / 2);
        self.held_bytes.saturating_add(waiting) < limits.inflight_bytes
    }
}

/// The two clocks of a worker, read once for each batch of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// ms since 1970; may jump.
    pub unix_ms: u64,
    /// us since some moment; never goes back.
    pub us: u64,
}
