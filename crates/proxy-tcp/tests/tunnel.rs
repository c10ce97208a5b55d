//! Connections that are passed on to a backend, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use proxy_route::Settings;
use support::{backend, pair, start, tcp, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BULK: usize = 64 << 20;

/// Bytes that are told apart from themselves moved by any small distance.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    (0..BULK / 4).flat_map(|_| next(&mut state)).collect()
}

#[tokio::test]
async fn carries_64_mib_both_ways_at_once() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (client, server) = pair(&proxy, &listener).await;
    let data = pattern();
    let exchange = |stream: tokio::net::TcpStream| {
        let data = &data;
        async move {
            let (mut out, mut into) = stream.into_split();
            let mut got = Vec::with_capacity(BULK);
            let (written, read) = tokio::join!(
                async {
                    into.write_all(data).await?;
                    into.shutdown().await
                },
                out.read_to_end(&mut got)
            );
            written.unwrap();
            read.unwrap();
            assert!(got == *data, "the bytes came as they were sent");
        }
    };
    tokio::join!(exchange(client), exchange(server));
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    assert_eq!((proxy.tracker.opened(), proxy.tracker.bound()), (1, 1));
    assert_eq!(proxy.heard.reasons(), []);
}
