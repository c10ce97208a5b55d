//! How numbers, times and names look in a line.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number with its digits in groups of three.
pub(crate) struct Grouped(pub(crate) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ 0..1000 => write!(f, "{small}"),
            large => write!(f, "{} {:03}", Self(large / 1000), large % 1000),
        }
    }
}

/// So many times a second, in a unit that suits it: `9 642/s`, `2.4/s`, `1.5/min`.
pub(crate) struct Rate(pub(crate) f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(a_second) = *self;
        match (a_second, a_second * 60.0) {
            (10.0.., _) => write!(f, "{}/s", Grouped(a_second as u64)),
            (0.1.., _) => write!(f, "{a_second:.1}/s"),
            (_, a_minute @ 0.1..) => write!(f, "{a_minute:.1}/min"),
            (_, a_minute) => write!(f, "{:.1}/h", a_minute * 60.0),
        }
    }
}

/// A time span in at most two units: `3m12s`, `4h05m`, `7.3s`.
pub(crate) struct Lasted(pub(crate) Duration);

impl fmt::Display for Lasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match seconds {
            0..60 => write!(f, "{seconds}.{}s", self.0.subsec_millis() / 100),
            60..3600 => write!(f, "{minutes}m{:02}s", seconds % 60),
            3600..86_400 => write!(f, "{hours}h{minutes:02}m"),
            _ => write!(f, "{days}d{hours:02}h"),
        }
    }
}

/// The time of day in UTC, to the millisecond.
pub(crate) struct TimeOfDay(pub(crate) SystemTime);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs() % 86_400;
        let (hours, minutes, millis) = (seconds / 3600, seconds / 60 % 60, since.subsec_millis());
        write!(f, "{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
    }
}

/// A date and time in UTC, as RFC 3339 has it.
pub(crate) struct Timestamp(pub(crate) SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        let (year, month, day) = date(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{}Z", TimeOfDay(self.0))
    }
}

/// Year, month and day of a number of days after 1970-01-01. Years begin in March here, so that the leap day is a last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// A name that cannot break a line, or look like two.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl<'a> Escaped<'a> {
    /// A phrase that may have spaces in it.
    pub(crate) fn plain(text: &'a str) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for (index, word) in text.split(' ').enumerate() {
                if index > 0 {
                    f.write_char(' ')?;
                }
                write!(f, "{}", Escaped(word))?;
            }
            Ok(())
        })
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                ' ' => f.write_str("\\x20")?,
                '=' => f.write_str("\\x3d")?,
                '\'' | '"' => f.write_char(letter)?,
                _ => write!(f, "{}", letter.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_002_003, "1 002 003")] {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }

    #[test]
    fn rates_are_never_zero_where_something_happened() {
        for (count, seconds, text) in [
            (48_213, 5.0, "9 642/s"),
            (50, 5.0, "10/s"),
            (12, 5.0, "2.4/s"),
            (1, 10.0, "0.1/s"),
            (1, 11.0, "5.5/min"),
            (1, 600.0, "0.1/min"),
            (1, 3600.0, "1.0/h"),
            (3, 86_400.0, "0.1/h"),
        ] {
            assert_eq!(Rate(f64::from(count) / seconds).to_string(), text);
        }
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (millis, text) in [
            (0, "0.0s"),
            (7_349, "7.3s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (192_000, "3m12s"),
            (14_700_000, "4h05m"),
            (176_400_000, "2d01h"),
        ] {
            assert_eq!(Lasted(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_790_000_000, "2026-09-21T14:13:20.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Timestamp(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
