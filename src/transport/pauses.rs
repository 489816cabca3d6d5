//! How long connections are not read.

/// Connections that are not read, and the time of all of them added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    connections: u64,
    since_us: u64,
    total_us: u64,
}

impl Pauses {
    /// Notes how many there are from now on.
    pub fn set(&mut self, connections: usize, now_us: u64) {
        self.total_us += self.connections * now_us.saturating_sub(self.since_us);
        self.since_us = now_us;
        self.connections = connections as u64;
    }

    /// How many there are.
    pub fn connections(self) -> u64 {
        self.connections
    }

    /// Their time until the last [`Pauses::set`], us: two connections for a second are two seconds.
    pub fn total_us(self) -> u64 {
        self.total_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_each_connection_counts() {
        let mut pauses = Pauses::default();
        pauses.set(0, 1_000);
        pauses.set(2, 2_000);
        pauses.set(3, 2_500);
        pauses.set(0, 2_700);
        pauses.set(0, 9_000);
        assert_eq!((pauses.connections(), pauses.total_us()), (0, 2 * 500 + 3 * 200));
    }
}
