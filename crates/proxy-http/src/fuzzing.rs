//! Targets for fuzzers: functions of bytes that panic where a promise is broken. Not for anything else.

use crate::fields::Fields;
use crate::headers::{self, Forwarding};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use proxy_route::{HeaderEdits, IpSet};
use std::net::{IpAddr, Ipv4Addr};

pub use crate::connection::read_requests as requests;
pub use crate::io::follow_frames as frames;

/// Rewrites the lines of a head as those of a request on its way to a backend.
///
/// # Panics
/// If something of one connection only, or a stranger's word about others, reaches the backend.
pub fn headers(bytes: &[u8]) {
    let mut fields = Fields::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.push(name, value);
        }
    }
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for trusted in [false, true] {
        let mut fields = fields.clone();
        let networks: IpSet = [IpNet::from(from)].into_iter().filter(|_| trusted).collect();
        let client = headers::client(&fields, from, &networks);
        assert!(trusted || client == from, "{client} is nobody's to say");
        _ = headers::upgrade(&fields);
        headers::remove_hop_by_hop(&mut fields);
        headers::forward(&mut fields, &Forwarding { from, trusted, tls: true, host: None, port: 1 });
        let edits = [("x-set".to_owned(), Some("1".to_owned())), ("x-gone".to_owned(), None)];
        headers::edit(&mut fields, &HeaderEdits(edits.into()));
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "x-gone",
            "x_gone",
            "x_set",
        ] {
            assert!(!fields.names().any(|other| other == name.as_bytes()), "{name} is left");
        }
        let values = |name: &'static str| fields.all(&HeaderName::from_static(name)).collect::<Vec<_>>();
        assert_eq!(values("x-set"), [b"1"]);
        assert!(trusted || values("x-forwarded-for") == [b"127.0.0.1"], "a stranger speaks for others");
    }
}
