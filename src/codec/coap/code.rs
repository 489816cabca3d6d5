//! Codes of requests and responses.

use std::fmt;

/// A code: three bits of class, five of detail (RFC 7252 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u8);

impl Code {
    /// 0.00: no request and no answer.
    pub const EMPTY: Code = Code::new(0, 0);
    /// 0.01
    pub const GET: Code = Code::new(0, 1);
    /// 0.02
    pub const POST: Code = Code::new(0, 2);
    /// 0.03
    pub const PUT: Code = Code::new(0, 3);
    /// 2.01
    pub const CREATED: Code = Code::new(2, 1);
    /// 2.05
    pub const CONTENT: Code = Code::new(2, 5);
    /// 2.31: send the next block.
    pub const CONTINUE: Code = Code::new(2, 31);
    /// 4.00
    pub const BAD_REQUEST: Code = Code::new(4, 0);
    /// 4.01
    pub const UNAUTHORIZED: Code = Code::new(4, 1);
    /// 4.02
    pub const BAD_OPTION: Code = Code::new(4, 2);
    /// 4.03
    pub const FORBIDDEN: Code = Code::new(4, 3);
    /// 4.04
    pub const NOT_FOUND: Code = Code::new(4, 4);
    /// 4.05
    pub const METHOD_NOT_ALLOWED: Code = Code::new(4, 5);
    /// 4.06
    pub const NOT_ACCEPTABLE: Code = Code::new(4, 6);
    /// 4.08: a block is missing.
    pub const REQUEST_ENTITY_INCOMPLETE: Code = Code::new(4, 8);
    /// 4.13
    pub const REQUEST_ENTITY_TOO_LARGE: Code = Code::new(4, 13);
    /// 4.15
    pub const UNSUPPORTED_CONTENT_FORMAT: Code = Code::new(4, 15);
    /// 5.03
    pub const SERVICE_UNAVAILABLE: Code = Code::new(5, 3);
    /// 5.05: whoever asks for a proxy finds none.
    pub const PROXYING_NOT_SUPPORTED: Code = Code::new(5, 5);

    /// The code of that class and detail; bits beyond three and five are cut.
    pub const fn new(class: u8, detail: u8) -> Self {
        Self((class & 7) << 5 | detail & 31)
    }

    /// The code of that byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte of the code.
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// Its class: 0 request, 2 success, 4 client error, 5 server error.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// Whether it asks for something.
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.0 & 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_three_bits_of_class_and_five_of_detail() {
        assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE.to_byte(), 0x8d);
        assert_eq!(Code::CONTINUE.to_string(), "2.31");
        assert_eq!(Code::from_byte(0x45), Code::CONTENT);
        assert!(Code::POST.is_request() && !Code::EMPTY.is_request() && !Code::CREATED.is_request());
    }
}
