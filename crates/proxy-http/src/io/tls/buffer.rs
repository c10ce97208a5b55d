//! Bytes on their way between a socket and a TLS session.

/// The largest that a buffer becomes for records that come: as large as rustls lets a message of the handshake be.
const MOST: usize = 64 * 1024;
/// What it begins with: most requests are a record smaller than this.
const FIRST: usize = 4 * 1024;

/// Bytes that were put in at the end and leave at the front.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// All there is room for.
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Buffer {
    pub(super) const fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Whether it has room without taking memory.
    pub(super) const fn has_memory(&self) -> bool {
        !self.bytes.is_empty()
    }

    pub(super) fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..self.end]
    }

    /// Lets go of bytes at the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.begin += count;
        debug_assert!(self.begin <= self.end, "more than there was");
        if self.is_empty() {
            (self.begin, self.end) = (0, 0);
        }
    }

    /// Takes note of bytes that were put into [`Buffer::room`].
    pub(super) fn put(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len(), "more than there was room for");
    }

    /// Room for reading more, which grows with what does not fit into it; empty if that is more than may be.
    pub(super) fn room(&mut self) -> &mut [u8] {
        // A read should not be cut short for want of a few bytes.
        if self.bytes.len() - self.end <= self.bytes.len() / 4 {
            self.compact();
        }
        if self.bytes.len() - self.end <= self.bytes.len() / 4 && self.bytes.len() < MOST {
            self.bytes.resize((self.bytes.len() * 2).max(FIRST), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Has `write` put bytes behind the others, in room for `ask` of them; it says how many they were, or else how much room
    /// they need.
    pub(super) fn write(&mut self, ask: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
        let mut ask = ask;
        loop {
            if self.bytes.len() - self.end < ask {
                self.compact();
                self.bytes.resize(self.bytes.len().max(self.end + ask), 0);
            }
            match write(&mut self.bytes[self.end..]) {
                Ok(count) => return self.put(count),
                Err(needed) => ask = needed,
            }
        }
    }

    /// Gives back its memory, if it is empty.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn compact(&mut self) {
        if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), begin: 0, end: bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_what_does_not_fit_and_no_further() {
        let mut buffer = Buffer::default();
        let mut rooms = Vec::new();
        loop {
            let room = buffer.room().len();
            if room == 0 {
                break;
            }
            rooms.push(room);
            buffer.put(room);
        }
        assert_eq!(buffer.filled().len(), MOST);
        assert_eq!(rooms[..2], [FIRST, FIRST], "twice as much each time");
        buffer.consume(MOST - 1);
        assert_eq!((buffer.room().len(), buffer.filled().len()), (MOST - 1, 1), "what is left moves to the front");
        buffer.rest();
        assert!(buffer.has_memory(), "it is in use");
        buffer.consume(1);
        buffer.rest();
        assert!(!buffer.has_memory());
    }

    #[test]
    fn what_is_written_comes_behind_the_rest() {
        let mut buffer = Buffer::from(&b"one, "[..]);
        buffer.consume(3);
        buffer.write(0, |room| match room.len() {
            3.. => {
                room[..3].copy_from_slice(b"two");
                Ok(3)
            }
            _ => Err(3),
        });
        assert_eq!(buffer.filled(), b", two");
    }
}
