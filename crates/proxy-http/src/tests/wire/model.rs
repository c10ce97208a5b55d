//! What a strict and simple reader makes of requests: all bytes at once, and a line at a time.

/// What is to come of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// 200 with this text, and whether the connection ends with it.
    Served { text: String, is_head: bool, closes: bool },
    /// 403, without a look at the body; then perhaps the end.
    Blocked { is_head: bool },
    /// A refusal with this status, and the end.
    Refused(u16),
    /// Nothing, or a refusal, as it is not whole.
    Partial,
    /// Nobody says what.
    Unknown,
}
use Expected::{Blocked, Partial, Refused, Served, Unknown};

/// Why there is no request.
type Other = Expected;

/// What is to come of requests; `tell` says how an arrived one is answered, by method, target, body and trailers.
pub(super) fn expect(bytes: &[u8], tell: impl Fn(&str, &str, &[u8], &[String]) -> String) -> Vec<Expected> {
    let mut reader = Reader { bytes, at: 0 };
    let mut all = Vec::new();
    loop {
        while let Some(rest) = [&b"\r\n"[..], b"\n"].iter().find_map(|blank| reader.rest().strip_prefix(*blank)) {
            reader.at = bytes.len() - rest.len();
        }
        if reader.rest().is_empty() {
            return all;
        }
        match reader.request() {
            Ok(request) if request.target == BLOCKED => {
                all.push(Blocked { is_head: request.method == "HEAD" });
                if request.closes {
                    return all;
                }
            }
            Ok(request) => {
                let text = tell(&request.method, &request.target, &request.body, &request.trailers);
                let is_head = request.method == "HEAD";
                all.push(Served { text, is_head, closes: request.closes });
                if request.closes {
                    return all;
                }
            }
            Err(other) => {
                all.push(other);
                return all;
            }
        }
    }
}

/// The target that is blocked.
const BLOCKED: &str = "/no";

struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
    trailers: Vec<String>,
    closes: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const BAD: Other = Refused(400);

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Up to a line feed, without it.
    fn raw_line(&mut self) -> Result<&'a [u8], Other> {
        let end = self.rest().iter().position(|byte| *byte == b'\n').ok_or(Partial)?;
        let line = &self.rest()[..end];
        self.at += end + 1;
        Ok(line)
    }

    /// A line of a body: CR and LF, and neither within.
    fn line(&mut self) -> Result<&'a [u8], Other> {
        let line = self.raw_line()?.strip_suffix(b"\r").ok_or(BAD)?;
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') { Err(BAD) } else { Ok(line) }
    }

    /// The lines of a head, which may end in LF alone.
    fn head(&mut self) -> Result<Vec<&'a [u8]>, Other> {
        let mut lines = Vec::new();
        loop {
            let line = self.raw_line()?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    fn request(&mut self) -> Result<Request, Other> {
        let lines = self.head()?;
        let mut words = lines[0].split(|byte| *byte == b' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
            return Err(BAD);
        };
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(BAD),
        };
        if !is_token(method) || target.is_empty() {
            return Err(BAD);
        }
        let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
        let all = |name: &str| fields.iter().filter(|field| field.0 == name).map(|field| field.1).collect::<Vec<_>>();
        let tokens = |name: &str| {
            let values = all(name).into_iter().flat_map(|value| value.split(|byte| *byte == b','));
            values.map(|token| token.trim_ascii().to_ascii_lowercase()).collect::<Vec<_>>()
        };
        let framing = self.framing(is_1_1, &fields)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/?=.*:-".contains(byte);
        if !target.iter().all(plain) || method == b"CONNECT" {
            return Err(Unknown);
        }
        let target = String::from_utf8_lossy(target).into_owned();
        let method = String::from_utf8_lossy(method).into_owned();
        if let Framing::Foreign = framing {
            return Err(Refused(501));
        }
        let hosts = all("host");
        if hosts.len() > 1 || hosts.is_empty() && is_1_1 || hosts.iter().any(|host| !is_host(host)) {
            return Err(BAD);
        }
        let target = match target.strip_prefix("http://other.test") {
            Some("") => "/".to_owned(),
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(_) => return Err(Unknown),
            None if target.starts_with('/') || target == "*" && method == "OPTIONS" => target,
            None if target == "*" => return Err(BAD),
            None => return Err(Unknown),
        };
        let connection = tokens("connection");
        let says = |token: &str| connection.iter().any(|said| said == token.as_bytes());
        let upgrades = !all("upgrade").is_empty() && !tokens("upgrade").contains(&b"h2c".to_vec());
        if says("close") && says("keep-alive")
            || tokens("upgrade").contains(&b"h2c".to_vec()) && all("upgrade").len() > 1
        {
            return Err(Unknown);
        }
        let closes = says("close") || upgrades || !is_1_1 && !says("keep-alive");
        // Some other ways to write a path mean the same one, which is not for a simple reader to say.
        let bare = target.trim_start_matches(['/', '.']);
        if bare.starts_with(BLOCKED.trim_start_matches('/')) && target != BLOCKED {
            return Err(Unknown);
        }
        let (body, trailers) = match self.body(&framing) {
            // Nobody takes it, so nobody says what of it is wrong.
            Err(_) if target == BLOCKED => return Err(Unknown),
            body => body?,
        };
        let announced = tokens("trailer");
        let passes = |name: &str| announced.contains(&name.as_bytes().to_vec());
        let trailers = trailers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| format!("{name}: {value}"));
        Ok(Request { method, target, body, trailers: trailers.collect(), closes })
    }

    fn framing(&self, is_1_1: bool, fields: &[(String, &[u8])]) -> Result<Framing, Other> {
        let said = |name: &str| fields.iter().filter(|field| field.0 == name).collect::<Vec<_>>();
        let (lengths, codings) = (said("content-length"), said("transfer-encoding"));
        let imitates = |name: &str| name.contains('_') && is_framing(&name.replace('_', "-"));
        if lengths.len() + codings.len() > 1 || fields.iter().any(|field| imitates(&field.0)) {
            return Err(BAD);
        }
        if let [(_, coding)] = codings[..] {
            let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            if !is_1_1 || !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(BAD);
            }
            return Ok(if coding.eq_ignore_ascii_case(b"chunked") { Framing::Chunked } else { Framing::Foreign });
        }
        let [(_, length)] = lengths[..] else { return Ok(Framing::Sized(0)) };
        let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Framing::Sized).ok_or(BAD)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Other> {
        let length = usize::try_from(length).map_err(|_| Partial)?;
        let taken = self.rest().get(..length).ok_or(Partial)?;
        self.at += length;
        Ok(taken)
    }

    /// The body, and the fields behind it.
    fn body(&mut self, framing: &Framing) -> Result<(Vec<u8>, Trailers), Other> {
        if let Framing::Sized(length) = framing {
            return Ok((self.take(*length)?.to_vec(), Vec::new()));
        }
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let extension = line[digits..].trim_ascii_start();
            if digits == 0 || !extension.is_empty() && extension[0] != b';' {
                return Err(BAD);
            }
            let size =
                u64::from_str_radix(std::str::from_utf8(&line[..digits]).expect("digits"), 16).map_err(|_| BAD)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err(BAD);
            }
        }
        // They are judged when they are there whole.
        let mut lines = Vec::new();
        loop {
            match self.raw_line()?.strip_suffix(b"\r").ok_or(BAD)? {
                b"" => break,
                line => lines.push(line),
            }
        }
        let mut trailers = Vec::new();
        for line in lines {
            let (name, value) = field(line)?;
            trailers.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        let odd = |name: &str| {
            let name = name.replace('_', "-");
            is_framing(&name)
                || ["host", "te", "trailer", "connection", "upgrade", "keep-alive"].contains(&name.as_str())
        };
        if trailers.iter().any(|(name, _)| odd(name)) { Err(BAD) } else { Ok((body, trailers)) }
    }
}

type Trailers = Vec<(String, String)>;

enum Framing {
    Sized(u64),
    Chunked,
    /// In a coding that is not served.
    Foreign,
}

fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding"].contains(&name)
}

fn is_token(text: &[u8]) -> bool {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(in_token)
}

/// Name and value of a field.
fn field(line: &[u8]) -> Result<(String, &[u8]), Other> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BAD)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) || value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(BAD);
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii()))
}

fn is_host(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b':');
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    parts.next().unwrap_or_default().iter().all(in_name)
        && parts.next().is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}
