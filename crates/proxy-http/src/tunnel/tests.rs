use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

async fn carry(
    client: DuplexStream,
    gone: impl Fn(&DuplexStream) -> bool,
    backend: DuplexStream,
    lifespan: Lifespan,
) -> End {
    copy_both(client, gone, backend, lifespan, &Timers::new(), None).await
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    // A channel of one byte makes every write a partial one.
    let (mut client, near) = duplex(1);
    let (far, mut backend) = duplex(1);
    let tunnel = tokio::spawn(carry(near, |_| false, far, Lifespan::default()));
    let (sent, received) = tokio::join!(
        async {
            client.write_all(&[7; 4096]).await.unwrap();
            client.shutdown().await.unwrap();
        },
        async {
            let mut all = Vec::new();
            backend.read_to_end(&mut all).await.unwrap();
            all
        }
    );
    assert_eq!((sent, received), ((), vec![7; 4096]));
    let mut answer = [0; 5];
    let (wrote, read) = tokio::join!(backend.write_all(b"still"), client.read_exact(&mut answer));
    wrote.unwrap();
    read.unwrap();
    assert_eq!(&answer, b"still");
    assert!(!tunnel.is_finished());
    drop(backend);
    assert_eq!(tunnel.await.unwrap(), End::Closed);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_any_byte_keeps_it() {
    let idle = Duration::from_secs(60);
    let lifespan = Lifespan { idle: Some(idle), ..Lifespan::default() };
    let (mut client, near) = duplex(64);
    let (far, mut backend) = duplex(64);
    let began = Instant::now();
    let tunnel = tokio::spawn(carry(near, |_| false, far, lifespan));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(40)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(backend.read_u8().await.unwrap(), b'x');
        tokio::time::sleep(Duration::from_secs(40)).await;
        backend.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    }
    assert_eq!(tunnel.await.unwrap(), End::Idle);
    let lasted = began.elapsed() - Duration::from_secs(240);
    assert!(lasted >= idle && lasted < idle + Duration::from_secs(1), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_is_seen_though_its_backend_takes_nothing() {
    let (mut client, near) = duplex(64);
    let (far, _backend) = duplex(64);
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gone = Arc::clone(&broken);
    let looked = move |_: &_| gone.load(std::sync::atomic::Ordering::SeqCst);
    let tunnel = tokio::spawn(carry(near, looked, far, Lifespan::default()));
    client.write_all(&[7; 128]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!tunnel.is_finished(), "as long as the client is there, it is waited for");
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(tunnel.await.unwrap(), End::Reset);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_ends_that_is_half_dead_or_stuck() {
    for (stuck, expected) in [(false, End::HalfDead), (true, End::Stuck)] {
        let (mut client, near) = duplex(64);
        let (far, mut backend) = duplex(64);
        let began = Instant::now();
        let tunnel = tokio::spawn(carry(near, |_| false, far, Lifespan::default()));
        // Not to be silent is no doubt, however long it takes.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(backend.read_u8().await.unwrap(), b'x');
        }
        if stuck {
            client.write_all(&[7; 100]).await.unwrap();
        } else {
            client.shutdown().await.unwrap();
        }
        assert_eq!(tunnel.await.unwrap(), expected);
        let lasted = began.elapsed() - Duration::from_secs(1200);
        assert!((300..302).contains(&lasted.as_secs()), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_is_no_end_of_one_side_whatever_the_reason_is() {
    for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
        let (near, far) = duplex(4096);
        let serving = tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let out = respond.send_response(http::Response::new(()), false).unwrap();
            let stream = crate::io::StreamIo::new(out, request.into_body());
            // The backend says and ends nothing.
            let (far, _backend) = duplex(64);
            let timers = Timers::new();
            let tunnel = copy_both(stream, |_| false, far, Lifespan::default(), &timers, None);
            tokio::select! {
                end = tunnel => end,
                _ = connection.accept() => panic!("there is no other stream"),
            }
        });
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let (response, mut stream) = client.send_request(http::Request::new(()), false).unwrap();
        response.await.unwrap();
        stream.send_data(bytes::Bytes::from_static(b"hello"), false).unwrap();
        let began = Instant::now();
        stream.send_reset(reason);
        assert_eq!(serving.await.unwrap(), End::Reset);
        assert!(began.elapsed() < LOOK, "{reason:?}");
    }
}
