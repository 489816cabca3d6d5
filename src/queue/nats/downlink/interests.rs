//! Which session has the commands of which subject.

use bytes::Bytes;

use crate::protocol::keyed::KeyedMap;
use crate::protocol::uplink::SlotId;

/// The interests of one worker: at most one session per subject, so that a command is delivered once although an older
/// and a newer session of a device may overlap; the newer one has it.
#[derive(Debug, Default)]
pub(super) struct Interests {
    by_subject: KeyedMap<Bytes, Interest>,
    by_session: KeyedMap<SlotId, Declaration>,
    /// Interests whose subscription the server has refused.
    refused: usize,
}

#[derive(Debug)]
struct Interest {
    session: SlotId,
    /// Number of its subscription.
    subscription: Option<u64>,
    is_confirmed: bool,
    refusal: SubscriptionRefusal,
}

/// Whether the server refuses the subscription of an interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubscriptionRefusal {
    /// Nothing is known of it.
    None,
    /// It has said so.
    Refused,
    /// It had said so, and was asked again; what it says comes before the barrier behind the question.
    AskedAgain,
}

/// The subjects of one session: its own, and those of its children.
#[derive(Debug, Default)]
struct Declaration {
    subjects: Vec<Bytes>,
    unconfirmed: usize,
}

/// The server's answer to a subscription, as far as its barrier proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has the subscription.
    Taken,
    /// It has refused it, and the session waits for it.
    Refused,
    /// It has refused it as before; its session was told then.
    RefusedAgain,
}

/// The rest that a declared interest needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// Subjects without a subscription.
    pub(super) missing: Vec<Bytes>,
    /// Everything is in place already, from an earlier session.
    pub(super) is_in_place: bool,
}

impl Interests {
    /// Gives the subjects to this session.
    pub(super) fn declare(&mut self, session: SlotId, subjects: Vec<Bytes>) -> Declared {
        let mut declared = Declared::default();
        let mut unconfirmed = 0;
        for subject in &subjects {
            match self.by_subject.get_mut(subject) {
                Some(interest) => {
                    if interest.session != session {
                        if let Some(older) = self.by_session.get_mut(&interest.session) {
                            older.subjects.retain(|other| other != subject);
                        }
                        interest.session = session;
                    }
                    unconfirmed += usize::from(!interest.is_confirmed);
                }
                None => {
                    let interest = Interest {
                        session,
                        subscription: None,
                        is_confirmed: false,
                        refusal: SubscriptionRefusal::None,
                    };
                    self.by_subject.insert(subject.clone(), interest);
                    declared.missing.push(subject.clone());
                    unconfirmed += 1;
                }
            }
        }
        declared.is_in_place = unconfirmed == 0;
        self.by_session.insert(session, Declaration { subjects, unconfirmed });
        declared
    }

    /// Whether the subject waits for its subscription.
    pub(super) fn needs_subscription(&self, subject: &Bytes) -> bool {
        self.by_subject.get(subject).is_some_and(|interest| interest.subscription.is_none())
    }

    /// Notes the subscription of a subject; gives it back when nobody wants it any more.
    pub(super) fn subscribed(&mut self, subject: &Bytes, subscription: u64) -> Option<u64> {
        match self.by_subject.get_mut(subject) {
            Some(interest) if interest.subscription.is_none() => {
                interest.subscription = Some(subscription);
                None
            }
            _ => Some(subscription),
        }
    }

    /// Notes that the server has the subject. The session that is to be told, if that was the last one it waited for.
    pub(super) fn confirm(&mut self, subject: &Bytes) -> Option<SlotId> {
        let interest = self.by_subject.get_mut(subject)?;
        if std::mem::replace(&mut interest.is_confirmed, true) {
            return None;
        }
        let declaration = self.by_session.get_mut(&interest.session)?;
        declaration.unconfirmed = declaration.unconfirmed.saturating_sub(1);
        (declaration.unconfirmed == 0).then_some(interest.session)
    }

    /// Notes that the server has refused the subscription of a subject, or taken it away.
    pub(super) fn refuse(&mut self, subject: &[u8]) {
        let Some(interest) = self.by_subject.get_mut(subject) else { return };
        if std::mem::replace(&mut interest.refusal, SubscriptionRefusal::Refused) == SubscriptionRefusal::None {
            self.refused += 1;
        }
    }

    /// Takes in that a barrier behind the subscription of a subject came back: without another refusal the server has taken
    /// it. Whether a session waits for it in vain.
    pub(super) fn answer_to(&mut self, subject: &[u8]) -> Answer {
        let Some(interest) = self.by_subject.get_mut(subject) else { return Answer::Taken };
        match interest.refusal {
            SubscriptionRefusal::Refused if interest.is_confirmed => return Answer::RefusedAgain,
            SubscriptionRefusal::Refused => return Answer::Refused,
            SubscriptionRefusal::AskedAgain => {
                interest.refusal = SubscriptionRefusal::None;
                self.refused -= 1;
            }
            SubscriptionRefusal::None => {}
        }
        Answer::Taken
    }

    /// Whether the server was asked again for a subject that it had refused, and has not answered.
    pub(super) fn is_asked_again(&self, subject: &[u8]) -> bool {
        self.by_subject.get(subject).is_some_and(|interest| interest.refusal == SubscriptionRefusal::AskedAgain)
    }

    /// Number of interests whose subscription the server has refused.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// The session that has the subject.
    pub(super) fn session(&self, subject: &[u8]) -> Option<SlotId> {
        self.by_subject.get(subject).map(|interest| interest.session)
    }

    /// Takes the subscriptions of a session, which are to be ended; the subjects need new ones.
    pub(super) fn reassert(&mut self, session: SlotId) -> (Vec<u64>, Vec<Bytes>) {
        let subjects =
            self.by_session.get(&session).map(|declaration| declaration.subjects.clone()).unwrap_or_default();
        let interests = &mut self.by_subject;
        let ended = subjects.iter().filter_map(|subject| interests.get_mut(subject)?.subscription.take()).collect();
        (ended, subjects)
    }

    /// Takes the subscription of a subject that needs another one; `None`: it has none, or nobody wants it any more.
    pub(super) fn renew(&mut self, subject: &Bytes) -> Option<u64> {
        let interest = self.by_subject.get_mut(subject)?;
        let subscription = interest.subscription.take()?;
        if interest.refusal == SubscriptionRefusal::Refused {
            interest.refusal = SubscriptionRefusal::AskedAgain;
        }
        Some(subscription)
    }

    /// Every subject that somebody wants.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &Bytes> {
        self.by_subject.keys()
    }

    /// Withdraws what this session has, not what a newer one took over; the subscriptions that are to be ended.
    pub(super) fn withdraw(&mut self, session: SlotId) -> Vec<u64> {
        let Some(declaration) = self.by_session.remove(&session) else { return Vec::new() };
        let mut ended = Vec::with_capacity(declaration.subjects.len());
        for subject in &declaration.subjects {
            if let Some(interest) = self.by_subject.remove(subject) {
                self.refused -= usize::from(interest.refusal != SubscriptionRefusal::None);
                ended.extend(interest.subscription);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: SlotId = SlotId { index: 1, generation: 0 };
    const NEW: SlotId = SlotId { index: 2, generation: 0 };

    #[test]
    fn a_newer_session_takes_the_subject_over_and_the_older_cannot_withdraw_it() {
        let subject = Bytes::from_static(b"jetlinks.command.product1.device1.>");
        let mut interests = Interests::default();
        assert_eq!(interests.declare(OLD, vec![subject.clone()]).missing, std::slice::from_ref(&subject));
        assert!(interests.needs_subscription(&subject));
        assert_eq!(interests.subscribed(&subject, 1), None);
        assert!(!interests.needs_subscription(&subject));
        assert_eq!(interests.declare(NEW, vec![subject.clone()]), Declared::default(), "it is under way");
        assert_eq!(interests.confirm(&subject), Some(NEW));
        assert_eq!(interests.confirm(&subject), None);
        assert!(interests.withdraw(OLD).is_empty());
        assert_eq!(interests.session(&subject), Some(NEW));
        assert!(interests.declare(OLD, vec![subject.clone()]).is_in_place);
        assert_eq!(interests.withdraw(OLD), [1]);
        assert_eq!(interests.session(&subject), None);
    }

    #[test]
    fn a_subscription_that_comes_after_the_session_has_gone_is_ended() {
        let subject = Bytes::from_static(b"jetlinks.command.product1.device1.>");
        let mut interests = Interests::default();
        interests.declare(OLD, vec![subject.clone()]);
        assert!(interests.withdraw(OLD).is_empty());
        assert_eq!(interests.subscribed(&subject, 1), Some(1));
        assert_eq!(interests.confirm(&subject), None);
    }

    #[test]
    fn an_interest_counts_as_refused_until_it_is_taken_or_nobody_wants_it_any_more() {
        let subjects = [Bytes::from_static(b"gw1"), Bytes::from_static(b"child1")];
        let mut interests = Interests::default();
        interests.declare(OLD, subjects.to_vec());
        for subject in [&subjects[0], &subjects[0], &subjects[1]] {
            interests.refuse(subject);
        }
        interests.refuse(b"gw9");
        assert_eq!(interests.refused(), 2);
        assert_eq!(interests.answer_to(b"gw1"), Answer::Refused);
        interests.confirm(&subjects[0]);
        assert_eq!(interests.subscribed(&subjects[0], 1), None);
        assert_eq!(interests.renew(&subjects[0]), Some(1));
        interests.refuse(b"gw1");
        assert_eq!((interests.answer_to(b"gw1"), interests.refused()), (Answer::RefusedAgain, 2));
        assert_eq!(interests.subscribed(&subjects[0], 2), None);
        assert_eq!((interests.renew(&subjects[0]), interests.refused()), (Some(2), 2), "until the server has answered");
        assert!(interests.is_asked_again(b"gw1") && !interests.is_asked_again(b"child1"));
        assert_eq!((interests.answer_to(b"gw1"), interests.refused()), (Answer::Taken, 1));
        interests.withdraw(OLD);
        assert_eq!(interests.refused(), 0);
    }

    #[test]
    fn a_gateway_is_told_once_when_its_subjects_and_those_of_its_children_are_in_place() {
        let subjects = [Bytes::from_static(b"gw1"), Bytes::from_static(b"child1")];
        let mut interests = Interests::default();
        assert_eq!(interests.declare(OLD, subjects.to_vec()).missing, subjects);
        assert_eq!(interests.confirm(&subjects[1]), None);
        assert_eq!(interests.confirm(&subjects[0]), Some(OLD));
        interests.withdraw(OLD);
        assert!(subjects.iter().all(|subject| interests.session(subject).is_none()));
    }
}
