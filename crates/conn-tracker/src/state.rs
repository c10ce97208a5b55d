//! All that a hold knows but keys and routes, in one word: an admission writes it once, and a release reads it once.

use crate::{ClientKey, Reason, Slots};

/// Flags, [`Slots`], the family of a key and perhaps a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u32);

/// The lowest bits are those of [`Slots`].
const SLOTS: u32 = 0xff;
const V4: u32 = 1 << 8;
const V6: u32 = 1 << 9;
const FAMILY: u32 = V4 | V6;
/// The highest are one more than the index of a reason, or 0.
const REASON_SHIFT: u32 = 24;
const REASON: u32 = u32::MAX << REASON_SHIFT;

impl State {
    pub(crate) const VACANT: Self = Self(0);
    /// There is something to give back.
    pub(crate) const OPEN: u32 = 1 << 10;
    /// There are bindings.
    pub(crate) const BOUND: u32 = 1 << 11;
    /// A limit would have refused it.
    pub(crate) const OVER: u32 = 1 << 12;

    /// The bits of a client's key, and the state of a hold on `slots` for it.
    #[inline]
    pub(crate) const fn open(client: Option<ClientKey>, slots: Slots) -> (u64, Self) {
        let (bits, family) = split(client);
        (bits, Self(Self::OPEN | slots.bits() as u32 | family))
    }

    #[inline]
    pub(crate) const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u32) {
        self.0 |= flag;
    }

    pub(crate) const fn unset(&mut self, flag: u32) {
        self.0 &= !flag;
    }

    #[inline]
    pub(crate) const fn slots(self) -> Slots {
        Slots::from_bits(self.0 as u8)
    }

    pub(crate) const fn set_slots(&mut self, slots: Slots) {
        self.0 = self.0 & !SLOTS | slots.bits() as u32;
    }

    /// The client whose key has these bits, if there is one.
    #[inline]
    pub(crate) const fn client(self, bits: u64) -> Option<ClientKey> {
        match self.0 & FAMILY {
            V4 => Some(ClientKey::V4(bits as u32)),
            V6 => Some(ClientKey::V6(bits)),
            _ => None,
        }
    }

    /// Answers the bits of its key.
    pub(crate) const fn set_client(&mut self, client: Option<ClientKey>) -> u64 {
        let (bits, family) = split(client);
        self.0 = self.0 & !FAMILY | family;
        bits
    }

    /// [`State::client`] of a connection with one slot of the process, one of the client and none of a route. Whether it has one of
    /// those who wait for a route does not matter.
    #[inline]
    pub(crate) const fn unbound_client(self, bits: u64) -> Option<ClientKey> {
        const ADMITTED: u32 = Slots::GLOBAL.with(Slots::CLIENT).bits() as u32;
        const ADMITTED_V4: u32 = ADMITTED | V4;
        const ADMITTED_V6: u32 = ADMITTED | V6;
        let looked_at = FAMILY | SLOTS & !(Slots::PENDING.bits() as u32) | Self::BOUND;
        match self.0 & looked_at {
            ADMITTED_V4 => Some(ClientKey::V4(bits as u32)),
            ADMITTED_V6 => Some(ClientKey::V6(bits)),
            _ => None,
        }
    }

    pub(crate) const fn reason(self) -> Option<Reason> {
        match self.0 >> REASON_SHIFT {
            0 => None,
            next => Some(Reason::ALL[next as usize - 1]),
        }
    }

    pub(crate) const fn set_reason(&mut self, reason: Option<Reason>) {
        let next = match reason {
            Some(reason) => reason.index() as u32 + 1,
            None => 0,
        };
        self.0 = self.0 & !REASON | next << REASON_SHIFT;
    }
}

#[inline]
const fn split(client: Option<ClientKey>) -> (u64, u32) {
    match client {
        Some(ClientKey::V4(bits)) => (bits as u64, V4),
        Some(ClientKey::V6(bits)) => (bits, V6),
        None => (0, 0),
    }
}
