//! Clients that come through Unix sockets.

use crate::support::backend::Backend;
use crate::support::client::in_time;
use crate::support::ports::free_port;
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, certs, eventually, on_eight_threads};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

/// The answer to one request.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the way is open");
    let mut answer = Vec::new();
    let _ = in_time("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn connect(path: &Path) -> UnixStream {
    UnixStream::connect(path).await.expect("somebody listens")
}

#[test]
fn clients_may_come_through_unix_sockets() {
    on_eight_threads(async {
        let (http, echo) = (Backend::http().await, Backend::echo().await);
        let folder = tempfile::tempdir().expect("a folder");
        let [plain, secure, raw] = [free_port(), free_port(), free_port()];
        let place = |port: u16| folder.path().join(format!("{port}.sock"));
        let text = format!(
            "bind: [\"unix:{}/{{port}}.sock\"]
maxConnectionsPerIP: 2
routes:
  - name: plain
    match: {{ ports: {plain}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {}, sendProxyProtocol: false }}] }}
  - name: secure
    match: {{ ports: {secure}, domains: [end.test] }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
  - name: raw
    match: {{ ports: {raw} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
",
            folder.path().display(),
            http.port(),
            http.port(),
            certs::inline(),
            echo.port(),
        );
        let mut proxy = Proxy::start(&text);
        let head = ask(connect(&place(plain)).await, "/head").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-forwarded-for: 127.0.0.1"), "{head}");
        let stream = TlsConnector::from(certs::client(&["http/1.1"]))
            .connect(certs::name("end.test"), connect(&place(secure)).await)
            .await
            .expect("TLS");
        assert!(ask(stream, "/").await.starts_with("HTTP/1.1 200"));
        let (_, status) = admin::get(proxy.admin, "/api/v1/status");
        assert!(status.contains(&format!("unix:{}", place(raw).display())), "{status}");

        // All of them are one client, with the limits of one: those that were answered may be about to end.
        eventually("they are over", Duration::from_secs(10), || match admin::active(proxy.admin, "global", None) {
            0 => Ok(()),
            active => Err(format!("{active} are not")),
        })
        .await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = connect(&place(raw)).await;
            stream.write_all(b"ping").await.expect("the way is open");
            let mut answer = [0; 4];
            in_time("an echo", stream.read_exact(&mut answer)).await.expect("an echo");
            held.push(stream);
        }
        let mut third = connect(&place(plain)).await;
        let ended = in_time("the end", third.read(&mut [0; 16])).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "refused");
        assert_eq!(admin::refused(proxy.admin, "client", None, "client_limit"), 1);
        // Bulk both ways through a pipe between a Unix socket and TCP.
        let bulk = vec![b'y'; 8 << 20];
        let (mut read, mut write) = held.pop().expect("two are held").into_split();
        let sending = async {
            write.write_all(&bulk).await.expect("the way is open");
            write.shutdown().await.expect("the way is open");
        };
        let receiving = async {
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.expect("a whole stream");
            got
        };
        let ((), got) = in_time("the bulk", async { tokio::join!(sending, receiving) }).await;
        assert!(got == bulk, "{} bytes came back", got.len());
        held.clear();

        // A killed one leaves its sockets behind, and the next one takes their place.
        proxy.signal(Signal::KILL);
        proxy.wait();
        assert!(place(plain).exists());
        let mut next = Proxy::start(&text);
        assert!(ask(connect(&place(plain)).await, "/").await.starts_with("HTTP/1.1 200"));
        next.signal(Signal::TERM);
        assert_eq!(next.wait(), Some(0));
        assert!(!place(plain).exists() && !place(raw).exists(), "a drained one takes them along");
    });
}

#[test]
fn operators_may_come_through_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("admin.sock");
    let text = format!(
        "bind: [\"127.0.0.1\"]\nadmin: {{ listen: \"unix:admin.sock\" }}\nroutes:\n  - name: a\n    match: {{ ports: {} }}\n    \
         action: {{ type: block }}\n",
        free_port()
    );
    let file = folder.path().join("proxy.yaml");
    std::fs::write(&file, text).expect("written");
    let mut proxy = Command::new(binary())
        .args(["run", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let asked = |wish: &str| {
        Command::new(binary())
            .args([wish, "--admin", &format!("unix:{}", place.display())])
            .output()
            .expect("it starts")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let output = asked("status");
        if output.status.success() {
            break String::from_utf8_lossy(&output.stdout).into_owned();
        }
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&output.stderr));
    };
    assert!(status.contains("readiness: ready"), "{status}");
    let mode = std::fs::metadata(&place).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its user alone");
    assert!(asked("drain").status.success());
    assert!(proxy.wait().expect("it is ours").success());
    assert!(!place.exists(), "it takes its socket along");
}
