//! Bytes of a peer as a CoAP message.

use jetlinks_bridge::codec::coap::{MessageBuilder, decode};

/// Holds what was read to the bytes that it was read of, and to what is written from it.
pub fn check(data: &[u8]) {
    let Ok(message) = decode(data) else { return };
    assert_eq!(data[0] >> 6, 1, "another version was taken");
    assert_eq!(message.id(), u16::from_be_bytes([data[2], data[3]]));
    assert_eq!(message.token().as_bytes(), &data[4..4 + usize::from(data[0] & 15)]);
    assert!(data.ends_with(message.payload()));
    let numbers: Vec<u16> = message.options().map(|(number, _)| number).collect();
    assert!(numbers.is_sorted(), "options are out of order");
    let mut draft = MessageBuilder::new(message.kind(), message.code(), message.id(), message.token());
    for (number, value) in message.options() {
        draft = draft.option(number, value);
    }
    let again = decode(&draft.payload(message.payload()).encode()).expect("what is written can be read");
    assert_eq!((again.kind(), again.code(), again.id()), (message.kind(), message.code(), message.id()));
    assert!(again.options().eq(message.options()));
    assert_eq!(again.payload(), message.payload());
    assert_eq!(again.path().ok(), message.path().ok());
}
