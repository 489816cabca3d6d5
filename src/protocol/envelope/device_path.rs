//! The device that an envelope is about, in all forms of address.

use bytes::{BufMut, BytesMut};

use super::Source;
use crate::protocol::address::{write_segment, write_token};

/// A device or, below it, a child.
#[derive(Clone, Copy)]
pub(super) struct DevicePath<'a> {
    pub(super) product: &'a str,
    pub(super) device: &'a str,
    pub(super) children: &'a [&'a str],
    pub(super) about_product: Option<&'a str>,
}

impl<'a> DevicePath<'a> {
    /// The source's own device, or a child below it.
    pub(super) fn of(source: &Source<'a>, children: &'a [&'a str]) -> Self {
        Self { product: source.product, device: source.device, children, about_product: source.about_product }
    }

    /// The id of the device that is meant.
    pub(super) fn about(&self) -> &'a str {
        self.children.last().copied().unwrap_or(self.device)
    }

    /// The URI reference `/p/d` or `/p/g/child/c`.
    pub(super) fn write_source(&self, out: &mut BytesMut) {
        out.put_u8(b'/');
        write_segment(out, self.product);
        out.put_u8(b'/');
        write_segment(out, self.device);
        for child in self.children {
            out.put_slice(b"/child/");
            write_segment(out, child);
        }
    }

    /// The tokens `p.d` or `p.g.child.c` of a subject.
    pub(super) fn write_tokens(&self, out: &mut BytesMut) {
        write_token(out, self.product);
        out.put_u8(b'.');
        write_token(out, self.device);
        for child in self.children {
            out.put_slice(b".child.");
            write_token(out, child);
        }
    }
}
