//! Just enough of HTTP/2 for one request on a connection that then stays open.

use std::io::{self, Read, Write};

/// Sends the preface and a request, and reads until its answer is complete and both sides' settings are acknowledged.
pub(crate) fn ask(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, REQUEST));
    stream.write_all(&sent)?;
    stream.flush()?;
    let (mut answered, mut acknowledged) = (false, false);
    while !(answered && acknowledged) {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK != 0 => acknowledged = true,
            SETTINGS => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
                stream.flush()?;
            }
            // 200 is in the static table; an answer that begins otherwise is none that we want.
            HEADERS if !payload.starts_with(&[STATUS_200]) && !payload.starts_with(&TABLE_SIZE_0_STATUS_200) => {
                return Err(io::Error::other(format!("answered with the header block {payload:02x?}")));
            }
            HEADERS | DATA if id == 1 => answered |= flags & END_STREAM != 0,
            RST_STREAM | GOAWAY => return Err(io::Error::other(format!("answered with frame {kind}: {payload:02x?}"))),
            _ => {}
        }
    }
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("our frames are short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET`, `https`, `/` from the static table, and `:authority` with a literal value.
const REQUEST: &[u8] = b"\x82\x87\x84\x41\x09localhost";
const STATUS_200: u8 = 0x88;
/// What some put before their first header block: the client's table may stay empty.
const TABLE_SIZE_0_STATUS_200: [u8; 2] = [0x20, 0x88];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted {
        answers: io::Cursor<Vec<u8>>,
        written: Vec<u8>,
    }

    impl Read for Scripted {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.answers.read(bytes)
        }
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(frames: &[Vec<u8>]) -> (io::Result<()>, Vec<u8>) {
        let mut stream = Scripted { answers: io::Cursor::new(frames.concat()), written: Vec::new() };
        (ask(&mut stream), stream.written)
    }

    #[test]
    fn an_answer_is_complete_with_its_last_frame() {
        let head = frame(HEADERS, END_HEADERS, 1, &[STATUS_200]);
        let frames =
            [frame(SETTINGS, 0, 0, &[0; 6]), frame(SETTINGS, ACK, 0, &[]), head, frame(DATA, END_STREAM, 1, b"x")];
        let (outcome, written) = asked(&frames);
        outcome.unwrap();
        assert!(written.ends_with(&frame(SETTINGS, ACK, 0, &[])));
        assert!(asked(&frames[..3]).0.is_err(), "the body is missing");
    }

    #[test]
    fn refusals_are_errors() {
        for refusal in
            [frame(HEADERS, END_HEADERS, 1, &[0x8d]), frame(RST_STREAM, 0, 1, &[0; 4]), frame(GOAWAY, 0, 0, &[0; 8])]
        {
            assert!(asked(&[refusal]).0.unwrap_err().to_string().contains("answered"));
        }
    }
}
