//! The list. Names begin with the section of RFC 9113, or with `7541` for RFC 7541.

use super::Expect::{self, Data, End, Goaway, Nothing, Reset, Status, Text};
use super::wire::*;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: fn() -> Vec<u8>,
    pub(super) expect: Expect,
}

const fn case(name: &'static str, expect: Expect, bytes: fn() -> Vec<u8>) -> Case {
    Case { name, bytes, expect }
}

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

const BOTH: u8 = END_HEADERS | END_STREAM;

/// The settings by number.
const TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW: u16 = 4;
const MAX_FRAME: u16 = 5;
const MAX_LIST: u16 = 6;
const ENABLE_CONNECT: u16 = 8;

/// Where the h2 library says more broadly what was wrong, which nothing that is passed to it can change: PROTOCOL_ERROR in
/// place of a narrower code, as RFC 9113 lets an endpoint do (7), or the end of the connection in place of that of a stream
/// (5.4.2).
pub(super) const BROADER: &[&str] = &[
    "4.3 a header block that is none",
    "5.1 data on a half-closed stream",
    "5.1 headers on a half-closed stream",
    "5.1 headers on a closed stream",
    "5.1.1 a smaller number than before",
    "6.3 PRIORITY of another size",
    "6.4 RST_STREAM of another size",
    "6.5 an acknowledgement that says something",
    "6.5 SETTINGS of a size that is no number of settings",
    "6.5.2 a window beyond the largest",
    "6.7 PING of another size",
    "6.9 WINDOW_UPDATE of nothing on a stream",
    "6.9 WINDOW_UPDATE of another size",
    "6.9.1 more than the window of a stream",
    "8.2.1 a name in upper case",
    "8.2.1 a name with a space",
    "8.2.1 a name with a colon",
    "8.2.1 a name of nothing",
    "8.2.1 a line feed in a name",
    "8.2.1 a line end in a value",
    "8.2.1 a line feed in a value",
    "8.2.1 a carriage return in a value",
    "8.2.1 NUL in a value",
    "8.3 an unknown pseudo-field",
    "8.3.1 a space in a method",
    "7541 2.3.3 index 0",
    "7541 2.3.3 an index beyond the tables",
    "7541 2.3.3 a name with an index beyond the tables",
    "7541 4.2 a table larger than allowed",
    "7541 4.2 a table size behind a field",
    "7541 5.1 a number without end",
    "7541 5.2 a text beyond the block",
    "7541 5.2 Huffman with more padding than a byte",
    "7541 5.2 Huffman padded by zeros",
    "7541 5.2 Huffman with its end inside",
];

pub(super) const CASES: &[Case] = &[
    case("3.4 a preface that breaks off", Text, || b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()),
    case("3.4 a request of HTTP/1.1 that says HTTP/2.0", Text, || b"GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_vec()),
    case("3.4 nothing but a preface and settings", Nothing, || client(&[])),
    case("4.1 a frame of an unknown kind", Nothing, || client(&[frame(0xbe, 0xff, 0, b"whatever")])),
    case("4.1 one on a stream", Status(1, 200), || client(&[frame(0xbe, 0xff, 1, b"whatever"), get(1)])),
    case("4.1 the reserved bit of a stream", Status(1, 200), || client(&[get(0x8000_0001)])),
    case("4.1 flags that mean nothing", Nothing, || client(&[frame(PING, 0xfe, 0, b"8 bytes.")])),
    case("4.2 data of the largest size", Status(1, 200), || client(&[post(1), data(1, END_STREAM, &[b'x'; 16384])])),
    case("4.2 data beyond it", Goaway(FRAME_SIZE), || client(&[post(1), data(1, END_STREAM, &[b'x'; 16385])])),
    case("4.2 headers beyond it", Goaway(FRAME_SIZE), || client(&[frame(HEADERS, BOTH, 1, &[0; 16385])])),
    case("4.2 an unknown frame beyond it", Goaway(FRAME_SIZE), || client(&[frame(0xbe, 0, 0, &[0; 16385])])),
    case("4.3 a header block that is none", Goaway(COMPRESSION), || client(&[frame(HEADERS, BOTH, 1, &[0xff; 5])])),
    case("4.3 PRIORITY inside a header block", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), priority(1, 0), frame(CONTINUATION, END_HEADERS, 1, &[])])
    }),
    case("4.3 PING inside a header block", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), frame(PING, 0, 0, b"8 bytes.")])
    }),
    case("4.3 headers of another stream inside a header block", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), get(3)])
    }),
    case("4.3 data inside a header block", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, 0, 1, &block(GET)), data(1, END_STREAM, b"x")])
    }),
    case("4.3 a continuation of another stream", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), frame(CONTINUATION, END_HEADERS, 3, &[])])
    }),
    case("4.3 an unknown frame inside a header block", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), frame(0xbe, 0, 1, &[])])
    }),
    case("5.1 data on an idle stream", Goaway(PROTOCOL), || client(&[data(1, END_STREAM, b"x")])),
    case("5.1 RST_STREAM on an idle stream", Goaway(PROTOCOL), || client(&[reset(1, 8)])),
    case("5.1 WINDOW_UPDATE on an idle stream", Goaway(PROTOCOL), || client(&[window(1, 100)])),
    case("5.1 CONTINUATION on an idle stream", Goaway(PROTOCOL), || {
        client(&[frame(CONTINUATION, END_HEADERS, 1, &block(GET))])
    }),
    case("5.1 PRIORITY on an idle stream", Nothing, || client(&[priority(1, 0)])),
    case("5.1 data on a half-closed stream", Reset(STREAM_CLOSED), || client(&[never(1), data(1, END_STREAM, b"x")])),
    case("5.1 headers on a half-closed stream", Reset(STREAM_CLOSED), || client(&[never(1), get(1)])),
    case("5.1 CONTINUATION on a half-closed stream", Goaway(PROTOCOL), || {
        client(&[never(1), frame(CONTINUATION, END_HEADERS, 1, &block(GET))])
    }),
    case("5.1 WINDOW_UPDATE on a half-closed stream", Nothing, || client(&[never(1), window(1, 1)])),
    case("5.1 PRIORITY on a half-closed stream", Nothing, || client(&[never(1), priority(1, 0)])),
    case("5.1 RST_STREAM on a half-closed stream", Nothing, || client(&[never(1), reset(1, 8)])),
    case("5.1 data on a closed stream", Reset(STREAM_CLOSED), || {
        client(&[post(1), reset(1, 8), data(1, END_STREAM, b"x")])
    }),
    case("5.1 headers on a closed stream", Reset(STREAM_CLOSED), || client(&[never(1), reset(1, 8), get(1)])),
    case("5.1 CONTINUATION on a closed stream", Goaway(PROTOCOL), || {
        client(&[never(1), reset(1, 8), frame(CONTINUATION, END_HEADERS, 1, &block(GET))])
    }),
    case("5.1 WINDOW_UPDATE on a closed stream", Nothing, || client(&[never(1), reset(1, 8), window(1, 1)])),
    case("5.1 PRIORITY on a closed stream", Nothing, || client(&[never(1), reset(1, 8), priority(1, 0)])),
    case("5.1 RST_STREAM on a closed stream", Nothing, || client(&[never(1), reset(1, 8), reset(1, 8)])),
    case("5.1.1 a stream with an even number", Goaway(PROTOCOL), || client(&[get(2)])),
    case("5.1.1 a smaller number than before", Goaway(STREAM_CLOSED), || client(&[never(5), get(3)])),
    case("5.1.1 numbers that are left out", Status(101, 200), || client(&[get(101)])),
    case("5.1.2 more streams than there may be", Reset(REFUSED_STREAM), || {
        client(&(0..129).map(|index| never(2 * index + 1)).collect::<Vec<_>>())
    }),
    case("5.1.2 as many as there may be", Status(257, 200), || {
        let streams = (0..127).map(|index| never(2 * index + 1));
        client(&streams.chain([get(257)]).collect::<Vec<_>>())
    }),
    case("5.1.2 others once those are reset", Status(301, 200), || {
        let streams = (0..60).map(|index| never(2 * index + 1)).chain((0..60).map(|index| reset(2 * index + 1, 8)));
        client(&streams.chain([get(301)]).collect::<Vec<_>>())
    }),
    case("5.1.2 more streams opened and reset at once than anybody needs", Goaway(CALM), || {
        client(&(0..1000).flat_map(|index| [never(2 * index + 1), reset(2 * index + 1, 8)]).collect::<Vec<_>>())
    }),
    case("6.1 data on stream 0", Goaway(PROTOCOL), || client(&[data(0, 0, b"x")])),
    case("6.1 padded data", Status(1, 200), || {
        client(&[post(1), data(1, PADDED | END_STREAM, b"\x05hello\0\0\0\0\0")])
    }),
    case("6.1 data that is nothing but padding", Status(1, 200), || {
        client(&[post(1), data(1, PADDED | END_STREAM, b"\x03\0\0\0")])
    }),
    case("6.1 more padding than data", Goaway(PROTOCOL), || {
        client(&[post(1), data(1, PADDED | END_STREAM, b"\x05hell")])
    }),
    case("6.1 padded data without the length of the padding", End, || {
        client(&[post(1), data(1, PADDED | END_STREAM, b"")])
    }),
    case("6.2 headers on stream 0", Goaway(PROTOCOL), || client(&[frame(HEADERS, BOTH, 0, &block(GET))])),
    case("6.2 padded headers", Status(1, 200), || {
        client(&[frame(HEADERS, BOTH | PADDED, 1, &[&[2][..], &block(GET), &[0, 0]].concat())])
    }),
    case("6.2 more padding than headers", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, BOTH | PADDED, 1, &[&[255][..], &block(GET)].concat())])
    }),
    case("6.2 headers with a priority", Status(1, 200), || {
        client(&[frame(HEADERS, BOTH | WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 15][..], &block(GET)].concat())])
    }),
    case("6.2 headers too short for their priority", End, || {
        client(&[frame(HEADERS, BOTH | WITH_PRIORITY, 1, &[0, 0])])
    }),
    case("6.3 PRIORITY on stream 0", Goaway(PROTOCOL), || client(&[priority(0, 1)])),
    case("6.3 PRIORITY of another size", Reset(FRAME_SIZE), || client(&[frame(PRIORITY, 0, 1, &[0; 4])])),
    case("6.4 RST_STREAM on stream 0", Goaway(PROTOCOL), || client(&[reset(0, 8)])),
    case("6.4 RST_STREAM of another size", Goaway(FRAME_SIZE), || {
        client(&[never(1), frame(RST_STREAM, 0, 1, &[0; 3])])
    }),
    case("6.4 RST_STREAM for a reason of its own", Nothing, || client(&[never(1), reset(1, 0xdead)])),
    case("6.5 an acknowledgement that says something", Goaway(FRAME_SIZE), || {
        client(&[frame(SETTINGS, ACK, 0, &[0; 6])])
    }),
    case("6.5 SETTINGS on a stream", Goaway(PROTOCOL), || client(&[frame(SETTINGS, 0, 1, &[0; 6])])),
    case("6.5 SETTINGS of a size that is no number of settings", Goaway(FRAME_SIZE), || {
        client(&[frame(SETTINGS, 0, 0, &[0; 5])])
    }),
    case("6.5.2 ENABLE_PUSH of 2", Goaway(PROTOCOL), || client_with(&[(ENABLE_PUSH, 2)], &[])),
    case("6.5.2 ENABLE_PUSH of 0", Nothing, || client_with(&[(ENABLE_PUSH, 0)], &[])),
    case("6.5.2 a window beyond the largest", Goaway(FLOW_CONTROL), || client_with(&[(INITIAL_WINDOW, 1 << 31)], &[])),
    case("6.5.2 frames below the least size", Goaway(PROTOCOL), || client_with(&[(MAX_FRAME, 16383)], &[])),
    case("6.5.2 frames beyond the largest size", Goaway(PROTOCOL), || client_with(&[(MAX_FRAME, 1 << 24)], &[])),
    case("6.5.2 an unknown setting", Nothing, || client_with(&[(0xfafa, 7)], &[])),
    case("6.5.2 no table, no list", Status(1, 200), || client_with(&[(TABLE_SIZE, 0), (MAX_LIST, 100_000)], &[get(1)])),
    case("6.5.2 ENABLE_CONNECT_PROTOCOL of 2", Goaway(PROTOCOL), || client_with(&[(ENABLE_CONNECT, 2)], &[])),
    case("6.5.3 one setting twice: the last one is in force", Data(1), || {
        client_with(&[(INITIAL_WINDOW, 5), (INITIAL_WINDOW, 1)], &[get(1)])
    }),
    case("6.5.3 settings later on", Status(1, 200), || client(&[set(&[(MAX_FRAME, 20_000)]), get(1)])),
    case("6.6 PUSH_PROMISE from a client", Goaway(PROTOCOL), || {
        client(&[never(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(GET)].concat())])
    }),
    case("6.7 PING on a stream", Goaway(PROTOCOL), || client(&[frame(PING, 0, 1, b"8 bytes.")])),
    case("6.7 PING of another size", Goaway(FRAME_SIZE), || client(&[frame(PING, 0, 0, b"6 byte")])),
    case("6.7 an answer to a PING that was not sent", Nothing, || client(&[frame(PING, ACK, 0, b"8 bytes.")])),
    case("6.8 GOAWAY on a stream", Goaway(PROTOCOL), || client(&[frame(GOAWAY, 0, 1, &[0; 8])])),
    case("6.8 GOAWAY too short", End, || client(&[frame(GOAWAY, 0, 0, &[0; 7])])),
    case("6.8 a request before GOAWAY is answered", Status(1, 200), || client(&[get(1), frame(GOAWAY, 0, 0, &[0; 8])])),
    case("6.9 WINDOW_UPDATE of nothing", Goaway(PROTOCOL), || client(&[window(0, 0)])),
    case("6.9 WINDOW_UPDATE of nothing on a stream", Reset(PROTOCOL), || client(&[never(1), window(1, 0)])),
    case("6.9 WINDOW_UPDATE of another size", Goaway(FRAME_SIZE), || client(&[frame(WINDOW_UPDATE, 0, 0, &[0; 3])])),
    case("6.9 WINDOW_UPDATE with the reserved bit", Nothing, || client(&[window(0, 0x8000_0001)])),
    case("6.9.1 a window that grows beyond the largest", Goaway(FLOW_CONTROL), || {
        client(&[window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)])
    }),
    case("6.9.1 that of a stream", Reset(FLOW_CONTROL), || {
        client(&[never(1), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)])
    }),
    case("6.9.1 a window of one byte", Data(1), || client_with(&[(INITIAL_WINDOW, 1)], &[get(1)])),
    case("6.9.1 a window that opens later", Data(3), || client_with(&[(INITIAL_WINDOW, 0)], &[get(1), window(1, 3)])),
    case("6.9.1 more than the window of a stream", Reset(FLOW_CONTROL), || {
        let body = (0..17).map(|_| data(1, 0, &[0; 16384]));
        let stuck: &[(&str, &str)] =
            &[(":method", "POST"), (":scheme", "http"), (":path", "/never"), (":authority", "a.test")];
        client(&[frame(HEADERS, END_HEADERS, 1, &block(stuck))].into_iter().chain(body).collect::<Vec<_>>())
    }),
    case("6.9.2 a setting that moves windows", Data(2), || {
        client_with(&[(INITIAL_WINDOW, 0)], &[get(1), set(&[(INITIAL_WINDOW, 2)])])
    }),
    case("6.9.2 a setting that moves a window beyond the largest", Goaway(FLOW_CONTROL), || {
        client(&[never(1), window(1, 0x7fff_0000), set(&[(INITIAL_WINDOW, 0x7fff_ffff)])])
    }),
    case("6.10 a header block in many frames", Status(1, 200), || {
        let block = block(GET);
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, &block[..1])];
        frames.extend(block[1..].chunks(20).map(|part| frame(CONTINUATION, 0, 1, part)));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
        client(&frames)
    }),
    case("6.10 CONTINUATION behind the end of the headers", Goaway(PROTOCOL), || {
        client(&[never(1), frame(CONTINUATION, END_HEADERS, 1, &[])])
    }),
    case("6.10 CONTINUATION on stream 0", Goaway(PROTOCOL), || {
        client(&[frame(HEADERS, END_STREAM, 1, &block(GET)), frame(CONTINUATION, END_HEADERS, 0, &[])])
    }),
    case("6.10 CONTINUATION without end", Goaway(CALM), || {
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, &block(GET))];
        frames.extend((0..10_000).map(|_| frame(CONTINUATION, 0, 1, &[])));
        client(&frames)
    }),
    case("8.1 trailers", Status(1, 200), || {
        client(&[post(1), data(1, 0, b"x"), frame(HEADERS, BOTH, 1, &field("x-sum", "1"))])
    }),
    case("8.1 headers behind a body that do not end it", Reset(PROTOCOL), || {
        client(&[post(1), data(1, 0, b"x"), frame(HEADERS, END_HEADERS, 1, &field("x-sum", "1"))])
    }),
    // Such a request is malformed; h2 takes it without that field.
    case("8.1 a pseudo-field among trailers goes no further", Status(1, 200), || {
        client(&[post(1), data(1, 0, b"x"), frame(HEADERS, BOTH, 1, &field(":method", "GET"))])
    }),
    case("8.1.1 less body than promised", Reset(PROTOCOL), || {
        client(&[post_with("content-length", "5"), data(1, END_STREAM, b"four")])
    }),
    case("8.1.1 more body than promised", Reset(PROTOCOL), || {
        client(&[post_with("content-length", "3"), data(1, END_STREAM, b"four")])
    }),
    case("8.1.1 no body where one was promised", Reset(PROTOCOL), || client(&[get_with("content-length", "5")])),
    case("8.1.1 a length that is none", Reset(PROTOCOL), || {
        client(&[post_with("content-length", "x"), data(1, END_STREAM, b"four")])
    }),
    case("8.1.1 the body that was promised", Status(1, 200), || {
        client(&[post_with("content-length", "4"), data(1, 0, b"fo"), data(1, END_STREAM, b"ur")])
    }),
    case("8.2.1 a name in upper case", Reset(PROTOCOL), || client(&[get_with("X-Test", "1")])),
    case("8.2.1 a name with a space", Reset(PROTOCOL), || client(&[get_with("x test", "1")])),
    case("8.2.1 a name with a colon", Reset(PROTOCOL), || client(&[get_with("x:test", "1")])),
    case("8.2.1 a name of nothing", Reset(PROTOCOL), || client(&[get_with("", "1")])),
    case("8.2.1 a line feed in a name", Reset(PROTOCOL), || client(&[get_with("x\ny", "1")])),
    case("8.2.1 a line end in a value", Reset(PROTOCOL), || client(&[get_with("x-test", "1\r\nx-smuggled: 1")])),
    case("8.2.1 a line feed in a value", Reset(PROTOCOL), || client(&[get_with("x-test", "1\n2")])),
    case("8.2.1 a carriage return in a value", Reset(PROTOCOL), || client(&[get_with("x-test", "1\r2")])),
    case("8.2.1 NUL in a value", Reset(PROTOCOL), || client(&[get_with("x-test", "1\x002")])),
    case("8.2.1 a value of other bytes", Status(1, 200), || client(&[get_raw(&raw_field(b"x-test", b"\xc3\xa9\xff"))])),
    case("8.2.2 connection", Reset(PROTOCOL), || client(&[get_with("connection", "x-test")])),
    case("8.2.2 keep-alive", Reset(PROTOCOL), || client(&[get_with("keep-alive", "5")])),
    case("8.2.2 proxy-connection", Reset(PROTOCOL), || client(&[get_with("proxy-connection", "close")])),
    case("8.2.2 transfer-encoding", Reset(PROTOCOL), || {
        client(&[post_with("transfer-encoding", "chunked"), data(1, END_STREAM, b"0\r\n\r\n")])
    }),
    case("8.2.2 upgrade", Reset(PROTOCOL), || client(&[get_with("upgrade", "h2c")])),
    case("8.2.2 te of something else", Reset(PROTOCOL), || client(&[get_with("te", "gzip")])),
    case("8.2.2 te of trailers", Status(1, 200), || client(&[get_with("te", "trailers")])),
    case("8.2.2 what looks like transfer-encoding", Status(1, 400), || {
        client(&[post_with("transfer_encoding", "chunked"), data(1, END_STREAM, b"0\r\n\r\n")])
    }),
    case("8.2.2 what looks like content-length", Status(1, 400), || client(&[get_with("content_length", "5")])),
    case("8.3 an unknown pseudo-field", Reset(PROTOCOL), || client(&[get_with(":test", "1")])),
    case("8.3 that of a response", Reset(PROTOCOL), || client(&[get_with(":status", "200")])),
    case("8.3 a pseudo-field behind a field", Reset(PROTOCOL), || {
        client(&[request(
            1,
            &[(":method", "GET"), (":scheme", "http"), ("x-test", "1"), (":path", "/"), (":authority", "a")],
        )])
    }),
    case("8.3.1 no method", Reset(PROTOCOL), || client(&[request(1, &GET[1..])])),
    case("8.3.1 no scheme", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "GET"), (":path", "/"), (":authority", "a.test")])])
    }),
    case("8.3.1 no path", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a.test")])])
    }),
    case("8.3.1 an empty path", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a.test")])])
    }),
    case("8.3.1 a path without a slash", Status(1, 400), || {
        client(&[request(1, &[(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a.test")])])
    }),
    case("8.3.1 a line end in a path", Reset(PROTOCOL), || {
        client(&[request(
            1,
            &[(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1\r\nx: "), (":authority", "a.test")],
        )])
    }),
    case("8.3.1 a space in a method", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "GET /x"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")])])
    }),
    case("8.3.1 two methods", Reset(PROTOCOL), || client(&[request(1, &[GET, &GET[..1]].concat())])),
    case("8.3.1 two schemes", Reset(PROTOCOL), || client(&[request(1, &[GET, &GET[1..2]].concat())])),
    case("8.3.1 two paths", Reset(PROTOCOL), || client(&[request(1, &[GET, &GET[2..3]].concat())])),
    case("8.3.1 two authorities", Reset(PROTOCOL), || client(&[request(1, &[GET, &GET[3..]].concat())])),
    case("8.3.1 neither authority nor host", Status(1, 400), || client(&[request(1, &GET[..3])])),
    case("8.3.1 a host without an authority", Status(1, 200), || {
        client(&[request(1, &[&GET[..3], &[("host", "a.test")]].concat())])
    }),
    case("8.3.1 a host that is the authority", Status(1, 200), || client(&[get_with("host", "A.test")])),
    case("8.3.1 a host that is another one", Status(1, 400), || client(&[get_with("host", "b.test")])),
    case("8.3.1 two hosts", Status(1, 400), || {
        client(&[request(1, &[GET, &[("host", "a.test"), ("host", "a.test")]].concat())])
    }),
    case("8.3.1 an authority with a user", Status(1, 400), || {
        client(&[request(1, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "me@a.test")])])
    }),
    case("8.3.1 an authority that is none", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a test")])])
    }),
    case("8.5 CONNECT with a path", Reset(PROTOCOL), || {
        client(&[request(1, &[(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")])])
    }),
    case("8.5 a protocol without CONNECT", Reset(PROTOCOL), || client(&[get_with(":protocol", "websocket")])),
    case("7541 2.3.3 index 0", Goaway(COMPRESSION), || client(&[get_raw(&[0x80])])),
    case("7541 2.3.3 an index beyond the tables", Goaway(COMPRESSION), || client(&[get_raw(&[0xc6])])),
    case("7541 2.3.3 a name with an index beyond the tables", Goaway(COMPRESSION), || {
        client(&[get_raw(&[0x40 | 0x3f, 0x20, 1, b'x'])])
    }),
    case("7541 4.2 a table larger than allowed", Goaway(COMPRESSION), || {
        client(&[frame(HEADERS, BOTH, 1, &[&[0x3f, 0xe2, 0x1f][..], &block(GET)].concat())])
    }),
    case("7541 4.2 a table size behind a field", Goaway(COMPRESSION), || client(&[get_raw(&[0x3f, 0x01])])),
    case("7541 4.2 a smaller table", Status(1, 200), || {
        client(&[frame(HEADERS, BOTH, 1, &[&[0x20][..], &block(GET)].concat())])
    }),
    case("7541 5.1 a number without end", Goaway(COMPRESSION), || client(&[get_raw(&[0xff; 12])])),
    case("7541 5.2 a text beyond the block", Goaway(COMPRESSION), || client(&[get_raw(&[0, 1, b'x', 100, b'y'])])),
    case("7541 5.2 Huffman with more padding than a byte", Goaway(COMPRESSION), || {
        client(&[get_raw(&[0, 1, b'x', 0x82, 0x1f, 0xff])])
    }),
    case("7541 5.2 Huffman padded by zeros", Goaway(COMPRESSION), || client(&[get_raw(&[0, 1, b'x', 0x81, 0x18])])),
    case("7541 5.2 Huffman with its end inside", Goaway(COMPRESSION), || {
        client(&[get_raw(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])])
    }),
    case("7541 6.1 the whole from the static table", Status(1, 200), || {
        client(&[frame(HEADERS, BOTH, 1, &[&[0x82, 0x86, 0x84, 0x41, 6][..], b"a.test"].concat())])
    }),
];
