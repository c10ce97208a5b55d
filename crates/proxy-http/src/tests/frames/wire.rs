//! Frames and header blocks as bytes, right and wrong.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

/// What the last PING of a case carries.
pub(super) const LAST_PING: &[u8] = b"the last";

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A client's beginning, and then `frames`.
pub(super) fn client(frames: &[Vec<u8>]) -> Vec<u8> {
    client_with(&[], frames)
}

/// The same with settings.
pub(super) fn client_with(settings: &[(u16, u32)], frames: &[Vec<u8>]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), set(settings), frames.concat()].concat()
}

pub(super) fn set(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A field that is in no table, without Huffman.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    raw_field(name.as_bytes(), value.as_bytes())
}

pub(super) fn raw_field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| match bytes.len() {
        short @ 0..=126 => [&[short as u8], bytes].concat(),
        long => {
            let mut length = vec![127];
            let mut rest = long - 127;
            while rest >= 128 {
                length.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            length.push(rest as u8);
            [length, bytes.to_vec()].concat()
        }
    };
    [vec![0], text(name), text(value)].concat()
}

pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

pub(super) const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];
pub(super) const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/count"), (":authority", "a.test")];

/// A whole request.
pub(super) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(GET))
}

/// A request that is not answered.
pub(super) fn never(stream: u32) -> Vec<u8> {
    request(stream, &[(":method", "GET"), (":scheme", "http"), (":path", "/never"), (":authority", "a.test")])
}

/// The head of a request with a body.
pub(super) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(POST))
}

/// A request of these fields and no others.
pub(super) fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

/// A GET with one more field.
pub(super) fn get_with(name: &str, value: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block(GET), field(name, value)].concat())
}

/// The head of a POST with one more field.
pub(super) fn post_with(name: &str, value: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &[block(POST), field(name, value)].concat())
}

/// A GET whose header block ends in these bytes.
pub(super) fn get_raw(tail: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&block(GET), tail].concat())
}

pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub(super) fn priority(stream: u32, on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[1]].concat())
}
