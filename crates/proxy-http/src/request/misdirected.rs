//! Requests on a connection that was made for somebody else.

use super::target::Target;
use crate::HttpGeneration;
use crate::connection::Downstream;
use proxy_route::{HelloDecision, HelloFacts};

/// Whether the host of a request cannot be served on its connection, which was made for another name: one that the
/// certificate of the connection is not for, or whose TLS is not ended here. Browsers use one connection for all names of its
/// certificate; told so (421), they make another one.
pub(super) fn is(newest: &HttpGeneration, client: &Downstream, target: &Target<'_>) -> bool {
    let Some(name) = client.sni.as_deref() else { return false };
    let host = target.domain();
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.eq_ignore_ascii_case(name) || host.is_empty() {
        return false;
    }
    let facts = HelloFacts { sni: Some(host), version: client.tls, client: Some(client.client()) };
    let port = newest.generation.table.port(client.port);
    let elsewhere = port.is_some_and(|routes| matches!(routes.by_hello(&facts), HelloDecision::Passthrough(_)));
    elsewhere || !newest.ports.are_alike(client.port, name, host)
}
