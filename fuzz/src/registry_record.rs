//! Bytes of a service, a bucket or a file as records of a registry.

use jetlinks_bridge::registry::{Records, UnknownMembers, read_device, read_product, write_device, write_product};

/// A record that is accepted is written as it was read; lines of mistakes are lines of the text.
pub fn check(data: &[u8]) {
    for strangers in [UnknownMembers::Tolerated, UnknownMembers::Refused] {
        if let Ok(device) = read_device(data, strangers) {
            assert!(device.credentials.as_ref().is_none_or(|credentials| !credentials.secure_id.contains('|')));
            assert_eq!(read_device(&write_device(&device), UnknownMembers::Refused), Ok(device));
        }
        if let Ok(product) = read_product(data, strangers) {
            assert_eq!(read_product(&write_product(&product), UnknownMembers::Refused), Ok(product));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.matches('\n').count() + 1;
    for product_secrets in [false, true] {
        let records = Records::read(text, product_secrets);
        for mistake in &records.mistakes {
            assert!((1..=lines).contains(&mistake.line), "{mistake}");
        }
        let mut ids: Vec<&str> = records.devices.iter().map(|device| device.record.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), records.devices.len(), "an id stands twice");
    }
}
