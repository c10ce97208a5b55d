//! What the proxy itself says of its counts.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One GET to the admin endpoint: status and body.
pub(crate) fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "GET", path)
}

/// One POST to the admin endpoint: status and body.
pub(crate) fn post(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "POST", path)
}

fn ask(admin: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).expect("the admin endpoint listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out can be set");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// `/api/v1/limits`, parsed.
pub(crate) fn limits(admin: SocketAddr) -> Value {
    let (status, body) = get(admin, "/api/v1/limits");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// One scope of `/api/v1/limits`; `route` is a route's name.
pub(crate) fn scope(admin: SocketAddr, scope: &str, route: Option<&str>) -> Value {
    let limits = limits(admin);
    let scopes = limits["scopes"].as_array().expect("a list of scopes");
    let fits = |one: &&Value| one["scope"] == scope && route.is_none_or(|route| one["route"] == route);
    scopes.iter().find(fits).unwrap_or_else(|| panic!("no scope {scope} {route:?} in {limits}")).clone()
}

/// Slots held of a scope.
pub(crate) fn active(admin: SocketAddr, name: &str, route: Option<&str>) -> u64 {
    scope(admin, name, route)["active"].as_u64().expect("a count")
}

/// Refusals of a scope for a reason.
pub(crate) fn refused(admin: SocketAddr, name: &str, route: Option<&str>, reason: &str) -> u64 {
    scope(admin, name, route)["refused"][reason].as_u64().unwrap_or(0)
}
