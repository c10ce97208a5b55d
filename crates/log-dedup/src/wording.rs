//! The texts by which an event is counted, as its fields bring them.

use crate::keys::{Key, RouteOf};
use crate::spelled::MOST_BYTES;
use ahash::RandomState;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

/// What an event says of its kind, reason and route: one text behind the other, in the order in which they came, and a word
/// that says where each is. So events that say the same in the same order are found again by one hash and one comparison.
pub(crate) struct Wording {
    /// The place of each part among the bytes.
    places: u64,
    bytes: [u8; PARTS * MOST_BYTES],
    end: usize,
    /// Where the part that is being written has to end.
    most: usize,
}

/// The same, kept.
#[derive(Debug)]
pub(crate) struct Kept {
    places: u64,
    bytes: Box<[u8]>,
}

/// What there is a text of.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Kind,
    Reason,
    Route,
}

impl Default for Wording {
    fn default() -> Self {
        Self { places: 0, bytes: [0; PARTS * MOST_BYTES], end: 0, most: 0 }
    }
}

impl Wording {
    /// The text of a part; nothing if it was not written.
    pub(crate) fn text(&self, part: Part) -> &[u8] {
        &self.bytes[self.range(part)]
    }

    /// Whether there is a text of it.
    pub(crate) fn has(&self, part: Part) -> bool {
        !self.range(part).is_empty()
    }

    /// The route as a text or a number.
    pub(crate) fn route(&self) -> RouteOf<&[u8]> {
        match self.text(Part::Route) {
            [] => RouteOf::None,
            &[a, b, c, d] if self.places & NUMBER != 0 => RouteOf::Number(u32::from_ne_bytes([a, b, c, d])),
            name => RouteOf::Name(name),
        }
    }

    /// Makes a part what `write` writes. What does not fit is cut off.
    pub(crate) fn put(&mut self, part: Part, write: impl FnOnce(&mut Self) -> fmt::Result) {
        let start = self.end;
        self.most = (start + MOST_BYTES).min(self.bytes.len());
        write(self).unwrap_or_default();
        let (shift, place) = (PLACE_BITS * part as u32, start | self.end << 8);
        self.places = self.places & !(PLACE << shift) | (place as u64) << shift;
    }

    /// Makes the route a number.
    pub(crate) fn put_route(&mut self, number: u32) {
        self.put(Part::Route, |wording| {
            let bytes = number.to_ne_bytes();
            wording.has_room(bytes.len()).then(|| wording.push(&bytes)).ok_or(fmt::Error)
        });
        self.places |= NUMBER;
    }

    pub(crate) fn hash(&self, hashes: &RandomState) -> u64 {
        let mut hasher = hashes.build_hasher();
        hasher.write_u64(self.places);
        // The places say how long it is.
        hasher.write(self.bytes());
        hasher.finish()
    }

    pub(crate) fn is(&self, kept: &Kept) -> bool {
        self.places == kept.places && *self.bytes() == *kept.bytes
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept { places: self.places, bytes: self.bytes().into() }
    }

    /// What it is counted as.
    pub(crate) fn key(&self) -> Key {
        Key::of_texts(self.text(Part::Reason), self.route())
    }

    fn range(&self, part: Part) -> Range<usize> {
        let [start, end, ..] = (self.places >> (PLACE_BITS * part as u32)).to_le_bytes();
        usize::from(start)..usize::from(end)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.most - self.end
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }
}

impl Write for Wording {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.has_room(text.len()) {
            self.push(text.as_bytes());
            return Ok(());
        }
        self.push(&text.as_bytes()[..text.floor_char_boundary(self.most - self.end)]);
        Err(fmt::Error)
    }
}

const PARTS: usize = 3;
/// A place is where a part begins, where it ends, and whether it is a number.
const PLACE_BITS: u32 = 20;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
/// That of the route is a number.
const NUMBER: u64 = 1 << (PLACE_BITS * Part::Route as u32 + 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn worded(texts: &[(Part, &str)]) -> Wording {
        let mut wording = Wording::default();
        for (part, text) in texts {
            wording.put(*part, |wording| wording.write_str(text));
        }
        wording
    }

    #[test]
    fn only_what_says_the_same_is_the_same() {
        use Part::{Kind, Reason, Route};
        let mut number = worded(&[(Kind, "a"), (Reason, "b")]);
        number.put_route(u32::from_ne_bytes(*b"shop"));
        let wordings = [
            worded(&[]),
            worded(&[(Kind, "a")]),
            worded(&[(Reason, "a")]),
            worded(&[(Kind, "ab"), (Reason, "c")]),
            worded(&[(Kind, "a"), (Reason, "bc")]),
            worded(&[(Kind, "a"), (Reason, "b"), (Route, "shop")]),
            number,
        ];
        let hashes = RandomState::with_seeds(1, 2, 3, 4);
        for (index, one) in wordings.iter().enumerate() {
            for (other, another) in wordings.iter().enumerate() {
                assert_eq!(one.is(&another.keep()), index == other, "{index} and {other}");
                assert_eq!(one.hash(&hashes) == another.hash(&hashes), index == other, "{index} and {other}");
            }
        }
        assert_eq!(wordings[5].route(), RouteOf::Name(&b"shop"[..]));
        assert_eq!(wordings[6].route(), RouteOf::Number(u32::from_ne_bytes(*b"shop")));
        assert_eq!(wordings[4].text(Reason), b"bc");
        assert!(!wordings[4].has(Route) && wordings[4].has(Reason));
    }

    #[test]
    fn what_does_not_fit_is_cut_between_letters() {
        let long = "ä".repeat(40);
        let one = worded(&[(Part::Kind, &format!("x{long}"))]);
        assert_eq!(one.text(Part::Kind), format!("x{}", &long[..62]).as_bytes());
        let mut wording = worded(&[(Part::Kind, &long), (Part::Reason, &long), (Part::Route, &long)]);
        for part in [Part::Kind, Part::Reason, Part::Route] {
            assert_eq!(wording.text(part), &long.as_bytes()[..64]);
        }
        // There is room for each part once. Whoever repeats one gets no more.
        wording.put(Part::Route, |wording| wording.write_str("shop"));
        assert_eq!(wording.route(), RouteOf::None);
        wording.put_route(7);
        assert_eq!(wording.route(), RouteOf::None);
    }

    #[test]
    fn the_last_of_several_counts() {
        let mut wording = Wording::default();
        wording.put_route(7);
        wording.put(Part::Route, |wording| {
            wording.write_str("sh")?;
            wording.write_str("op")
        });
        assert_eq!(wording.route(), RouteOf::Name(&b"shop"[..]));
        wording.put_route(7);
        assert_eq!(wording.route(), RouteOf::Number(7));
    }
}
