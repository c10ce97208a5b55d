use super::*;
use crate::io::{Activity, ClientIo, Transport};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// What a client and the proxy are configured with.
fn configs(version: &'static SupportedProtocolVersion) -> (ClientConfig, ServerConfig) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (own, key) = certificate();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots(own))
        .with_no_client_auth();
    (client, server)
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let own = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    (own.cert.der().clone(), PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der())))
}

fn roots(only: CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(only).unwrap();
    Arc::new(roots)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("shop.test").unwrap()
}

/// A client, and the proxy's end of its connection.
async fn sockets() -> (TcpStream, ClientSocket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    (socket, ClientSocket::from(listener.accept().await.unwrap().0))
}

/// A client over `wrap` of its socket, and the proxy's end of its connection.
async fn connected<W: AsyncRead + AsyncWrite + Unpin>(
    version: &'static SupportedProtocolVersion,
    wrap: impl FnOnce(TcpStream) -> W,
) -> (TlsStream<W>, Box<Tls>) {
    connected_as(configs(version), wrap).await
}

async fn connected_as<W: AsyncRead + AsyncWrite + Unpin>(
    (client, server): (ClientConfig, ServerConfig),
    wrap: impl FnOnce(TcpStream) -> W,
) -> (TlsStream<W>, Box<Tls>) {
    let (socket, accepted) = sockets().await;
    let (client, tls) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name(), wrap(socket)),
        Tls::accept(Arc::new(server), &[], accepted),
    );
    (client.unwrap(), tls.unwrap())
}

/// What a client has to send.
fn records(session: &mut ClientConnection) -> Vec<u8> {
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    records
}

/// Takes one byte with each write.
struct Dribbling(TcpStream);

impl AsyncRead for Dribbling {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Dribbling {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, &bytes[..1])
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn a_client_that_dribbles_is_understood() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version, Dribbling).await;
        let mut got = [0; 7];
        let (sent, read) = tokio::join!(client.write_all(b"request"), tls.read_exact(&mut got));
        sent.unwrap();
        read.unwrap();
        assert_eq!(&got, b"request");
    }
}

#[tokio::test]
async fn much_goes_both_ways_at_once_and_leaves_no_memory_behind() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version, |socket| socket).await;
        let data: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let ours = async {
            let (mut read, mut write) = tokio::io::split(&mut tls);
            let mut got = vec![0; data.len()];
            let (sent, read) = tokio::join!(
                async {
                    write.write_all(&data).await?;
                    write.flush().await
                },
                // Pieces of another size than records.
                async {
                    for piece in got.chunks_mut(777) {
                        read.read_exact(piece).await?;
                    }
                    io::Result::Ok(())
                },
            );
            sent.unwrap();
            read.unwrap();
            assert!(got == data);
        };
        let theirs = async {
            let (mut read, mut write) = tokio::io::split(&mut client);
            let mut got = vec![0; data.len()];
            let (sent, read) = tokio::join!(
                async {
                    write.write_all(&data).await?;
                    write.flush().await
                },
                read.read_exact(&mut got),
            );
            sent.unwrap();
            read.unwrap();
            assert!(got == data);
        };
        tokio::join!(ours, theirs);
        assert!(tls.incoming.has_memory() && tls.outgoing.has_memory());
        tls.rest();
        assert!(!tls.incoming.has_memory() && !tls.outgoing.has_memory() && tls.plain.is_empty());
    }
}

#[tokio::test]
async fn a_tunnel_that_is_silent_has_no_memory() {
    let (mut client, tls) = connected(&version::TLS13, |socket| socket).await;
    let mut io = ClientIo::new(BytesMut::new(), Transport::Tls(tls), Arc::new(Activity::default()));
    io.become_tunnel();
    let has_memory = |io: &ClientIo| match &io.transport {
        Transport::Tls(tls) => (tls.incoming.has_memory(), tls.outgoing.has_memory()),
        Transport::Plain(_) => unreachable!("it is encrypted"),
    };
    for _ in 0..2 {
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        io.read_exact(&mut got).await.unwrap();
        io.write_all(b"pong").await.unwrap();
        assert_eq!(has_memory(&io), (true, true));
        poll_fn(|context| {
            assert!(Pin::new(&mut io).poll_read(context, &mut ReadBuf::new(&mut [0])).is_pending());
            Pin::new(&mut io).poll_flush(context)
        })
        .await
        .unwrap();
        assert_eq!(has_memory(&io), (false, false));
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_waited_for_in_bounded_memory() {
    let (mut client, mut tls) = connected(&version::TLS13, |socket| socket).await;
    let data = vec![7; 16 << 20];
    let mut sent = 0;
    poll_fn(|context| {
        while let Poll::Ready(count) = Pin::new(&mut *tls).poll_write(context, &data[sent..]) {
            sent += count.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(sent < data.len(), "no socket has room for so much");
    assert!(tls.outgoing.filled().len() <= MOST + 3 * OVERHEAD);
    let mut got = vec![0; data.len()];
    let rest = async {
        tls.write_all(&data[sent..]).await?;
        tls.flush().await
    };
    let (rest, read) = tokio::join!(rest, client.read_exact(&mut got));
    rest.unwrap();
    read.unwrap();
    assert!(got == data);
}

#[tokio::test]
async fn keys_are_changed_when_the_client_changes_its_own() {
    let (mut client, mut tls) = connected(&version::TLS13, |socket| socket).await;
    for _ in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        tls.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
        tls.write_all(b"pong").await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
    }
}

#[tokio::test]
async fn the_end_is_told_from_a_connection_that_broke_off() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version, |socket| socket).await;
        client.write_all(b"all").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        tls.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"all");
        assert_eq!(tls.read(&mut [0]).await.unwrap(), 0, "it stays the end");
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            tls.write_all(b"answer").await.unwrap();
            tls.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer", "and the end of it is said");
        }

        let (mut client, mut tls) = connected(version, |socket| socket).await;
        client.write_all(b"not all").await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        let mut got = Vec::new();
        let error = tls.read_to_end(&mut got).await.unwrap_err();
        assert_eq!((&got[..], error.kind()), (&b"not all"[..], io::ErrorKind::UnexpectedEof));
    }
}

#[tokio::test]
async fn a_client_is_told_of_what_it_did_wrong() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version, |socket| socket).await;
        // Data that nobody has encrypted.
        client
            .get_mut()
            .0
            .write_all(&[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        assert_eq!(tls.read(&mut [0; 10]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let error = client.read(&mut [0; 10]).await.unwrap_err();
        assert!(error.to_string().contains("fatal alert"), "{error}");
        assert!(tls.write(b"answer").await.is_err());
    }
}

#[tokio::test]
async fn who_leaves_while_it_shakes_hands_has_broken_off() {
    for version in VERSIONS {
        let (client, server) = configs(version);
        let hello = records(&mut ClientConnection::new(Arc::new(client), name()).unwrap());
        let (mut socket, accepted) = sockets().await;
        socket.shutdown().await.unwrap();
        let error = Tls::accept(Arc::new(server), &hello[..hello.len() / 2], accepted).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn many_records_at_once_are_read_up_to_the_end_and_no_further() {
    for version in VERSIONS {
        let (mut client, mut tls) = connected(version, |socket| socket).await;
        let (socket, session) = client.get_mut();
        let mut all = Vec::new();
        for byte in (0..=255).cycle().take(5000) {
            session.writer().write_all(&[byte]).unwrap();
            all.append(&mut records(session));
        }
        session.send_close_notify();
        all.append(&mut records(session));
        all.extend_from_slice(b"what is no record");
        let mut got = Vec::new();
        let (sent, read) = tokio::join!(socket.write_all(&all), tls.read_to_end(&mut got));
        sent.unwrap();
        read.unwrap();
        assert!(got == (0..=255).cycle().take(5000).collect::<Vec<u8>>());
        tls.write_all(b"answer").await.unwrap();
        tls.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn new_keys_without_end_take_no_memory() {
    let (mut client, mut tls) = connected(&version::TLS13, |socket| socket).await;
    for _ in 0..500 {
        let (socket, session) = client.get_mut();
        session.refresh_traffic_keys().unwrap();
        session.writer().write_all(b"x").unwrap();
        socket.write_all(&records(session)).await.unwrap();
        assert_eq!(tls.read_u8().await.unwrap(), b'x');
        assert!(tls.outgoing.is_empty() && !tls.session.wants_write(), "one answer is enough, with the next data");
    }
    let (socket, session) = client.get_mut();
    for _ in 0..100 {
        session.refresh_traffic_keys().unwrap();
    }
    socket.write_all(&records(session)).await.unwrap();
    assert_eq!(tls.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData, "nothing but keys is too much");
}

#[tokio::test]
async fn a_client_may_show_many_certificates() {
    for version in VERSIONS {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let ((own, key), (shown, shown_key)) = (certificate(), certificate());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(shown.clone()), Arc::clone(&provider)).build().unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![own.clone()], key)
            .unwrap();
        // As large as a message may be.
        let chain = vec![shown.clone(); 63_000 / shown.len()];
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots(own))
            .with_client_auth_cert(chain.clone(), shown_key)
            .unwrap();
        let (_, tls) = connected_as((client, server), |socket| socket).await;
        assert_eq!(tls.session().peer_certificates().unwrap(), chain);
    }
}
