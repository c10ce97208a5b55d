//! What a client is told to do, as bytes say it.

/// One thing that a client does.
pub(super) enum Order {
    /// To send these bytes.
    Send(Vec<u8>),
    /// To let the server go on, and take what comes meanwhile.
    Wait,
    /// To say that this was all, and take what comes.
    End,
    /// To be gone at once.
    Leave,
}

/// The orders that bytes stand for. Behind the last comes [`Order::End`].
pub(super) struct Orders<'a> {
    bytes: &'a [u8],
    begun: bool,
    ended: bool,
    /// The number of the next stream.
    next: u32,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const METHODS: &[&str] = &["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT"];
/// What the backend does at each of these is in `world`; `/here` the proxy answers itself.
const PATHS: &[&str] = &["/", "/here", "/large", "/never", "/none", "/cut", "/full", "*", "/%", ""];
const FIELDS: &[(&str, &str)] = &[
    ("te", "trailers"),
    ("cookie", "a=b"),
    ("expect", "100-continue"),
    ("content-length", "3"),
    ("content-length", "0"),
    (":protocol", "websocket"),
    ("sec-websocket-version", "13"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("host", "b.test"),
    ("X", "y"),
    ("x", "a\r\nb"),
    (":path", "/again"),
    ("x-forwarded-for", "192.0.2.1"),
];
const WINDOWS: &[u32] = &[0, 1, 100, 65_535, 1_000_000, 0x7fff_ffff];
const SIZES: &[usize] = &[0, 1, 3, 100, 5_000, 16_384, 16_385];

impl<'a> Orders<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, begun: false, ended: false, next: 1 }
    }

    /// The next byte; 0 behind the last.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// One of some, as the next byte says.
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// As many of the bytes as the next one says.
    fn some(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.bytes.len());
        let (some, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        some
    }

    /// A stream: most often one that was opened.
    fn stream(&mut self) -> u32 {
        match self.byte() {
            odd @ 240.. => u32::from(odd - 240),
            byte => 2 * (u32::from(byte) % (self.next / 2).max(1)) + 1,
        }
    }

    /// A request, or the beginning of one.
    fn open(&mut self) -> Vec<u8> {
        let stream = self.next;
        self.next += 2;
        let (method, path) = (self.one(METHODS), self.one(PATHS));
        let mut block = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")]
            .map(|(name, value)| field(name.as_bytes(), value.as_bytes()))
            .concat();
        // The lower bits say how it goes on, the others how many fields there are besides.
        let how = self.byte();
        for _ in 0..how >> 5 {
            let (name, value) = self.one(FIELDS);
            let one = field(name.as_bytes(), value.as_bytes());
            // What is of HTTP/2 has to come before the others.
            let at = if name.starts_with(':') && how & 0x10 == 0 { 0 } else { block.len() };
            block.splice(at..at, one);
        }
        let ends = how & END_STREAM;
        match how & 0x0e {
            0x02 => {
                let (first, rest) = block.split_at(usize::from(self.byte()).min(block.len()));
                let first = frame(HEADERS, ends, stream, first);
                [first, frame(CONTINUATION, END_HEADERS, stream, rest)].concat()
            }
            0x04 => frame(HEADERS, ends, stream, &block),
            0x06 => {
                block.extend_from_slice(self.some());
                frame(HEADERS, ends | END_HEADERS, stream, &block)
            }
            _ => frame(HEADERS, ends | END_HEADERS, stream, &block),
        }
    }

    fn settings(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        for _ in 0..self.byte() % 4 {
            let id = u16::from(self.byte() % 10);
            let value = self.one(WINDOWS);
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frame(SETTINGS, 0, 0, &payload)
    }

    fn order(&mut self) -> Order {
        let bytes = match self.byte() % 32 {
            0..8 => self.open(),
            8..12 => {
                let (stream, flags, size) = (self.stream(), self.byte() & (END_STREAM | PADDED), self.one(SIZES));
                frame(DATA, flags, stream, &vec![1; size])
            }
            12 | 13 => frame(HEADERS, END_HEADERS | END_STREAM, self.stream(), &field(b"x-sum", b"1")),
            14 | 15 => {
                let (stream, code) = (self.stream(), u32::from(self.byte() % 16));
                frame(RST_STREAM, 0, stream, &code.to_be_bytes())
            }
            16..19 => {
                let on = if self.byte().is_multiple_of(2) { 0 } else { self.stream() };
                frame(WINDOW_UPDATE, 0, on, &self.one(WINDOWS).to_be_bytes())
            }
            19 | 20 => self.settings(),
            21 => frame(PING, self.byte() & ACK, 0, &[7; 8]),
            22 => frame(PRIORITY, 0, self.stream(), &[0, 0, 0, self.byte(), 1]),
            23 => frame(GOAWAY, 0, 0, &[0; 8]),
            24 => {
                let (kind, flags, stream) = (self.byte() % 12, self.byte(), self.stream());
                frame(kind, flags, stream, self.some())
            }
            25 => self.some().to_vec(),
            26 => return Order::Leave,
            27 => return Order::End,
            _ => return Order::Wait,
        };
        Order::Send(bytes)
    }
}

impl Iterator for Orders<'_> {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Order::Send([PREFACE, &self.settings()].concat()));
        }
        if self.ended {
            return None;
        }
        let order = if self.bytes.is_empty() { Order::End } else { self.order() };
        self.ended = matches!(order, Order::End | Order::Leave);
        Some(order)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is in no table, without Huffman; both parts are short.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| [u8::try_from(text.len()).unwrap_or_default() & 0x7f];
    [&[0], &length(name)[..], name, &length(value)[..], value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client sends, and how it ends.
    fn told(bytes: &[u8]) -> (Vec<u8>, &'static str) {
        let (mut sent, mut end) = (Vec::new(), "");
        for order in Orders::new(bytes) {
            assert_eq!(end, "", "nothing comes behind the end");
            match order {
                Order::Send(bytes) => sent.extend_from_slice(&bytes),
                Order::Wait => {}
                Order::End => end = "ends",
                Order::Leave => end = "leaves",
            }
        }
        (sent, end)
    }

    #[test]
    fn any_bytes_are_orders_that_end() {
        assert_eq!(told(b""), ([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat(), "ends"));
        assert_eq!(told(&[0, 26, 0, 0, 0]).1, "leaves");
        for byte in 0..=255 {
            let (sent, end) = told(&[byte; 300]);
            assert!(sent.starts_with(PREFACE) && !end.is_empty(), "{byte}");
        }
    }

    #[test]
    fn a_request_is_one_frame() {
        // No setting; open, GET, `/`, ends.
        let (sent, _) = told(&[0, 0, 0, 0, 1]);
        let request = &sent[PREFACE.len() + 9..];
        assert_eq!(request[3..9], [HEADERS, END_HEADERS | END_STREAM, 0, 0, 0, 1]);
        assert_eq!(usize::from(request[2]), request.len() - 9);
    }
}
