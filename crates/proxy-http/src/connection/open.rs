//! From the first byte of a connection to the protocol that it speaks.

use super::FIRST_REQUEST;
use super::downstream::{ClientCertificate, Downstream, Identity, Security};
use crate::clock::later;
use crate::io::{Activity, ClientIo, Tls, Transport};
use crate::server::Worker;
use bytes::BytesMut;
use conn_tracker::{ClientKey, EventKind};
use proxy_route::{Settings, TlsVersion};
use proxy_tcp::{ClientSocket, HttpConnection, Timers};
use rustls::{ProtocolVersion, ServerConfig};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// A connection whose protocol is known.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) io: ClientIo,
    pub(super) client: Arc<Downstream>,
    pub(super) speaks: Speaks,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// How long a TLS handshake or the first bytes may take where no time-out says so.
const OPENING: Duration = Duration::from_secs(60);

/// What a client that speaks HTTP/2 without being asked begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection without TLS speaks, if the bytes that were received tell; as those of most do.
pub(super) fn told(connection: &HttpConnection) -> Option<Speaks> {
    connection.hello.as_ref().map_or_else(|| spoken(&connection.received), |_| None)
}

/// What begins with these bytes; `None` if it may be either.
fn spoken(received: &[u8]) -> Option<Speaks> {
    let compared = received.len().min(PREFACE.len());
    match received[..compared] == PREFACE[..compared] {
        false => Some(Speaks::Http1),
        true => (compared == PREFACE.len()).then_some(Speaks::Http2),
    }
}

/// A connection without TLS, of which is known what it speaks.
pub(super) fn plain(worker: Arc<Worker>, connection: HttpConnection, speaks: Speaks) -> Opened {
    let identity = identity(&connection, None);
    let HttpConnection { io, received, permit, .. } = connection;
    let activity = Arc::new(Activity::default());
    let io = ClientIo::new(received, Transport::Plain(io), Arc::clone(&activity));
    let client = Arc::new(Downstream::new(worker, identity, Security::Plain, activity, permit));
    Opened { io, client, speaks }
}

fn identity(connection: &HttpConnection, sni: Option<Box<str>>) -> Identity {
    let &HttpConnection { peer, client, local, port, accepted, .. } = connection;
    // The socket was accepted with the peer's address; the PROXY header's client has that of its header. Canonical: it is
    // what limits and rules see.
    let source = if peer.ip() == client { peer } else { SocketAddr::new(client, peer.port()) };
    Identity { source, local, port, sni, accepted }
}

/// Finds out what a connection speaks, ending its TLS; `None` if it is over, and reported.
pub(super) async fn open(worker: Arc<Worker>, mut connection: HttpConnection) -> Option<Opened> {
    let newest = worker.current();
    let patience = newest.generation.settings.timeouts.initial_data.unwrap_or(OPENING);
    let deadline = later(Instant::from_std(connection.accepted), patience);
    let Some(hello) = connection.hello.take() else {
        let received = std::mem::take(&mut connection.received);
        let first = tokio::select! {
            biased;
            first = worker.timers.until(Some(deadline), first_bytes(&mut connection.io, received)) => first,
            () = too_late(&worker) => return None,
        };
        let speaks;
        (connection.received, speaks) = match first {
            Ok(first) => first.ok()?,
            Err(_) => {
                worker.event(EventKind::Terminated, "initial_data_timeout", None, connection.client);
                return None;
            }
        };
        return Some(plain(worker, connection, speaks));
    };
    let identity = identity(&connection, hello.sni.map(String::into_boxed_str));
    let HttpConnection { io: socket, received, client, permit, port, .. } = connection;
    let activity = Arc::new(Activity::default());
    let name = identity.sni.as_deref();
    let routes = newest.generation.table.port(port);
    let offered = routes.and_then(|routes| newest.ports.by_name(port, routes, name));
    let (own, limit) = share(&newest.generation.settings, client);
    let handshakes = Arc::clone(newest.ports.handshakes());
    drop(newest);
    let (config, roots) = offered.unzip();
    let shaking = async {
        let Ok(_turn) = worker.timers.until(Some(deadline), handshakes.turn(own, limit)).await else {
            worker.event(EventKind::Refused, "handshake_limit", None, client);
            return None;
        };
        let shaken = handshake(&worker.timers, config, deadline, socket, &received).await;
        shaken.inspect_err(|reason| worker.event(EventKind::TlsFailed, reason, None, client)).ok()
    };
    let tls = tokio::select! {
        biased;
        tls = shaking => tls?,
        () = too_late(&worker) => return None,
    };
    worker.report.handshake();
    let session = tls.session();
    let speaks = if session.alpn_protocol() == Some(b"h2") { Speaks::Http2 } else { Speaks::Http1 };
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
        _ => TlsVersion::V1_3,
    };
    let shown = roots.flatten().map(|roots| {
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        Box::new(ClientCertificate { roots, leaf: leaf.map(|leaf| leaf.clone().into_owned()) })
    });
    let io = ClientIo::new(BytesMut::new(), Transport::Tls(tls), Arc::clone(&activity));
    let client = Arc::new(Downstream::new(worker, identity, Security::Tls(version, shown), activity, permit));
    Some(Opened { io, client, speaks })
}

/// Waits until a drain has begun and whoever has not asked for anything yet has had the time for it.
async fn too_late(worker: &Worker) {
    worker.drain.draining().await;
    worker.timers.after(Some(FIRST_REQUEST)).await;
}

/// By what key the handshakes of a client share turns, and how many turns there are; 0 is no limit.
fn share(settings: &Settings, client: IpAddr) -> (ClientKey, u32) {
    let exempt = settings.exempt.iter().any(|network| network.contains(&client));
    let limit = if exempt || !settings.enforce { 0 } else { settings.limits.handshakes };
    (settings.limits.prefixes.key(client), limit)
}

async fn handshake(
    timers: &Timers,
    config: Option<Arc<ServerConfig>>,
    deadline: Instant,
    socket: ClientSocket,
    received: &[u8],
) -> Result<Box<Tls>, &'static str> {
    let config = config.ok_or("handshake_failed")?;
    match timers.until(Some(deadline), Tls::accept(config, received, socket)).await {
        Err(_) => Err("handshake_timeout"),
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err("handshake_failed"),
        Ok(Err(_)) => Err("handshake_aborted"),
    }
}

/// Reads until the bytes are those of HTTP/2, or cannot become them.
async fn first_bytes(socket: &mut ClientSocket, mut received: BytesMut) -> io::Result<(BytesMut, Speaks)> {
    loop {
        if let Some(speaks) = spoken(&received) {
            return Ok((received, speaks));
        }
        let is_silent = received.is_empty();
        if is_silent {
            // An idle connection takes no buffer.
            poll_fn(|context| socket.poll_read_ready(context)).await?;
        }
        received.reserve(FIRST_READ);
        if socket.read_buf(&mut received).await? == 0 {
            return match is_silent {
                true => Err(io::ErrorKind::UnexpectedEof.into()),
                // Whatever it was, it is no request.
                false => Ok((received, Speaks::Http1)),
            };
        }
    }
}

const FIRST_READ: usize = 1024;
