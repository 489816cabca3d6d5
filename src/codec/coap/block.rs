//! The value of Block1 and Block2.

/// Which piece of a body a message carries (RFC 7959 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Number of the block, below 2^20.
    pub number: u32,
    /// Whether more follow.
    pub more: bool,
    /// The block's size is 2 to the power of this plus 4; at most 6.
    pub size_exponent: u8,
}

/// The size exponent 7, which is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedSize;

impl Block {
    /// Largest number of a block.
    pub const NUMBER_MAX: u32 = (1 << 20) - 1;

    /// Reads the option's value, at most three bytes.
    ///
    /// # Errors
    /// [`ReservedSize`]: the message must be answered 4.00.
    pub fn from_uint(value: u32) -> Result<Self, ReservedSize> {
        let size_exponent = (value & 7) as u8;
        if size_exponent == 7 {
            return Err(ReservedSize);
        }
        Ok(Self { number: value >> 4 & Self::NUMBER_MAX, more: value & 8 != 0, size_exponent })
    }

    /// The option's value.
    pub fn to_uint(self) -> u32 {
        (self.number & Self::NUMBER_MAX) << 4 | u32::from(self.more) << 3 | u32::from(self.size_exponent & 7)
    }

    /// Bytes of a block; the last one may be shorter.
    pub fn bytes(self) -> usize {
        16 << self.size_exponent.min(6)
    }

    /// Offset of the block in the body.
    pub fn offset(self) -> usize {
        self.number as usize * self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_its_value_up_to_the_largest_number() {
        for number in [0, 1, 15, 16, 4095, 4096, 5000, Block::NUMBER_MAX] {
            for more in [false, true] {
                for size_exponent in 0..7 {
                    let block = Block { number, more, size_exponent };
                    assert_eq!(Block::from_uint(block.to_uint()), Ok(block));
                    assert!(block.to_uint() < 1 << 24);
                }
            }
        }
        assert_eq!(Block::from_uint(7), Err(ReservedSize));
    }

    #[test]
    fn offset_and_size_follow_from_the_exponent() {
        let block = Block { number: 3, more: true, size_exponent: 6 };
        assert_eq!((block.bytes(), block.offset()), (1024, 3072));
        assert_eq!(Block { size_exponent: 0, ..block }.bytes(), 16);
    }
}
