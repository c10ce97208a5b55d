//! What fields say, without allocation.

use crate::origin::number_of;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A text of bounded length.
struct Short {
    bytes: [u8; MOST_BYTES],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; MOST_BYTES], length: 0 }
    }
}

impl Short {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_BYTES - self.length;
        let fits = if text.len() <= room { text.len() } else { text.floor_char_boundary(room) };
        self.bytes[self.length..self.length + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// A source as a text, most often that of an IPv4 address. Such a one comes in seven pieces, four numbers and the dots
/// between them, and is read while it comes, which takes less than to put it together and to take it apart again.
#[derive(Default)]
pub(crate) struct Spelled {
    /// The numbers so far.
    address: u32,
    /// How many pieces of an address have come; [`ELSE`] if it is none.
    pieces: u32,
    /// Only if it is none.
    text: Option<Short>,
}

impl Spelled {
    /// The address that it is, with or without a port.
    pub(crate) fn address(&self) -> Option<u128> {
        if self.pieces == WHOLE {
            return Some(number_of(IpAddr::V4(Ipv4Addr::from_bits(self.address))));
        }
        let text = self.text.as_ref()?.bytes();
        if let Some(address) = ipv4(text) {
            return Some(number_of(IpAddr::V4(address)));
        }
        let text = str::from_utf8(text).ok()?;
        let address = text.parse::<IpAddr>().ok();
        address.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip())).map(number_of)
    }

    /// What it is if it is no address.
    pub(crate) fn text(&mut self) -> &[u8] {
        self.write_text("").unwrap_or_default();
        self.text.get_or_insert_default().bytes()
    }

    /// Puts together what has come, if it was no address until now, and then `piece`.
    #[cold]
    fn write_text(&mut self, piece: &str) -> fmt::Result {
        let text = self.text.get_or_insert_default();
        if self.pieces == ELSE {
            return text.write_str(piece);
        }
        let parts = self.pieces.div_ceil(2);
        for piece in 0..std::mem::replace(&mut self.pieces, ELSE) {
            if piece % 2 == 0 {
                write!(text, "{}", self.address >> (8 * (parts - 1 - piece / 2)) & 0xff)?;
            } else {
                text.write_str(".")?;
            }
        }
        text.write_str(piece)
    }
}

impl Write for Spelled {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.pieces >= WHOLE {
            return self.write_text(piece);
        }
        if self.pieces % 2 == 1 {
            if piece != "." {
                return self.write_text(piece);
            }
        } else {
            let Some(part) = part(piece.as_bytes()) else { return self.write_text(piece) };
            self.address = self.address << 8 | u32::from(part);
        }
        self.pieces += 1;
        Ok(())
    }
}

/// The number of an address that these digits are, as they are usually written.
fn part(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| Some(u32::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit < 10);
    let number = match *digits {
        [a] => return digit(a).map(|a| a as u8),
        [a, b] => digit(a)? * 10 + digit(b)?,
        [a, b, c] => digit(a)? * 100 + digit(b)? * 10 + digit(c)?,
        _ => return None,
    };
    let least = if digits.len() == 2 { 10 } else { 100 };
    u8::try_from(number).ok().filter(|number| *number >= least)
}

/// What is an IPv4 address without a doubt, as one text. The parser of the standard library takes much longer.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut parts = text.splitn(4, |byte| *byte == b'.');
    let mut next = || part(parts.next()?);
    let [a, b, c, d] = [next()?, next()?, next()?, next()?];
    Some(Ipv4Addr::new(a, b, c, d))
}

/// The pieces of a whole address.
const WHOLE: u32 = 7;
const ELSE: u32 = 8;
pub(crate) const MOST_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_stays_a_text() {
        for numbers in [&[7][..], &[1, 22], &[1, 22, 0], &[1, 2, 3, 4, 255]] {
            let mut spelled = Spelled::default();
            let text = numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            for (index, number) in numbers.iter().enumerate() {
                if index > 0 {
                    spelled.write_str(".").unwrap();
                }
                write!(spelled, "{number}").unwrap();
            }
            assert_eq!((spelled.address(), spelled.text()), (None, text.as_bytes()));
        }
    }

    #[test]
    fn a_source_is_what_the_standard_library_takes_for_one() {
        for text in [
            "0.0.0.0",
            "203.0.113.7",
            "255.255.255.255",
            "256.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            ".1.2.3",
            "01.2.3.4",
            "1.2.3.00",
            "1..2.3",
            "1.2.3.4 ",
            "",
            "::1",
            "1.2.3.4:80",
            "[2001:db8::1]:443",
            "eve",
            "1.2.3.99999999999",
        ] {
            let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
            let expected = text.parse::<IpAddr>().or_else(|_| with_port()).ok().map(number_of);
            let mut whole = Spelled::default();
            whole.write_str(text).unwrap_or_default();
            assert_eq!(whole.address(), expected, "{text}");
            for cut in 0..=text.len() {
                let mut pieces = Spelled::default();
                for piece in [&text[..cut], &text[cut..]] {
                    pieces.write_str(piece).unwrap_or_default();
                }
                pieces.text();
                assert_eq!(pieces.address(), expected, "{text} cut after {cut}");
            }
            // As `Display` writes it.
            let mut pieces = Spelled::default();
            for (index, part) in text.split('.').enumerate() {
                if index > 0 {
                    pieces.write_str(".").unwrap();
                }
                pieces.write_str(part).unwrap();
            }
            assert_eq!(pieces.address(), expected, "{text} in pieces");
        }
    }
}
