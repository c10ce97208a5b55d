//! The date that a response bears.

use parking_lot::Mutex;
use proxy_tcp::Tick;
use std::fmt::Write;
use std::time::SystemTime;

/// The date as HTTP writes it. The clock is asked, and the text made, once a tick.
#[derive(Debug, Default)]
pub(crate) struct Date(Mutex<(Option<Tick>, String)>);

impl Date {
    /// Writes the date, of which `now` says only whether it is the same as before.
    pub(crate) fn write(&self, now: Tick, out: &mut Vec<u8>) {
        let mut cached = self.0.lock();
        let (tick, text) = &mut *cached;
        if tick.replace(now) != Some(now) {
            text.clear();
            write!(text, "{}", httpdate::HttpDate::from(SystemTime::now())).expect("memory takes everything");
        }
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_clock() {
        let (date, before) = (Date::default(), SystemTime::now());
        for _ in 0..2 {
            let mut out = Vec::new();
            date.write(Tick::default(), &mut out);
            let read = httpdate::parse_http_date(std::str::from_utf8(&out).unwrap()).unwrap();
            let off = before.duration_since(read).unwrap_or_else(|error| error.duration());
            assert!(off.as_secs() < 60, "{off:?}");
        }
    }
}
