//! The members of a payload's object, each key once.

use super::decode::key;
use crate::protocol::json::{JsonError, Member, scan};

/// Up to this many members each pair is compared; beyond, they are sorted.
const PAIRS_MAX: usize = 16;

/// The members of the payload's object in their order; of equal keys (after their escapes) the last stays.
///
/// # Errors
/// As [`scan`].
pub(crate) fn last_of_each(payload: &[u8]) -> Result<Vec<Member<'_>>, JsonError> {
    let mut members: Vec<Member<'_>> = Vec::with_capacity(8);
    let mut escaped = false;
    scan(payload, |member| {
        escaped |= member.key_escaped;
        members.push(member);
    })?;
    if members.len() <= PAIRS_MAX && !escaped {
        let twice =
            |(index, member): (usize, &Member<'_>)| members[..index].iter().any(|other| other.key == member.key);
        if !members.iter().enumerate().any(twice) {
            return Ok(members);
        }
    }
    let keys: Vec<_> = members.iter().map(key).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by(|a, b| keys[*a].cmp(&keys[*b]).then(a.cmp(b)));
    let mut last = vec![true; members.len()];
    for pair in order.windows(2) {
        if keys[pair[0]] == keys[pair[1]] {
            last[pair[0]] = false;
        }
    }
    let mut last = last.into_iter();
    members.retain(|_| last.next().unwrap_or(true));
    Ok(members)
}
