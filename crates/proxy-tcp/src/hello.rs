//! What a TLS ClientHello says, read without decrypting anything.

use proxy_route::TlsVersion;
use std::net::Ipv4Addr;

/// What a TLS ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name asked for, in lower case; `None` without one, or if it is an address.
    pub sni: Option<String>,
    /// The best version offered that is known.
    pub version: Option<TlsVersion>,
}

/// The first byte of every TLS connection: a record of the handshake.
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

/// Reads a ClientHello from bytes that come in pieces of any size, in records of any size.
///
/// It wants to know where a connection is to go, not whether its TLS is any good: old versions, missing extensions and
/// unknown values all pass, so that what a backend would take is never refused on the way to it. Each byte is looked at
/// once, however small the pieces are.
///
/// ```
/// use proxy_tcp::{HelloProgress, HelloReader};
///
/// let mut reader = HelloReader::new();
/// assert_eq!(reader.read(&[0x16, 0x03]), HelloProgress::Partial);
/// // The whole of what was received so far is shown to it each time.
/// assert_eq!(reader.read(&[0x16, 0x03, 0x01, 0x00, 0x00]), HelloProgress::Malformed);
/// ```
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// Bytes of the connection that were read.
    read: usize,
    /// Bytes of the current record that were not.
    left: usize,
    /// The handshake message so far, without the headers of records.
    message: Vec<u8>,
}

/// How far a [`HelloReader`] got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProgress {
    /// More bytes are needed.
    Partial,
    /// All of it is there.
    Hello(ClientHello),
    /// It is not a ClientHello.
    Malformed,
    /// It is longer than [`HelloReader::LIMIT`].
    TooLarge,
}

impl HelloReader {
    /// How many bytes of a connection are read in search of the end of its hello.
    pub const LIMIT: usize = 16 * 1024;

    /// A reader that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on reading; `received` is everything the connection sent so far, from its first byte on.
    pub fn read(&mut self, received: &[u8]) -> HelloProgress {
        let received = &received[..received.len().min(Self::LIMIT)];
        loop {
            match self.step(received) {
                Ok(Some(hello)) => return HelloProgress::Hello(hello),
                Ok(None) => {}
                Err(progress) => return progress,
            }
        }
    }

    /// Takes one record header, or what there is of one record.
    fn step(&mut self, received: &[u8]) -> Result<Option<ClientHello>, HelloProgress> {
        let rest = received.get(self.read..).unwrap_or_default();
        if self.left == 0 {
            self.left = record_length(rest).ok_or(HelloProgress::Malformed)?.ok_or_else(|| more(received))?;
            self.read += RECORD_HEADER;
            return Ok(None);
        }
        let taken = self.left.min(rest.len());
        if taken == 0 {
            return Err(more(received));
        }
        self.message.extend_from_slice(&rest[..taken]);
        self.read += taken;
        self.left -= taken;
        match message_length(&self.message).ok_or(HelloProgress::Malformed)? {
            Some(length) if MESSAGE_HEADER + length > Self::LIMIT => Err(HelloProgress::TooLarge),
            Some(length) => match self.message.get(MESSAGE_HEADER..MESSAGE_HEADER + length) {
                Some(body) => client_hello(body).map(Some).ok_or(HelloProgress::Malformed),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }
}

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SUPPORTED_VERSIONS: u16 = 43;
const LONGEST_NAME: usize = 253;

fn more(received: &[u8]) -> HelloProgress {
    if received.len() < HelloReader::LIMIT { HelloProgress::Partial } else { HelloProgress::TooLarge }
}

/// The length in the record header that `bytes` begin with: `None` if it is none, `Some(None)` if it is not all there.
fn record_length(bytes: &[u8]) -> Option<Option<usize>> {
    // Whatever 3.x the record claims: clients of all times disagree about it.
    let begins = bytes.iter().zip([TLS_HANDSHAKE, 3]).all(|(&byte, expected)| byte == expected);
    let length = bytes.get(3..RECORD_HEADER).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    // An empty record of the handshake is forbidden, and would be a way to keep us reading for nothing.
    (begins && length.is_none_or(|length| (1..=1 << 14).contains(&length))).then_some(length)
}

/// The length in the header of the handshake message: `None` if it is no ClientHello, `Some(None)` if it is not all there.
fn message_length(message: &[u8]) -> Option<Option<usize>> {
    let length =
        message.get(1..MESSAGE_HEADER).map(|length| length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)));
    message.first().is_none_or(|&kind| kind == CLIENT_HELLO).then_some(length)
}

/// Reads the body of a ClientHello; `None` if it does not hold together.
fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Bytes(body);
    let legacy_version = body.u16()?;
    body.take(32)?; // random
    body.short_list()?; // session id
    body.list()?; // cipher suites
    body.short_list()?; // compression methods
    let mut hello = ClientHello { sni: None, version: legacy(legacy_version) };
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = body.list()?;
    let mut named = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.list()?;
        match kind {
            // Which of two names a backend believes is anybody's guess, so routing by one of them would be too.
            SERVER_NAME if named => return None,
            SERVER_NAME => {
                named = true;
                hello.sni = server_name(content)?;
            }
            SUPPORTED_VERSIONS => hello.version = best_version(content)?,
            _ => {}
        }
    }
    Some(hello)
}

/// The host name in a server_name extension; the outer `None` if it does not hold together.
fn server_name(mut content: Bytes<'_>) -> Option<Option<String>> {
    if content.0.is_empty() {
        return Some(None);
    }
    let mut names = content.list()?;
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.list()?;
        if kind == 0 {
            return Some(host_name(name.0));
        }
    }
    Some(None)
}

/// `name` in lower case and without a final dot, if it is a host name.
fn host_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let fits = name.len() <= LONGEST_NAME && name.split('.').all(label) && name.parse::<Ipv4Addr>().is_err();
    fits.then(|| name.to_ascii_lowercase())
}

fn best_version(mut content: Bytes<'_>) -> Option<Option<TlsVersion>> {
    let mut offered = content.short_list()?;
    let mut best = None;
    while !offered.0.is_empty() {
        let version = match offered.u16()? {
            0x0304 => Some(TlsVersion::V1_3),
            0x0303 => Some(TlsVersion::V1_2),
            0x0302 => Some(TlsVersion::V1_1),
            0x0301 => Some(TlsVersion::V1_0),
            _ => None,
        };
        best = best.max(version);
    }
    Some(best)
}

/// The version that a hello without the extension offers.
fn legacy(version: u16) -> Option<TlsVersion> {
    match version {
        ..=0x0300 => None,
        0x0301 => Some(TlsVersion::V1_0),
        0x0302 => Some(TlsVersion::V1_1),
        // Whoever claims more without the extension gets no more than this.
        0x0303.. => Some(TlsVersion::V1_2),
    }
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A list with a length of one byte.
    fn short_list(&mut self) -> Option<Self> {
        let length = self.take(1)?[0];
        self.take(length.into()).map(Self)
    }

    /// A list with a length of two bytes.
    fn list(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }
}

#[cfg(test)]
mod tests;
