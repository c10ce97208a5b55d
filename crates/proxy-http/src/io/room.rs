//! Memory for bytes that may have to be encrypted.

use bytes::{Buf, BytesMut};

/// How far behind the beginning of their memory such bytes begin.
///
/// rustls copies what it encrypts to the sixth byte of other memory. What is large is given memory that begins with a page.
/// If both do, each load of that copy is from where, but for the page, a store has just gone, and the processor waits to see
/// whether it is the same place: 16 KiB take 4.6 µs in place of 0.2. A line of the cache apart, it does not.
pub(crate) const APART: usize = 64;

/// Sees to it that so many more bytes fit behind those that are there, in memory anew where there are none.
pub(crate) fn make_room(bytes: &mut BytesMut, ask: usize) {
    if bytes.is_empty() && !bytes.try_reclaim(ask) {
        *bytes = room(ask);
    } else {
        bytes.reserve(ask);
    }
}

/// Room for at least so many bytes.
pub(crate) fn room(ask: usize) -> BytesMut {
    let mut room = BytesMut::with_capacity(APART + ask);
    room.resize(APART, 0);
    room.advance(APART);
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_room_behind_what_nobody_sees() {
        for ask in [0, 1, 8 * 1024, 64 * 1024] {
            let mut room = room(ask);
            let begin = room.as_ptr();
            assert!(room.is_empty() && room.capacity() >= ask);
            room.resize(ask, b'x');
            assert_eq!((room.as_ptr(), room.freeze()), (begin, vec![b'x'; ask].into()), "it stays where it was");
        }
    }
}
