//! How one record reads. Nothing that a peer sent gets out of its quotes. Pure.

use conn_tracker::AccessRecord;
use proxy_route::LogFormat;
use std::io::Write;
use std::time::SystemTime;

/// Appends a line, with its line break.
pub(super) fn write(
    into: &mut Vec<u8>,
    format: LogFormat,
    now: SystemTime,
    route: Option<&str>,
    record: &AccessRecord<'_>,
) {
    let AccessRecord { client, port, protocol, status, end, elapsed, received, sent, request, sni, .. } = *record;
    let mut line = Line { into, format, first: true };
    let time = humantime::format_rfc3339_millis(now);
    match format {
        LogFormat::Text => line.raw("time", format_args!("{time}")),
        LogFormat::Json => line.raw("time", format_args!("\"{time}\"")),
    }
    line.text("route", route);
    line.word("client", format_args!("{client}"));
    line.raw("port", format_args!("{port}"));
    line.word("protocol", format_args!("{protocol}"));
    match status {
        Some(status) => line.raw("status", format_args!("{status}")),
        None => line.absent("status"),
    }
    line.word("end", format_args!("{end}"));
    line.raw("seconds", format_args!("{}.{:06}", elapsed.as_secs(), elapsed.subsec_micros()));
    line.raw("received", format_args!("{received}"));
    line.raw("sent", format_args!("{sent}"));
    line.text("requestId", request.map(|request| request.id));
    line.text("method", request.map(|request| request.method));
    line.text("host", request.map(|request| request.host));
    line.text("path", request.map(|request| request.path));
    line.text("sni", sni);
    line.end();
}

/// Longest text of a peer that is written whole, in bytes.
const LONGEST: usize = 2048;

/// A line that grows column by column.
struct Line<'a> {
    into: &'a mut Vec<u8>,
    format: LogFormat,
    first: bool,
}

impl Line<'_> {
    /// A number, or what is quoted already.
    fn raw(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.begin(key);
        write!(self.into, "{value}").expect(MEMORY);
    }

    /// A word of our own, quoted in JSON only.
    fn word(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        match self.format {
            LogFormat::Text => self.raw(key, value),
            LogFormat::Json => self.raw(key, format_args!("\"{value}\"")),
        }
    }

    /// Whatever a peer or a configuration says.
    fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(text) = value else { return self.absent(key) };
        self.begin(key);
        self.into.push(b'"');
        let whole = text.floor_char_boundary(LONGEST);
        for character in text[..whole].chars() {
            match character {
                '"' | '\\' => self.into.extend([b'\\', character as u8]),
                // Of one unit in UTF-16, as JSON counts.
                _ if character.is_control() => write!(self.into, "\\u{:04x}", u32::from(character)).expect(MEMORY),
                _ => self.into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if whole < text.len() {
            self.into.extend_from_slice("…".as_bytes());
        }
        self.into.push(b'"');
    }

    fn absent(&mut self, key: &str) {
        match self.format {
            LogFormat::Text => self.raw(key, format_args!("-")),
            LogFormat::Json => self.raw(key, format_args!("null")),
        }
    }

    fn begin(&mut self, key: &str) {
        let first = std::mem::take(&mut self.first);
        match (self.format, first) {
            (LogFormat::Text, true) => {}
            (LogFormat::Text, false) => self.into.push(b' '),
            (LogFormat::Json, _) => {
                write!(self.into, "{}\"{key}\":", if first { '{' } else { ',' }).expect(MEMORY);
            }
        }
    }

    fn end(self) {
        match self.format {
            LogFormat::Text => self.into.push(b'\n'),
            LogFormat::Json => self.into.extend_from_slice(b"}\n"),
        }
    }
}

const MEMORY: &str = "memory takes every write";

#[cfg(test)]
mod tests {
    use super::*;
    use conn_tracker::RequestLine;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use std::time::Duration;

    fn record<'a>(request: Option<RequestLine<'a>>, sni: Option<&'a str>) -> AccessRecord<'a> {
        AccessRecord {
            route: None,
            client: IpAddr::from([192, 0, 2, 1]),
            port: 443,
            protocol: "HTTP/1.1",
            status: request.map(|_| 200),
            end: "complete",
            elapsed: Duration::from_micros(1_000_002),
            received: 3,
            sent: 4,
            request,
            sni,
        }
    }

    fn line(format: LogFormat, route: Option<&str>, record: &AccessRecord<'_>) -> String {
        let mut line = Vec::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234);
        write(&mut line, format, now, route, record);
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn both_formats_say_the_same() {
        let request = RequestLine { id: "7f", method: "GET", host: "a\"b", path: "/\\\n" };
        let cases = [
            (
                record(Some(request), None),
                r#"1970-01-01T00:00:01.234Z "web" 192.0.2.1 443 HTTP/1.1 200 complete 1.000002 3 4 "7f" "GET" "a\"b" "/\\\u000a" -"#,
                r#"{"time":"1970-01-01T00:00:01.234Z","route":"web","client":"192.0.2.1","port":443,"protocol":"HTTP/1.1","status":200,"end":"complete","seconds":1.000002,"received":3,"sent":4,"requestId":"7f","method":"GET","host":"a\"b","path":"/\\\u000a","sni":null}"#,
            ),
            (
                record(None, Some("mail.test")),
                r#"1970-01-01T00:00:01.234Z "web" 192.0.2.1 443 HTTP/1.1 - complete 1.000002 3 4 - - - - "mail.test""#,
                r#"{"time":"1970-01-01T00:00:01.234Z","route":"web","client":"192.0.2.1","port":443,"protocol":"HTTP/1.1","status":null,"end":"complete","seconds":1.000002,"received":3,"sent":4,"requestId":null,"method":null,"host":null,"path":null,"sni":"mail.test"}"#,
            ),
        ];
        for (record, text, json) in cases {
            assert_eq!(line(LogFormat::Text, Some("web"), &record), format!("{text}\n"));
            assert_eq!(line(LogFormat::Json, Some("web"), &record), format!("{json}\n"));
        }
    }

    proptest! {
        #[test]
        fn nothing_gets_out_of_its_quotes(texts in prop::collection::vec("(?s).{0,40}", 6), length in 0_usize..5000) {
            let path = texts[3].repeat(length / (texts[3].len() + 1));
            let request = RequestLine { id: &texts[0], method: &texts[1], host: &texts[2], path: &path };
            let record = record(Some(request), Some(&texts[4]));
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = line(format, Some(&texts[5]), &record);
                let whole = line.strip_suffix('\n').expect("a line break at the end");
                prop_assert!(!whole.chars().any(char::is_control), "{whole:?}");
                if format == LogFormat::Json {
                    let read: serde_json::Value = serde_json::from_str(whole).expect("JSON");
                    prop_assert_eq!(read["host"].as_str(), Some(texts[2].as_str()));
                    prop_assert_eq!(read["sni"].as_str(), Some(texts[4].as_str()));
                    prop_assert!(path.starts_with(read["path"].as_str().expect("a path").trim_end_matches('…')) || path.contains('…'));
                } else {
                    // What is left outside of quotes is what we wrote ourselves.
                    let bare = whole.replace("\\\\", "").replace("\\\"", "");
                    prop_assert_eq!(bare.matches('"').count(), 12);
                }
            }
        }
    }
}
