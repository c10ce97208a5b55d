//! The access log: every request and every connection that is passed on has its line, once, with what it was.

use crate::support::backend::Backend;
use crate::support::client::{self, hold_http, in_time, ping, tcp, tls};
use crate::support::ports::{free_port, local};
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, certs, eventually, on_eight_threads};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// A proxy whose access log is in a folder that outlives it.
struct Logged {
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl Logged {
    fn start(settings: &str, routes: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]\naccessLog: {{ path: {file:?}, format: json{settings} }}\nroutes:\n{routes}"
        ));
        Self { proxy, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// Ends the proxy in order; every line.
    fn end(mut self) -> Vec<Value> {
        self.proxy.signal(Signal::TERM);
        assert_eq!(self.proxy.wait(), Some(0));
        lines(&self.file())
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn route(name: &str, port: u16, backend: u16, rest: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {port}{} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}]{rest} }}
",
        if name.starts_with("http") { ", protocol: http" } else { "" }
    )
}

/// One request over HTTP/1.1 on a connection of its own; the whole answer.
async fn ask(port: u16, head: &str, body: &str) -> String {
    let mut stream = tcp(local(port)).await.expect("accepted");
    let text =
        format!("{head} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.expect("the way is open");
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {answer}"))[name.len() + 2..].trim()
}

#[test]
fn every_way_through_the_proxy_has_its_line() {
    on_eight_threads(async {
        let [http, sockets, echo, tls_echo] =
            [Backend::http().await, Backend::websocket().await, Backend::echo().await, Backend::tls_echo().await];
        let ports: [u16; 7] = std::array::from_fn(|_| free_port());
        let [plain, secure, socket, raw, through, tight, gone] = ports;
        let terminate = format!(", tls: {{ mode: terminate, certificate: {} }}", certs::inline());
        let routes = [
            route("http-plain", plain, http.port(), ""),
            route("secure", secure, http.port(), &terminate),
            route("http-socket", socket, sockets.port(), ""),
            route("raw", raw, echo.port(), ""),
            route("through", through, tls_echo.port(), ", tls: { mode: passthrough }"),
            route("http-tight", tight, http.port(), "") + "    security: { maxConnectionsPerIP: 1 }\n",
            route("http-gone", gone, free_port(), ""),
        ];
        let logged = Logged::start("", &routes.concat());

        let answer = ask(plain, "POST /sink?secret=1", "hello").await;
        let plain_id = header(&answer, "x-request-id").to_owned();
        let plain_sent = answer.split_once("\r\n\r\n").expect("a body").1.len();
        let seen = ask(plain, "GET /head/x\"y", "").await;
        assert_eq!(header(&seen, "x-request-id").len(), 32);
        assert_eq!(seen.matches(header(&seen, "x-request-id")).count(), 2, "the backend was told the same: {seen}");

        let stream = tls(tcp(local(secure)).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
        let mut sender = client::http2(stream).await;
        let body = BodyExt::boxed(Empty::<Bytes>::new().map_err(|never| match never {}));
        let request = Request::get("https://end.test/source/100000").body(body).expect("a request");
        let answer = in_time("the answer", sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes().len(), 100_000);
        drop(sender);

        let stream = tcp(local(socket)).await.expect("accepted");
        let (mut talk, _) = tokio_tungstenite::client_async("ws://a.test/chat", stream).await.expect("an upgrade");
        talk.send(Message::text("hello")).await.expect("open");
        talk.next().await.expect("open").expect("an echo");
        talk.close(None).await.expect("open");
        while let Some(Ok(_)) = in_time("the close", talk.next()).await {}
        drop(talk);

        let mut stream = ping(tcp(local(raw)).await.expect("accepted")).await.expect("an echo");
        stream.shutdown().await.expect("open");
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.expect("an end"), 0);
        let mut stream = tls(tcp(local(through)).await.expect("accepted"), "pass.test", &[]).await.expect("TLS");
        stream = ping(stream).await.expect("an echo");
        drop(stream);

        let held = hold_http(tcp(local(tight)).await.expect("accepted"), "a.test").await.expect("held");
        let refused = ask(tight, "GET /more", "").await;
        drop(held);
        let failed = ask(gone, "GET /gone", "").await;
        for (answer, status) in [(&refused, "429"), (&failed, "502")] {
            assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
            let told = format!("(request id {})\n", header(answer, "x-request-id"));
            assert!(answer.ends_with(&told), "{answer}");
        }

        // A request that the client left ends when that is noticed.
        eventually("every line is there", Duration::from_secs(10), || {
            let count = lines(&logged.file()).len();
            if count == 9 { Ok(()) } else { Err(format!("{count} lines")) }
        })
        .await;
        let lines = logged.end();
        assert_eq!(lines.len(), 9, "{lines:#?}");
        let of = |route: &str, path: Option<&str>| {
            let fits = |line: &&Value| line["route"] == route && path.is_none_or(|path| line["path"] == path);
            let found: Vec<_> = lines.iter().filter(fits).collect();
            assert_eq!(found.len(), 1, "{route} {path:?}: {lines:#?}");
            found[0].clone()
        };
        let line = of("http-plain", Some("/sink"));
        assert_eq!(line["requestId"], plain_id.as_str());
        assert_eq!(
            (&line["method"], &line["host"], &line["client"]),
            (&"POST".into(), &"a.test".into(), &"127.0.0.1".into())
        );
        let expect = |line: Value, status: Option<u16>, end: &str, received: usize, sent: usize, protocol: &str| {
            assert_eq!(line["status"], status.map_or(Value::Null, Value::from), "{line}");
            assert_eq!((&line["end"], &line["protocol"]), (&end.into(), &protocol.into()), "{line}");
            assert_eq!((&line["received"], &line["sent"]), (&received.into(), &sent.into()), "{line}");
        };
        expect(line, Some(200), "complete", 5, plain_sent, "HTTP/1.1");
        expect(of("secure", None), Some(200), "complete", 0, 100_000, "HTTP/2.0");
        // Two bytes of head per frame, and four of mask from the client: the text, and the close.
        expect(of("http-socket", None), Some(101), "closed", 17, 9, "HTTP/1.1");
        expect(of("raw", None), None, "closed", 4, 4, "tcp");
        let line = of("through", None);
        assert_eq!((&line["sni"], &line["protocol"]), (&"pass.test".into(), &"tls".into()));
        assert!(line["received"].as_u64() > Some(100) && line["sent"].as_u64() > Some(500), "{line}");
        expect(of("http-tight", Some("/hold")), Some(200), "client_gone", 0, 4, "HTTP/1.1");
        let body = |answer: &str| answer.split_once("\r\n\r\n").expect("a body").1.len();
        expect(of("http-tight", Some("/more")), Some(429), "route_client_limit", 0, body(&refused), "HTTP/1.1");
        expect(of("http-gone", None), Some(502), "unreachable", 0, body(&failed), "HTTP/1.1");
    });
}

#[test]
fn a_file_that_was_moved_away_is_left_alone() {
    on_eight_threads(async {
        let (http, port) = (Backend::http().await, free_port());
        let logged = Logged::start("", &route("http", port, http.port(), ""));
        let [file, first, second] =
            ["access.log", "access.log.1", "access.log.2"].map(|name| logged.folder.path().join(name));
        let exists = || if file.exists() { Ok(()) } else { Err("it is not there".to_owned()) };
        ask(port, "GET /1", "").await;
        eventually("the line is there", Duration::from_secs(10), || {
            if lines(&file).len() == 1 { Ok(()) } else { Err("no line".to_owned()) }
        })
        .await;
        std::fs::rename(&file, &first).expect("it can be moved");
        logged.proxy.signal(Signal::HUP);
        eventually("the file is opened anew after SIGHUP", Duration::from_secs(10), exists).await;
        ask(port, "GET /2", "").await;
        eventually("the line is there", Duration::from_secs(10), || {
            if lines(&file).len() == 1 { Ok(()) } else { Err("no line".to_owned()) }
        })
        .await;
        std::fs::rename(&file, &second).expect("it can be moved");
        eventually("the file is opened anew without a signal", Duration::from_secs(10), exists).await;
        ask(port, "GET /3", "").await;
        let paths = |lines: Vec<Value>| lines.iter().map(|line| line["path"].to_string()).collect::<Vec<_>>();
        assert_eq!(paths(lines(&first)), ["\"/1\""]);
        assert_eq!(paths(lines(&second)), ["\"/2\""]);
        assert_eq!(paths(logged.end()), ["\"/3\""]);
    });
}

#[test]
fn a_reload_changes_it() {
    on_eight_threads(async {
        let (http, port) = (Backend::http().await, free_port());
        let routes = route("http", port, http.port(), "");
        let logged = Logged::start("", &routes);
        let (file, other) = (logged.file(), logged.folder.path().join("other.log"));
        let reload = |access_log: String| {
            logged.proxy.write(&format!("bind: [\"127.0.0.1\"]\n{access_log}routes:\n{routes}"));
            admin::post(logged.proxy.admin, "/api/v1/reload")
        };
        ask(port, "GET /1", "").await;
        let (status, told) = reload(format!("accessLog: {{ path: {other:?}, format: json }}\n"));
        assert!(status == 200 && !told.contains("restart"), "{told}");
        ask(port, "GET /2", "").await;
        let (status, told) = reload("accessLog: { path: /nowhere/at/all, format: json }\n".to_owned());
        assert!(status == 422 && told.contains("accessLog.path"), "{status} {told}");
        ask(port, "GET /3", "").await;
        assert_eq!(reload(String::new()).0, 200);
        ask(port, "GET /4", "").await;
        assert_eq!(reload(format!("accessLog: {{ path: {file:?}, format: json }}\n")).0, 200);
        ask(port, "GET /5", "").await;
        // Sorted, since lines of different workers are in no strict order.
        let paths = |lines: Vec<Value>| lines.iter().map(|line| line["path"].to_string()).collect::<BTreeSet<_>>();
        assert_eq!(paths(lines(&other)), ["\"/2\"", "\"/3\""].map(String::from).into());
        assert_eq!(paths(logged.end()), ["\"/1\"", "\"/5\""].map(String::from).into());
    });
}

#[test]
fn a_sample_of_nothing_is_nothing() {
    on_eight_threads(async {
        let (http, port) = (Backend::http().await, free_port());
        let logged = Logged::start(", sample: 0", &route("http", port, http.port(), ""));
        for _ in 0..20 {
            assert!(ask(port, "GET /", "").await.starts_with("HTTP/1.1 200"));
        }
        assert_eq!(logged.end(), Vec::<Value>::new());
    });
}

#[test]
fn lines_go_to_standard_output() {
    on_eight_threads(async {
        let (http, port, folder) = (Backend::http().await, free_port(), tempfile::tempdir().expect("a folder"));
        let file = folder.path().join("proxy.yaml");
        let routes = route("http", port, http.port(), "");
        let config = format!("bind: [\"127.0.0.1\"]\naccessLog: {{ path: stdout }}\nroutes:\n{routes}");
        std::fs::write(&file, config).expect("it can be written");
        let mut command = Command::new(binary());
        command.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        assert!(log.any(|line| line.is_ok_and(|line| line.contains(" ready"))));
        ask(port, "GET /a%20b?c", "").await;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(line.contains(" \"http\" 127.0.0.1 ") && line.ends_with("\"GET\" \"a.test\" \"/a%20b\" -\n"), "{line}");
    });
}
