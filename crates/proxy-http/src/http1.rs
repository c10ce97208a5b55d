//! What HTTP/1.1 is on both sides of the proxy: how bodies are delimited where they are read, and where they are written.
//! Pure.

mod chunked;
mod sent;

pub(crate) use chunked::{Chunked, Step};
pub(crate) use sent::{Sent, announced, field, line};

/// It is not HTTP, or could be understood in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A number as the length of a body is written: digits alone.
pub(crate) fn decimal(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() {
        return Err(Malformed);
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10).ok_or(Malformed)?;
        number.checked_mul(10).and_then(|number| number.checked_add(digit.into())).ok_or(Malformed)
    })
}

/// Writes a number, without the machinery of formatting: this is done for every message.
pub(crate) fn write_number<const BASE: u64>(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut begin, mut left) = (digits.len(), number);
    loop {
        begin -= 1;
        digits[begin] = b"0123456789abcdef"[usize::try_from(left % BASE).expect("a digit")];
        left /= BASE;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_as_it_is_written() {
        for number in [0, 7, 10, 16, 1024, 65_535, u64::MAX] {
            let (mut decimals, mut hexadecimals) = (Vec::new(), Vec::new());
            write_number::<10>(number, &mut decimals);
            write_number::<16>(number, &mut hexadecimals);
            assert_eq!((decimal(&decimals), &decimals), (Ok(number), &number.to_string().into_bytes()));
            assert_eq!(hexadecimals, format!("{number:x}").into_bytes());
        }
        for text in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "18446744073709551616"] {
            assert_eq!(decimal(text.as_bytes()), Err(Malformed), "{text:?}");
        }
    }
}
