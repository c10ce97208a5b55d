//! The decision at accept, before a byte is read and before the socket costs anything but itself.

use crate::access::Seen;
use crate::tunnel::Moved;
use crate::{Generation, Shed};
use conn_tracker::{
    Arrival, ConnectionTracker, Event, EventKind, Origin, Permit, Rejection, Report, RouteId, canonical,
};
use proxy_route::{AccessList, FirstStep, OnReject, RoutedRoute};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// A connection that was let in.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    /// What comes next.
    pub(crate) next: Next,
}

/// What an admitted connection needs before its route is known.
pub(crate) enum Next {
    /// A PROXY header, and then one of the others.
    ProxyHeader,
    /// Its first bytes.
    Read,
    /// Nothing: this is its route, and it is bound to it.
    Tunnel(Arc<RoutedRoute>),
}

/// Decides whether a connection from `peer` on the listener of `port` comes in; reports it if not, and lets `shed` know of
/// clients that are refused.
///
/// # Errors
/// It does not; with the limit that refuses it, if that can be told to a client that speaks plain HTTP.
pub(crate) fn admit(
    tracker: &Arc<dyn ConnectionTracker>,
    report: &dyn Report,
    shed: &Shed,
    generation: &Generation,
    now: Instant,
    peer: IpAddr,
    port: u16,
) -> Result<Admitted, Option<Rejection>> {
    let settings = &generation.settings;
    let client = canonical(peer);
    let through_proxy = settings.accept_proxy.on_port(port) && generation.proxy_peers.contains(client);
    // Who names its clients is not one: an allow list of clients does not have to have it.
    let refusal = if through_proxy { blocked(&settings.access, client) } else { settings.access.refusal(client) };
    if let Some(reason) = refusal {
        report.event(Event { kind: EventKind::Blocked, reason, route: None, source: Some(client) });
        return Err(None);
    }
    let Some(routes) = generation.table.port(port) else {
        report.event(Event { kind: EventKind::BadRequest, reason: "no_route", route: None, source: Some(client) });
        return Err(None);
    };
    let origin = match () {
        () if through_proxy => Origin::Proxy,
        () if generation.balancers.contains(client) => Origin::Balancer,
        () => Origin::Client(client),
    };
    let pending = through_proxy || routes.first_step() == FirstStep::Read;
    let mut permit = match Permit::open(tracker, now, Arrival { origin, pending }) {
        Ok(permit) => permit,
        Err(rejection) => {
            let reason = rejection.reason.label();
            report.event(Event { kind: EventKind::Refused, reason, route: None, source: Some(client) });
            if let Origin::Client(client) = origin {
                shed.refused(now, generation, client, rejection.reason);
            }
            return Err(Some(rejection).filter(|_| routes.is_plain_http() && !through_proxy));
        }
    };
    would_refuse(report, &mut permit, client, None);
    let next = if through_proxy {
        Next::ProxyHeader
    } else if pending {
        Next::Read
    } else {
        let seen = Seen { client, port, accepted: now, sni: None };
        Next::Tunnel(bind_by_address(report, generation, now, &mut permit, seen).ok_or(None)?)
    };
    Ok(Admitted { permit, next })
}

/// Binds a connection whose first bytes do not matter; reports it if that cannot be.
pub(crate) fn bind_by_address(
    report: &dyn Report,
    generation: &Generation,
    now: Instant,
    permit: &mut Permit,
    seen: Seen<'_>,
) -> Option<Arc<RoutedRoute>> {
    let Seen { client, port, .. } = seen;
    let Some(route) = generation.table.port(port).and_then(|routes| routes.by_address(Some(client))) else {
        report.event(Event { kind: EventKind::BadRequest, reason: "no_route", route: None, source: Some(client) });
        return None;
    };
    bind(report, generation, now, permit, seen, route).then(|| Arc::clone(route))
}

/// Binds a connection to the backends of its route; reports it if that cannot be.
pub(crate) fn bind(
    report: &dyn Report,
    generation: &Generation,
    now: Instant,
    permit: &mut Permit,
    seen: Seen<'_>,
    route: &RoutedRoute,
) -> bool {
    let client = seen.client;
    let forwards = generation.clusters[route.index].is_some();
    let refusal = match route.security.access.refusal(client) {
        Some(reason) => Some((EventKind::Blocked, reason)),
        None if !forwards => Some((EventKind::Blocked, "block_route")),
        None => permit.bind(now, route.id).err().map(|rejection| (EventKind::Refused, rejection.reason.label())),
    };
    if let Some((kind, reason)) = refusal {
        report.event(Event { kind, reason, route: Some(route.id), source: Some(client) });
        seen.ended(report, route.into(), reason, Moved::default());
    } else if would_refuse(report, permit, client, Some(route.id)) && !generation.settings.enforce {
        // Enforced, the connection would end here: others must find the counts as they would be then.
        permit.let_go();
    }
    refusal.is_none()
}

/// Whether only a dry run let the last decision pass; reports it if so.
pub(crate) fn would_refuse(report: &dyn Report, permit: &mut Permit, client: IpAddr, route: Option<RouteId>) -> bool {
    let Some(reason) = permit.would_refuse() else { return false };
    report.event(Event { kind: EventKind::WouldRefuse, reason: reason.label(), route, source: Some(client) });
    true
}

/// Closes the socket of a connection that does not come in.
pub(crate) fn turn_away(socket: OwnedFd, on_reject: OnReject) {
    if on_reject == OnReject::Reset {
        // Without it the close is an ordinary one, which is no worse than that.
        rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO)).unwrap_or_default();
    }
    drop(socket);
}

fn blocked(access: &AccessList, address: IpAddr) -> Option<&'static str> {
    access.block.contains(address).then_some("block_list")
}
