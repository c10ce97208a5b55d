//! The TLS of a client's connection.
//!
//! rustls is given the buffers: records are decrypted where they were read, and encrypted to where they are written from.
//! So a connection that is idle has none.

mod buffer;

use super::take;
use buffer::Buffer;
use bytes::BytesMut;
use proxy_tcp::ClientSocket;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ServerConfig};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The end of a TLS connection that its client speaks to.
pub(crate) struct Tls {
    session: UnbufferedServerConnection,
    socket: ClientSocket,
    /// Records that have come.
    incoming: Buffer,
    /// Whether nothing can be made of them before more come.
    exhausted: bool,
    /// What was in them and was not taken.
    plain: BytesMut,
    /// Records that have to leave.
    outgoing: Buffer,
    end: End,
    said_goodbye: bool,
}

/// Whether a client may have more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// It has said that this is all.
    Closed,
    /// Its connection has ended, and nobody knows whether that was all.
    BrokenOff,
}

/// What has to be encrypted.
#[derive(Clone, Copy)]
enum Say<'a> {
    Nothing,
    Data(&'a [u8]),
    Goodbye,
}

/// What one step of a session has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Something to be read.
    Data,
    /// There is more to be looked at.
    More,
    /// Nothing is left to be looked at, and what was to be said is.
    Nothing,
}

/// As much as is encrypted at once, in bytes.
const MOST: usize = 32 * 1024;
/// What a record may have in it, and by how much it may be longer than that.
const RECORD: usize = 16 * 1024;
const OVERHEAD: usize = 64;

impl Tls {
    /// Shakes hands with a client that has sent `received`. Boxed: the state of a session is much larger than a socket.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the client says what it must not, which it is told; those of the socket.
    pub(crate) async fn accept(
        config: Arc<ServerConfig>,
        received: &[u8],
        socket: ClientSocket,
    ) -> io::Result<Box<Self>> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut tls = Box::new(Self {
            session,
            socket,
            incoming: Buffer::from(received),
            exhausted: received.is_empty(),
            plain: BytesMut::new(),
            outgoing: Buffer::default(),
            end: End::Open,
            said_goodbye: false,
        });
        poll_fn(|context| tls.poll_handshake(context)).await?;
        Ok(tls)
    }

    /// What was agreed on.
    pub(crate) fn session(&self) -> &CommonState {
        &self.session
    }

    pub(crate) const fn socket(&self) -> &ClientSocket {
        &self.socket
    }

    pub(crate) const fn socket_mut(&mut self) -> &mut ClientSocket {
        &mut self.socket
    }

    /// Whether a read has to wait for the socket.
    pub(crate) fn waits_for_socket(&self) -> bool {
        self.exhausted && self.plain.is_empty() && self.end == End::Open
    }

    /// Gives back what memory can be had again.
    pub(crate) fn rest(&mut self) {
        self.incoming.rest();
        self.outgoing.rest();
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.exhausted {
                self.step(None, Say::Nothing, context)?;
            }
            ready!(self.poll_send(context))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(context))?;
            if self.end != End::Open {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes one step, and tells the client of what it did wrong.
    fn step(&mut self, buffer: Option<&mut ReadBuf<'_>>, say: Say<'_>, context: &mut Context<'_>) -> io::Result<Found> {
        self.process(buffer, say).map_err(|error| {
            // The alert, if it can be sent: what went wrong is told anyway.
            while self.session.wants_write() && matches!(self.process(None, Say::Nothing), Ok(Found::More)) {}
            _ = self.poll_send(context);
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// Looks at one thing that has come, or says what is to be said if there is none. What is to be read goes into `buffer`
    /// first.
    fn process(&mut self, mut buffer: Option<&mut ReadBuf<'_>>, say: Say<'_>) -> Result<Found, rustls::Error> {
        let UnbufferedStatus { mut discard, state, .. } = self.session.process_tls_records(self.incoming.filled());
        let found = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    let mut payload = record.payload;
                    if let Some(buffer) = buffer.as_deref_mut().filter(|_| self.plain.is_empty()) {
                        let (now, later) = payload.split_at(payload.len().min(buffer.remaining()));
                        buffer.put_slice(now);
                        payload = later;
                    }
                    self.plain.extend_from_slice(payload);
                }
                Ok(Found::Data)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                self.outgoing.write(0, |room| match data.encode(room) {
                    Ok(count) => Ok(count),
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                });
                Ok(Found::More)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // Nothing gets past what waits to leave.
                data.done();
                Ok(Found::More)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match say {
                Say::Nothing => Ok(()),
                Say::Data(data) => encrypt(&mut traffic, data, &mut self.outgoing),
                Say::Goodbye => write(&mut self.outgoing, OVERHEAD, |room| traffic.queue_close_notify(room)),
            }
            .map(|()| Found::Nothing),
            Ok(ConnectionState::PeerClosed) => {
                self.end = End::Closed;
                Ok(Found::More)
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Found::Nothing),
            Ok(_) => Err(rustls::Error::General("early data was not asked for".to_owned())),
            Err(error) => Err(error),
        };
        self.incoming.consume(discard);
        self.exhausted = match found {
            Ok(Found::Data) => self.incoming.is_empty() && !self.session.wants_write(),
            Ok(Found::More) => false,
            Ok(Found::Nothing) | Err(_) => true,
        };
        found
    }

    /// Encrypts what is to be said.
    fn say(&mut self, say: Say<'_>, context: &mut Context<'_>) -> io::Result<()> {
        while self.step(None, say, context)? != Found::Nothing {}
        Ok(())
    }

    /// Reads what has come, or the end.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.incoming.has_memory() {
            ready!(self.socket.poll_read_ready(context))?;
        }
        let room = self.incoming.room();
        if room.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long")));
        }
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut room))?;
        let count = room.filled().len();
        self.incoming.put(count);
        match count {
            0 => self.end = End::BrokenOff,
            _ => self.exhausted = false,
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all records that have to leave.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, self.outgoing.filled()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.outgoing.consume(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

type Traffic<'a> = WriteTraffic<'a, rustls::server::ServerConnectionData>;

fn encrypt(traffic: &mut Traffic<'_>, data: &[u8], outgoing: &mut Buffer) -> Result<(), rustls::Error> {
    let ask = data.len() + OVERHEAD * (data.len() / RECORD + 1);
    write(outgoing, ask, |room| traffic.encrypt(data, room))
}

/// Has a session write records.
fn write(
    outgoing: &mut Buffer,
    ask: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), rustls::Error> {
    let mut outcome = Ok(());
    outgoing.write(ask, |room| match write(room) {
        Ok(count) => Ok(count),
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncryptError::EncryptExhausted) => {
            outcome = Err(rustls::Error::EncryptError);
            Ok(0)
        }
    });
    outcome
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.plain.is_empty() {
                return take(&mut this.plain, buffer);
            }
            while !this.exhausted {
                if this.step(Some(buffer), Say::Nothing, context)? == Found::Data {
                    return Poll::Ready(Ok(()));
                }
            }
            match this.end {
                End::Open => ready!(this.poll_receive(context))?,
                End::Closed => return Poll::Ready(Ok(())),
                End::BrokenOff => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        let mut count = 0;
        for slice in slices {
            let data = &slice[..slice.len().min(MOST - count)];
            if !data.is_empty() {
                this.say(Say::Data(data), context)?;
                count += data.len();
            }
        }
        // What the client does not take now is flushed.
        match this.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.said_goodbye = true;
            // Nobody is left to be told where it cannot be said.
            _ = this.say(Say::Goodbye, context);
        }
        ready!(this.poll_send(context))?;
        match ready!(Pin::new(&mut this.socket).poll_shutdown(context)) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
