//! Functions of OpenSSL for datagrams that the `openssl` crate does not wrap.
//!
//! Every function borrows the stream mutably, so the pointer to its session is valid and nobody else uses the session
//! during the call: OpenSSL asks for no more than that.
#![expect(unsafe_code, reason = "calls into OpenSSL that the crate does not wrap")]

use std::ffi::{c_int, c_long};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslStream;
use openssl_sys::{SSL, SSL_ctrl};

use super::buffer::DatagramBuffer;

/// `DTLS_CTRL_GET_TIMEOUT` of ssl.h.
const GET_TIMEOUT: c_int = 73;

/// `DTLS_CTRL_HANDLE_TIMEOUT` of ssl.h.
const HANDLE_TIMEOUT: c_int = 74;

/// `SSL_CTRL_SET_MAX_CERT_LIST` of ssl.h.
const SET_MAX_CERT_LIST: c_int = 51;

/// `BIO_ADDR` of OpenSSL, behind pointers alone.
#[repr(C)]
struct BioAddress {
    opaque: [u8; 0],
}

unsafe extern "C" {
    fn DTLSv1_listen(ssl: *mut SSL, client: *mut BioAddress) -> c_int;
    fn BIO_ADDR_new() -> *mut BioAddress;
    fn BIO_ADDR_free(address: *mut BioAddress);
    fn SSL_alloc_buffers(ssl: *mut SSL) -> c_int;
    fn SSL_free_buffers(ssl: *mut SSL) -> c_int;
    #[cfg(test)]
    fn SSL_renegotiate(ssl: *mut SSL) -> c_int;
}

/// Takes in a ClientHello that waits in the session's input; whether the handshake goes on behind it. The session must
/// be fresh, and its context must have callbacks for cookies.
pub(super) fn listen(stream: &mut SslStream<DatagramBuffer>) -> bool {
    // SAFETY: BIO_ADDR_new has no precondition; DTLSv1_listen gets a live session (see the module) and a live address,
    // which it only writes to; the address is freed once, and nothing keeps it.
    unsafe {
        let client = BIO_ADDR_new();
        if client.is_null() {
            return false;
        }
        let result = DTLSv1_listen(stream.ssl().as_ptr(), client);
        BIO_ADDR_free(client);
        result == 1
    }
}

/// Bounds the messages of a handshake that a session takes in; OpenSSL takes those of 16 KiB all the same.
pub(super) fn limit_messages(stream: &mut SslStream<DatagramBuffer>, bytes: usize) {
    let bytes = c_long::try_from(bytes).unwrap_or(c_long::MAX);
    // SAFETY: the session is live (see the module), and this command takes a number alone.
    unsafe { SSL_ctrl(stream.ssl().as_ptr(), SET_MAX_CERT_LIST, bytes, ptr::null_mut()) };
}

/// How long until the last flight must be sent again, in us; `None` when nothing is to be sent again.
pub(super) fn timeout_us(stream: &mut SslStream<DatagramBuffer>) -> Option<u64> {
    let mut left = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the session is live (see the module), and this command writes one timeval to its argument.
    let is_set = unsafe { SSL_ctrl(stream.ssl().as_ptr(), GET_TIMEOUT, 0, ptr::from_mut(&mut left).cast()) } == 1;
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    is_set.then(|| part(left.tv_sec).saturating_mul(1_000_000).saturating_add(part(left.tv_usec)))
}

/// Sends the last flight again if its time is over; false when the handshake has failed.
pub(super) fn on_timeout<S>(stream: &mut SslStream<S>) -> bool {
    // SAFETY: the session is live (see the module), and this command takes no argument.
    unsafe { SSL_ctrl(stream.ssl().as_ptr(), HANDLE_TIMEOUT, 0, ptr::null_mut()) >= 0 }
}

/// Frees the buffers of records; false when something is in them. Without [`alloc_buffers`] before it, the next read or
/// write would be on no buffer.
pub(super) fn free_buffers(stream: &mut SslStream<DatagramBuffer>) -> bool {
    // SAFETY: the session is live (see the module); OpenSSL refuses when the buffers are in use.
    unsafe { SSL_free_buffers(stream.ssl().as_ptr()) == 1 }
}

/// Makes the buffers that [`free_buffers`] took; false when there is no memory.
pub(super) fn alloc_buffers(stream: &mut SslStream<DatagramBuffer>) -> bool {
    // SAFETY: the session is live (see the module).
    unsafe { SSL_alloc_buffers(stream.ssl().as_ptr()) == 1 }
}

/// Lets the next handshake of a client's session begin, with datagrams of so many bytes; [`SslStream::do_handshake`] goes
/// on with it.
#[cfg(test)]
pub(super) fn renegotiate<S>(stream: &mut SslStream<S>, mtu: c_long) -> bool {
    /// `SSL_CTRL_SET_MTU` of ssl.h.
    const SET_MTU: c_int = 17;
    // SAFETY: the session is live (see the module), and the command takes a number alone.
    unsafe {
        SSL_ctrl(stream.ssl().as_ptr(), SET_MTU, mtu, ptr::null_mut());
        SSL_renegotiate(stream.ssl().as_ptr()) == 1
    }
}
