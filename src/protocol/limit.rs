//! What sessions are held to, and what they hold together.

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
    /// How long a message may wait for the queue before its connection is closed, us.
    pub ack_timeout_us: u64,
    /// Silence after which a connection without keep-alive of its own is closed, us.
    pub keep_alive_max_us: u64,
    /// How long a command waits for its reply unless it says otherwise, ms.
    pub command_timeout_ms: u64,
    /// The longest that a command may ask for, ms.
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

/// What the sessions of one worker hold at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of records on the way to the queue.
    pub held_bytes: usize,
    /// Records on the way to the queue.
    pub held_records: usize,
    /// Commands that wait for an outcome.
    pub commands: usize,
    /// Bytes that are kept of commands which wait.
    pub command_bytes: usize,
    /// Bytes that connections hold half read or half written, beyond what each holds freely.
    pub buffered_bytes: usize,
    /// Bytes of large wills, which stay as long as their sessions.
    pub will_bytes: usize,
}

impl Load {
    /// Whether a command that keeps so many bytes may wait.
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
