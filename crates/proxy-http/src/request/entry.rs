//! What the access log will say of a request: kept only while somebody writes one.

use super::id;
use crate::fields::Value;
use crate::message::Head;
use conn_tracker::{AccessRecord, Report, RequestLine, RouteId};
use http::header::HOST;
use http::{HeaderValue, Method, Uri, Version};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is known of one request. Shared by its answer and by whoever moves its bytes.
#[derive(Debug)]
pub(crate) struct Entry {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    received: AtomicU64,
    sent: AtomicU64,
    end: OnceLock<&'static str>,
}

/// What is known of a request only at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'a> {
    pub(super) route: Option<RouteId>,
    pub(super) client: IpAddr,
    pub(super) port: u16,
    pub(super) id: &'a Value,
    pub(super) status: Option<u16>,
    pub(super) elapsed: Duration,
}

impl Entry {
    pub(super) fn new(head: &Head) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            host: head.fields.value(&HOST),
            version: head.version,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            end: OnceLock::new(),
        }
    }

    /// Counts bytes from the client.
    pub(crate) fn received(&self, bytes: usize) {
        // Ordering: a statistic, read once whoever counts has finished.
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        // Ordering: see `received`.
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Says how the request ends. The first to say so is right: what comes later follows from it.
    pub(crate) fn ends(&self, end: &'static str) {
        self.end.get_or_init(|| end);
    }

    /// Tells of the end.
    pub(super) fn tell(&self, report: &dyn Report, outcome: Outcome<'_>) {
        let Outcome { route, client, port, id, status, elapsed } = outcome;
        let host = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str().into(),
            (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()),
            (None, None) => "".into(),
        };
        report.access(&AccessRecord {
            route,
            client,
            port,
            protocol: protocol(self.version),
            status,
            end: self.end.get().copied().unwrap_or("client_gone"),
            elapsed,
            // Ordering: see `received`.
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            request: Some(RequestLine {
                id: id::text(id),
                method: self.method.as_str(),
                host: &host,
                path: self.uri.path(),
            }),
            sni: None,
        });
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}
