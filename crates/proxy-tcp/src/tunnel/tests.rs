use super::*;
use bytes::Buf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// A tunnel on which nothing was said.
fn tunnel(client: TcpStream, backend: TcpStream) -> Tunnel {
    let (owed, lifespan) = (Owed::default(), Lifespan::default());
    Tunnel { client, backend, early: Bytes::new(), said: 0, owed, half_close: true, lifespan }
}

/// Sends 8 MiB through a tunnel, which must be the same at the other end.
async fn transfer(transport: &Transport) {
    let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
    let timers = Timers::new();
    let mut tunnel = Tunnel { early: Bytes::from_static(b"early"), said: 7, ..tunnel(client, backend) };
    let data: Vec<u8> = (0..8_u32 << 18).flat_map(u32::to_be_bytes).collect();
    let send = async {
        outer.write_all(&data).await.unwrap();
        outer.shutdown().await.unwrap();
    };
    let receive = async {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        server.shutdown().await.unwrap();
        got
    };
    let ((), got, (end, moved)) = tokio::join!(send, receive, tunnel.carry(transport, &timers));
    assert!(got.strip_prefix(b"early").is_some_and(|got| got == data));
    assert_eq!(end, End::Closed);
    assert_eq!(moved, Moved { up: got.len() as u64 + 7, down: 0 });
}

#[tokio::test]
async fn a_socket_is_told_what_a_second_question_needs() {
    for questions in [1, 2] {
        let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
        let owed = Owed { writes: true, acknowledgements: true };
        let (transport, timers) = (Transport::new(), Timers::new());
        let mut tunnel = Tunnel { owed, ..tunnel(client, backend) };
        let talk = async {
            for _ in 0..questions {
                outer.write_all(b"?").await.unwrap();
                server.read_exact(&mut [0]).await.unwrap();
                server.write_all(b"!").await.unwrap();
                outer.read_exact(&mut [0]).await.unwrap();
            }
            outer.shutdown().await.unwrap();
            server.shutdown().await.unwrap();
        };
        let ((), (end, moved)) = tokio::join!(talk, tunnel.carry(&transport, &timers));
        assert_eq!((end, moved), (End::Closed, Moved { up: questions, down: questions }));
        assert_eq!(tunnel.backend.nodelay().unwrap(), questions > 1);
    }
}

#[tokio::test]
async fn what_was_said_before_takes_no_memory() {
    struct Owner {
        _counted: Arc<()>,
    }
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"said"
        }
    }
    let kept = Arc::new(());
    let mut early = Bytes::from_owner(Owner { _counted: Arc::clone(&kept) });
    early.advance(4);
    let ((_outer, client), (_server, backend)) = (socket_pair().await, socket_pair().await);
    let (transport, timers) = (Transport::new(), Timers::new());
    let mut tunnel = Tunnel { early, said: 4, ..tunnel(client, backend) };
    let mut carrying = pin!(tunnel.carry(&transport, &timers));
    assert!(carrying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[tokio::test]
async fn bulk_goes_through_pipes_that_are_given_back() {
    let transport = Transport::new();
    transfer(&transport).await;
    assert_eq!((transport.leased(), transport.kept()), (0, 1));
    transfer(&transport).await;
    assert_eq!((transport.leased(), transport.kept()), (0, 1), "the one from before was used again");
}

#[tokio::test]
async fn without_a_pipe_everything_is_copied() {
    let transport = Transport::new();
    let leases: Vec<_> = std::iter::from_fn(|| transport.pipe()).collect();
    transfer(&transport).await;
    assert_eq!(transport.leased(), leases.len());
    drop(leases);
    assert_eq!(transport.leased(), 0);
}

#[tokio::test]
async fn a_tunnel_ends_that_is_half_dead_or_stuck() {
    let timers = Timers::new();
    let soon = Duration::from_millis(300);
    let mut lifespan = Lifespan { idle: Some(Duration::from_secs(3600)), ..Lifespan::default() };
    for (stuck, expected) in [(false, End::HalfDead), (true, End::Stuck)] {
        let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
        (lifespan.half_dead, lifespan.stuck) = if stuck { (soon * 1000, soon) } else { (soon, soon * 1000) };
        let mut tunnel = Tunnel { lifespan, ..tunnel(client, backend) };
        let talk = async {
            // For longer than it may be silent.
            for _ in 0..8 {
                outer.write_all(b"x").await.unwrap();
                server.read_exact(&mut [0]).await.unwrap();
                timers.after(Some(soon / 4)).await;
            }
            if stuck {
                let data = vec![0; 1 << 20];
                while let Ok(Ok(_)) = timers.within(Some(soon * 3), outer.write(&data)).await {}
            } else {
                outer.shutdown().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let transport = Transport::new();
        let carrying = tokio::time::timeout(Duration::from_secs(30), tunnel.carry(&transport, &timers));
        let (end, moved) = tokio::select! {
            carried = carrying => carried.expect("it ends"),
            () = talk => unreachable!("it talks on"),
        };
        assert_eq!(end, expected);
        assert!(moved.up >= 8);
    }
}

/// A backend says so much and ends, and the client, which may have ended before, gets all of it, without closing.
async fn end_of_backend(transport: &Transport, length: u32, client_first: bool) {
    let timers = Timers::new();
    let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
    let (mut from, mut to) = outer.split();
    let said: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
    let answer = async {
        if client_first {
            to.shutdown().await.unwrap();
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the end of the client is passed on");
        }
        server.write_all(&said).await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the other side ends too");
    };
    let carry = async {
        let mut tunnel = Tunnel { half_close: false, ..tunnel(client, backend) };
        tunnel.carry(transport, &timers).await
    };
    let receive = async {
        // By and by, so that much of it waits.
        let (mut got, mut piece) = (Vec::new(), vec![0; 10_007]);
        loop {
            tokio::task::yield_now().await;
            match from.read(&mut piece).await.unwrap() {
                0 => break got,
                count => got.extend_from_slice(&piece[..count]),
            }
        }
    };
    let ((), carried, got) = tokio::join!(answer, carry, receive);
    assert_eq!(carried, (End::Closed, Moved { up: 0, down: length.into() }), "client first: {client_first}");
    assert!(got == said, "{} of {length} bytes, client first: {client_first}", got.len());
}

#[tokio::test]
async fn without_half_close_the_end_of_a_backend_brings_all_that_it_said() {
    for copied in [false, true] {
        let transport = Transport::new();
        let _leases: Vec<_> = std::iter::from_fn(|| transport.pipe().filter(|_| copied)).collect();
        // What one read takes, exactly that, more; and what no socket takes at once.
        for length in [0, 1, 1101, 64 * 1024, 64 * 1024 + 1, 1 << 20, 16 << 20] {
            for client_first in [false, true] {
                end_of_backend(&transport, length, client_first).await;
            }
        }
    }
}

/// A tunnel without half-close whose backend has ended and takes nothing more, with what its client said on the way to it
/// and more of that behind; the client and the backend.
async fn unheard(lifespan: Lifespan) -> (Tunnel, TcpStream, TcpStream) {
    let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
    // More than any socket takes.
    let early = vec![0; 64 << 20].into();
    outer.write_all(b"and more").await.unwrap();
    client.readable().await.unwrap();
    server.write_all(b"too much").await.unwrap();
    server.shutdown().await.unwrap();
    (Tunnel { half_close: false, early, lifespan, ..tunnel(client, backend) }, outer, server)
}

#[tokio::test]
async fn a_client_that_nobody_listens_to_any_more_is_told_so_without_a_reset() {
    let (transport, timers) = (Transport::new(), Timers::new());
    let (mut tunnel, mut outer, _server) = unheard(Lifespan::default()).await;
    let speak_on = async {
        let mut answer = String::new();
        outer.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "too much");
        // More than any socket takes, so it is read.
        outer.write_all(&vec![7; 64 << 20]).await.unwrap();
        drop(outer);
    };
    let ((), (end, moved)) = tokio::join!(speak_on, tunnel.carry(&transport, &timers));
    assert_eq!((end, moved.down), (End::Closed, 8));
}

#[tokio::test]
async fn a_client_that_is_told_so_and_stays_is_closed() {
    let half_dead = Duration::from_millis(300);
    let (transport, timers) = (Transport::new(), Timers::new());
    let (mut tunnel, _outer, _server) = unheard(Lifespan { half_dead, ..Lifespan::default() }).await;
    let (end, moved) = tunnel.carry(&transport, &timers).await;
    assert_eq!((end, moved.down), (End::HalfDead, 8));
}
