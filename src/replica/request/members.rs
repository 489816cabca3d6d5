//! Replicas that were heard of.

use std::collections::HashMap;

/// A replica that was silent for longer is forgotten, us.
const SILENCE_MAX_US: u64 = 60_000_000;

/// Replicas that are remembered; further ones are not waited for.
const MEMBERS_MAX: usize = 1_024;

/// The other replicas.
#[derive(Debug, Default)]
pub struct Members {
    by_id: HashMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    heard_us: u64,
    sheds: bool,
}

impl Members {
    /// Notes that a replica lives, and whether it sheds; the result is whether it was unknown.
    pub fn hear(&mut self, replica: &str, sheds: bool, now_us: u64) -> bool {
        let heard = Member { heard_us: now_us, sheds };
        if let Some(member) = self.by_id.get_mut(replica) {
            *member = heard;
            return false;
        }
        self.retain_live(now_us);
        let has_room = self.by_id.len() < MEMBERS_MAX;
        if has_room {
            self.by_id.insert(replica.to_owned(), heard);
        }
        has_room
    }

    /// Whether one of them sheds.
    pub fn shed(&mut self, now_us: u64) -> bool {
        self.retain_live(now_us);
        self.by_id.values().any(|member| member.sheds)
    }

    /// Forgets a replica: it is ending.
    pub fn forget(&mut self, replica: &str) {
        self.by_id.remove(replica);
    }

    /// Ids of the replicas that were heard of within the last minute, in order.
    pub fn live(&mut self, now_us: u64) -> Vec<String> {
        self.retain_live(now_us);
        let mut live: Vec<String> = self.by_id.keys().cloned().collect();
        live.sort_unstable();
        live
    }

    fn retain_live(&mut self, now_us: u64) {
        self.by_id.retain(|_, member| now_us.saturating_sub(member.heard_us) <= SILENCE_MAX_US);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_remembered_for_a_minute_and_never_too_many() {
        let mut members = Members::default();
        assert!(members.hear("b", true, 0) && members.hear("a", true, 5));
        assert!(!members.hear("b", false, 10));
        assert_eq!([members.shed(SILENCE_MAX_US + 5), members.shed(SILENCE_MAX_US + 6)], [true, false]);
        members.hear("a", false, 5);
        assert_eq!(members.live(SILENCE_MAX_US + 5), ["a", "b"]);
        assert_eq!(members.live(SILENCE_MAX_US + 6), ["b"]);
        assert_eq!(
            (0..MEMBERS_MAX).filter(|number| members.hear(&number.to_string(), false, 20)).count(),
            MEMBERS_MAX - 1
        );
    }
}
