//! Where the choices of a history come from: a seed, or bytes that somebody else made up.

/// A source of choices, the same on every machine.
pub(crate) enum Choices {
    /// A small generator of random numbers.
    Seed(u64),
    /// Two bytes a choice, and zeros when they are used up.
    Bytes(std::vec::IntoIter<u8>),
}

impl Choices {
    /// Whether there is nothing left to choose by.
    pub(crate) fn is_used_up(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.len() == 0)
    }

    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ mixed >> 31
            }
            Self::Bytes(bytes) => {
                let mut byte = || u64::from(bytes.next().unwrap_or(0));
                byte() << 8 | byte()
            }
        }
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Bytes for a history: random ones, or a short motif over and over with a slip now and then, which no random history
/// contains.
pub(crate) fn bytes(seed: u64) -> Vec<u8> {
    let mut choices = Choices::Seed(seed);
    let motif = if choices.one_in(2) { 6_000 } else { 2 + choices.below(60) };
    let motif: Vec<u8> = (0..motif).map(|_| choices.next().to_le_bytes()[0]).collect();
    let length = choices.below(6_000);
    let mut bytes: Vec<u8> = motif.iter().copied().cycle().take(length).collect();
    for _ in 0..choices.below(8).min(length) {
        let place = choices.below(length);
        bytes[place] = choices.next().to_le_bytes()[0];
    }
    bytes
}
