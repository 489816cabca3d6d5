//! Bytes of a client as frames of WebSocket.

use jetlinks_bridge::codec::websocket::{Decoder, Failure};

/// All data, the last ping that was whole, and how the stream ends.
type Outcome = (Vec<u8>, Option<Vec<u8>>, Option<Result<(), Failure>>);

/// However reads cut the frames, the same data comes out, the same ping is the last one, and the same end is seen.
pub fn check(data: &[u8]) {
    let whole = take(data, data.len().max(1));
    for piece in [1, 2, 3, 7, 64] {
        let (bytes, ping, end) = take(data, piece);
        assert_eq!((&bytes, &end), (&whole.0, &whole.2), "in pieces of {piece}");
        // A ping that is followed by another one in the same read, whole or not, need not be answered.
        assert!(whole.1.is_none() || ping == whole.1, "in pieces of {piece}");
    }
    assert!(whole.0.len() <= data.len(), "more came out than went in");
}

fn take(data: &[u8], piece: usize) -> Outcome {
    let mut decoder = Decoder::default();
    let (mut bytes, mut ping) = (Vec::new(), None);
    for piece in data.chunks(piece) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece);
        bytes.extend_from_slice(&piece[..decoded.data_bytes]);
        if decoded.has_ping {
            ping = Some(decoder.take_ping());
        }
        if decoded.end.is_some() {
            return (bytes, ping, decoded.end);
        }
    }
    (bytes, ping, None)
}
