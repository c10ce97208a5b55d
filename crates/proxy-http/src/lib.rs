//! TLS termination, HTTP/1.1, HTTP/2, WebSocket and upstream pools of smartproxy.
#![forbid(unsafe_code)]

mod body;
