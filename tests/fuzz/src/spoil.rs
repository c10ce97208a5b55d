//! Texts made from others.

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        let rolled = self.roll() % (end.max(1) as u64);
        usize::try_from(rolled).unwrap_or_default()
    }
}

/// Bytes that mean something to one reader or another.
const MARKS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"#",
    b"&",
    b"*",
    b"-",
    b"0",
    b"1",
    b"9",
    b"255",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"-1",
    b"0x",
    b"\xff",
    b"\xc3\xa4",
    b"\x80",
    b"PROXY ",
    b"TCP4",
    b"TCP6",
    b"UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"HTTP/1.1",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"Connection: ",
    b"Upgrade: websocket\r\n",
    b"_",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"\x16\x03\x01",
    b"\x01\0",
    b"\0\0\0",
    b"<<: *a",
    b"&a ",
    b"- ",
    b"[[",
    b"\"\"\"",
    b"routes",
    b"match",
    b"ports",
];

/// As long as a text may become.
const LONGEST: usize = 16 * 1024;

/// A text of the corpus with a few changes.
pub(crate) fn spoilt(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut text = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(text.len() + 1);
        let end = (at + 1 + dice.below(8)).min(text.len());
        match dice.below(8) {
            0 if at < text.len() => text[at] ^= 1 << dice.below(8),
            1 if at < text.len() => text[at] = u8::try_from(dice.below(256)).unwrap_or_default(),
            2 => drop(text.drain(at.min(end)..end)),
            3 => {
                let copy = text[at.min(end)..end].to_vec();
                let copies = 1 + dice.below(3);
                text.splice(at..at, copy.repeat(copies));
            }
            4 => text.truncate(at),
            5 => {
                // The beginning of this one, the end of another.
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                text.truncate(at);
                text.extend_from_slice(&other[from..]);
            }
            _ => drop(text.splice(at..at, MARKS[dice.below(MARKS.len())].iter().copied())),
        }
    }
    text.truncate(LONGEST);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_texts_and_most_are_changed() {
        let corpus = [b"some text".to_vec(), b"and another one".to_vec(), Vec::new()];
        let texts = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000).map(|_| spoilt(&corpus, &mut dice)).collect::<Vec<_>>()
        };
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
        assert!(texts(3).iter().filter(|text| corpus.contains(text)).count() < 200);
    }
}
