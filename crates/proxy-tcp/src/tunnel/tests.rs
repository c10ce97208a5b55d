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

/// Sends 8 MiB through a tunnel, which must be the same at the other end.
async fn transfer(transport: &Transport) {
    let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
    let (lifespan, timers) = (Lifespan::default(), Timers::new());
    let mut tunnel =
        Tunnel { client, backend, early: Bytes::from_static(b"early"), said: 7, owed: Owed::default(), lifespan };
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
        let mut tunnel = Tunnel { client, backend, early: Bytes::new(), said: 0, owed, lifespan: Lifespan::default() };
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
    let mut tunnel = Tunnel { client, backend, early, said: 4, owed: Owed::default(), lifespan: Lifespan::default() };
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
        let mut tunnel = Tunnel { client, backend, early: Bytes::new(), said: 0, owed: Owed::default(), lifespan };
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
