//! Late presence that other replicas must hear of, remembered over outages of the server.

use std::collections::VecDeque;

use crate::protocol::id::DeviceId;

/// Sessions that are remembered; of more the oldest is forgotten. 100 bytes each.
const SESSIONS_MAX: usize = 65_536;

/// How long one is remembered after it was said, us: the connection may have been lost before that was noticed.
const REMEMBERED_US: u64 = 60_000_000;

/// Sessions whose `online` came late to the queue.
#[derive(Debug, Default)]
pub struct LateSessions {
    /// Until when each is remembered; for ever while it could not be said. The order is that in which they came.
    sessions: VecDeque<(u64, DeviceId, Box<str>)>,
}

impl LateSessions {
    /// Remembers one, which was said if the server is there.
    pub fn note(&mut self, device: DeviceId, session: Box<str>, is_said: bool, now_us: u64) {
        let until_us = if is_said { now_us + REMEMBERED_US } else { u64::MAX };
        self.sessions.push_back((until_us, device, session));
        while self.sessions.len() > SESSIONS_MAX || self.sessions.front().is_some_and(|&(until, ..)| until < now_us) {
            self.sessions.pop_front();
        }
    }

    /// The server is away: what was said in the last moments may be lost.
    pub fn disconnected(&mut self, now_us: u64) {
        self.sessions.retain(|&(until_us, ..)| until_us >= now_us);
        self.sessions.iter_mut().for_each(|(until_us, ..)| *until_us = u64::MAX);
    }

    /// The server is there again: all that must be said now.
    pub fn republish_all(&mut self, now_us: u64) -> impl Iterator<Item = (DeviceId, Box<str>)> {
        self.sessions.retain(|&(until_us, ..)| until_us >= now_us);
        self.sessions.iter_mut().map(move |(until_us, device, session)| {
            *until_us = now_us + REMEMBERED_US;
            (device.clone(), session.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn device() -> DeviceId {
        DeviceId::new("device1").expect("a valid id")
    }

    fn said(late: &mut LateSessions, now_us: u64) -> Vec<String> {
        late.republish_all(now_us).map(|(_, session)| session.into()).collect()
    }

    #[test]
    fn what_could_not_be_said_or_may_have_been_lost_is_said_when_the_server_is_there_again() {
        let mut late = LateSessions::default();
        late.note(device(), "long ago".into(), true, 0);
        late.note(device(), "just before".into(), true, 50 * S);
        late.disconnected(70 * S);
        late.note(device(), "meanwhile".into(), false, 80 * S);
        assert_eq!(said(&mut late, 7_000 * S), ["just before", "meanwhile"]);
        assert_eq!(said(&mut late, 7_001 * S), ["just before", "meanwhile"], "the connection was lost unnoticed");
        assert_eq!(said(&mut late, 7_062 * S), Vec::<String>::new());
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let mut late = LateSessions::default();
        for number in 0..=SESSIONS_MAX {
            late.note(device(), number.to_string().into(), false, 0);
        }
        assert_eq!(late.sessions.len(), SESSIONS_MAX);
        assert_eq!(said(&mut late, 0)[0], "1", "the oldest is forgotten");
    }
}
