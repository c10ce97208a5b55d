//! One client connection at a time, blocking, from any address of the loopback network.

use super::peers::{Listener, SERVER_NAME};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::{Arc, LazyLock},
    time::Duration,
};

/// A connection to a listener.
pub(crate) enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// Connects from an address, and does the handshake where the proxy terminates TLS.
    pub(crate) fn connect(from: Ipv4Addr, listener: Listener, port: u16) -> io::Result<Self> {
        Self::over(connect(from, port)?, listener)
    }

    /// The same on a connection that is there already.
    pub(crate) fn over(stream: TcpStream, listener: Listener) -> io::Result<Self> {
        if !listener.terminates() {
            return Ok(Self::Plain(stream));
        }
        let mut stream = StreamOwned::new(tls(listener)?, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Sends a request and reads its answer to the last byte.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.write_all(request)?;
        self.flush()?;
        self.answer()
    }

    /// Reads the answer to what was asked, to its last byte.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Vec::with_capacity(2048);
        let head = loop {
            if let Some(end) = find(&answer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut answer)?;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("this is no HTTP: {text:?}")))?;
        let length: Option<usize> =
            text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        while length.is_some_and(|length| answer.len() < head + length) {
            self.more(&mut answer)?;
        }
        Ok(Answer { status, closes: text.contains("connection: close") })
    }

    /// Sends a request whose answer the backend never ends, and reads its beginning: a request under way, for as long
    /// as the connection lives.
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        self.write_all(HELD)?;
        self.flush()?;
        let mut answer = Vec::new();
        while answer.len() < 12 {
            self.more(&mut answer)?;
        }
        match answer.starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(io::Error::other(format!("answered {:?}", String::from_utf8_lossy(&answer[..12])))),
        }
    }

    /// Reads until the other side has closed.
    pub(crate) fn until_closed(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Some close TLS without saying so inside it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The connection below TLS.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut next = [0; 4096];
        match self.read(&mut next)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                bytes.extend_from_slice(&next[..length]);
                Ok(())
            }
        }
    }
}

impl Read for Client {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What a proxy answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it said that it will close the connection.
    pub(crate) closes: bool,
}

/// A TCP connection from an address.
pub(crate) fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if from != Ipv4Addr::LOCALHOST {
        socket.bind(&SockAddr::from(SocketAddrV4::new(from, 0)))?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.connect(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Has the close of a connection reset it, so that neither side keeps its port in TIME_WAIT.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// The first bytes of a client that asks for TLS, for listeners that do not decrypt.
pub(crate) fn hello() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tls(Listener::Tls)?.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// Where a text begins in another.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn tls(listener: Listener) -> io::Result<ClientConnection> {
    static HTTP1: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| config(b"http/1.1"));
    static HTTP2: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| config(b"h2"));
    let config = if listener == Listener::H2 { &HTTP2 } else { &HTTP1 };
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}

/// TLS 1.3 with one group and one cipher, the one that browsers put first, so that every proxy has the same work; and
/// without resumption.
fn config(alpn: &[u8]) -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).expect("the cipher is one of TLS 1.3");
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// The load talks to this machine alone, and spends no time on who answers.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A request after which the connection may be used again.
pub(crate) const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// A request after which the proxy, or the backend behind a TCP route, closes.
pub(crate) const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const HELD: &[u8] = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::backend::Backend;
    use super::*;

    #[test]
    fn kept_connections_are_asked_again_and_last_ones_are_closed() {
        let backend = Backend::start().unwrap();
        let mut client = Client::connect(Ipv4Addr::new(127, 9, 8, 7), Listener::Http, backend.port()).unwrap();
        for _ in 0..2 {
            assert_eq!(client.ask(KEPT).unwrap(), Answer { status: 200, closes: false });
        }
        assert_eq!(client.ask(LAST).unwrap(), Answer { status: 200, closes: true });
        client.until_closed().unwrap();
        assert!(client.ask(KEPT).is_err());
    }

    #[test]
    fn a_held_request_does_not_end() {
        let backend = Backend::start().unwrap();
        let mut client = Client::connect(Ipv4Addr::LOCALHOST, Listener::Http, backend.port()).unwrap();
        client.hold().unwrap();
        client.socket().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = client.until_closed().unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }

    #[test]
    fn a_hello_is_a_handshake_record() {
        assert_eq!(hello().unwrap()[..2], [22, 3]);
    }
}
