//! Batches as no producer writes them: changed on the broker's disk, which it does not look at again.

use std::fs;
use std::path::PathBuf;

use super::Kafka;

/// Defect of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoilt {
    /// It says that it is packed with the codec of this number, and its checksum is right: 4 is zstd, which the records are
    /// not packed with; 5 and above are nothing.
    Codec(u8),
    /// Its records are no records, and its checksum is right.
    Records,
}

/// Offsets of fields inside a batch of version 2 (Kafka protocol, Record Batch).
const LENGTH: usize = 8;
const CHECKSUM: usize = 17;
const ATTRIBUTES: usize = 21;
const RECORDS: usize = 61;

impl Kafka {
    /// The file of the first records of a partition.
    pub(crate) fn segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.path().join(format!("data/{topic}-{partition}/00000000000000000000.log"))
    }

    /// Spoils batches while the broker stands, and starts it again; each is named by topic, partition and first offset.
    ///
    /// # Panics
    /// When there is no such batch.
    pub(crate) fn spoil(&mut self, batches: &[(&str, i32, i64, Spoilt)]) {
        self.kill9();
        for &(topic, partition, base, how) in batches {
            let segment = self.segment(topic, partition);
            let mut log = fs::read(&segment).expect("the segment is there");
            spoil(batch(&mut log, base).expect("the batch is there"), how);
            fs::write(&segment, log).expect("the folder takes files");
        }
        self.restart();
    }
}

fn spoil(batch: &mut [u8], how: Spoilt) {
    match how {
        Spoilt::Codec(number) => batch[ATTRIBUTES + 1] = batch[ATTRIBUTES + 1] & !7 | number,
        Spoilt::Records => batch[RECORDS..].fill(0xff),
    }
    let checksum = crc32c(&batch[ATTRIBUTES..]);
    batch[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
}

fn batch(log: &mut [u8], base: i64) -> Option<&mut [u8]> {
    let mut rest = log;
    while rest.len() > ATTRIBUTES {
        let length = i32::from_be_bytes(rest[LENGTH..LENGTH + 4].try_into().ok()?);
        let end = LENGTH + 4 + usize::try_from(length).ok()?;
        if end > rest.len() {
            return None;
        }
        let (batch, behind) = rest.split_at_mut(end);
        if batch[..LENGTH] == base.to_be_bytes() {
            return Some(batch);
        }
        rest = behind;
    }
    None
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}
