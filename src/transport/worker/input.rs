//! From bytes to packets: many packets of one read, and packets that no read holds whole.

use crate::codec::mqtt;
use crate::protocol::limit::Limits;
use crate::session::mqtt::{Context, Ending, Session};
use crate::transport::turn::TURN_BYTES;

/// A PUBLISH over the limit, of which only the head is kept.
#[derive(Debug)]
pub struct Oversize {
    first_byte: u8,
    /// Topic and packet id.
    head: Vec<u8>,
    /// Bytes of the payload that are still to come, and to be thrown away.
    skip: usize,
}

impl Oversize {
    /// Bytes that it keeps.
    pub fn held_bytes(&self) -> usize {
        self.head.len()
    }
}

/// Packets taken in at once, before other connections get their turn.
const PACKETS_PER_TURN: usize = 256;

/// Numbers of bytes that were taken in, and that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// How many were taken.
    pub used: usize,
    /// How many the packet at the front of the others needs before it can be taken in; 0 when that is not known yet.
    pub needed: usize,
    /// Whether there is more to take, when others have had their turn.
    pub is_cut: bool,
}

/// The beginning of the next bytes.
enum Next {
    /// Nothing whole; what is there must grow to so many bytes, if that is known.
    Incomplete(usize),
    /// A packet: its first byte, where its body begins, where it ends.
    Packet(u8, usize, usize),
    /// The head of a packet whose payload is thrown away; so many bytes were taken.
    Oversize(Oversize, usize),
    /// Nothing that can be taken.
    Broken,
}

/// Feeds the packets at the front of `bytes` to the session, as long as it wants input, others need not wait long, and
/// the answers are no more than a device may leave unread.
pub fn feed(bytes: &[u8], oversize: &mut Option<Box<Oversize>>, session: &mut Session, ctx: &mut Context<'_>) -> Fed {
    let answers_max = match ctx.load.buffered_bytes + Limits::READ_BYTES <= ctx.limits.buffered_bytes() {
        true => Limits::READ_BYTES,
        false => Limits::FREE_BYTES,
    };
    let mut used = 0;
    let mut needed = 0;
    let mut packets = 0;
    let mut is_cut = false;
    while session.wants_input(ctx.limits, ctx.load) {
        if packets == PACKETS_PER_TURN || used >= TURN_BYTES || ctx.send.len() >= answers_max {
            is_cut = true;
            break;
        }
        packets += 1;
        let rest = &bytes[used..];
        if let Some(large) = oversize {
            let skipped = large.skip.min(rest.len());
            large.skip -= skipped;
            used += skipped;
            if large.skip > 0 {
                break;
            }
            match mqtt::publish_head(session.version(), large.first_byte, &large.head) {
                Ok((head, _)) => session.publish(&head, None, ctx),
                Err(_) => session.end(Ending::ProtocolError, ctx),
            }
            *oversize = None;
            continue;
        }
        match next(rest, ctx.limits) {
            Next::Incomplete(bytes) => {
                needed = bytes;
                break;
            }
            Next::Packet(first_byte, body, end) => {
                match mqtt::decode(session.version(), first_byte, &rest[body..end]) {
                    Ok(packet) => session.packet(packet, ctx),
                    Err(_) => session.end(Ending::ProtocolError, ctx),
                }
                used += end;
            }
            Next::Oversize(large, taken) => {
                *oversize = Some(Box::new(large));
                used += taken;
            }
            Next::Broken => session.end(Ending::ProtocolError, ctx),
        }
    }
    Fed { used, needed, is_cut }
}

fn next(bytes: &[u8], limits: &Limits) -> Next {
    let frame = match mqtt::frame(bytes) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Next::Incomplete(0),
        Err(_) => return Next::Broken,
    };
    if frame.total_bytes() <= limits.packet_bytes {
        return if bytes.len() < frame.total_bytes() {
            Next::Incomplete(frame.total_bytes())
        } else {
            Next::Packet(frame.first_byte, frame.header_bytes, frame.total_bytes())
        };
    }
    if !frame.is_publish() || frame.total_bytes() > limits.packet_bytes.saturating_mul(Limits::OVERSIZE_FACTOR) {
        return Next::Broken;
    }
    let body = &bytes[frame.header_bytes..];
    let Some(topic_bytes) = body.first_chunk::<2>() else { return Next::Incomplete(0) };
    // Length and text of the topic, and room for a packet id.
    let head_bytes = (2 + usize::from(u16::from_be_bytes(*topic_bytes)) + 2).min(frame.body_bytes);
    let Some(head) = body.get(..head_bytes) else { return Next::Incomplete(frame.header_bytes + head_bytes) };
    let skip = frame.body_bytes - head_bytes;
    Next::Oversize(
        Oversize { first_byte: frame.first_byte, head: head.to_vec(), skip },
        frame.header_bytes + head_bytes,
    )
}

/// Answers and removes the PINGREQs among the packets that a full window leaves unread: the device must not take a slow
/// queue for a dead bridge.
pub fn answer_pings(input: &mut Vec<u8>, session: &mut Session, ctx: &mut Context<'_>) {
    let mut kept = 0;
    let mut at = 0;
    while let Ok(Some(frame)) = mqtt::frame(&input[at..]) {
        let end = at + frame.total_bytes();
        if end > input.len() {
            break;
        }
        if input[at..end] == mqtt::encode::PINGREQ {
            session.ping(ctx);
        } else {
            input.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    if kept < at {
        input.drain(kept..at);
    }
}
