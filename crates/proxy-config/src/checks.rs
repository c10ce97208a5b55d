//! What can only be seen when everything is read: routes beside each other, and beside the process.

use crate::cursor::{Cursor, Table};
use crate::decode::Placed;
use proxy_route::{DomainPattern, Endpoint, OnReject, Overlap, Protocol, Route, Settings, overlaps};
use std::collections::{BTreeSet, HashMap};

/// Routes that cannot be told apart: by name, by the name of their counts, by their clients' first byte.
pub(crate) fn routes(routes: &[Placed<'_>]) {
    let mut names: HashMap<&str, &Cursor<'_>> = HashMap::new();
    let mut counts: HashMap<&str, &Cursor<'_>> = HashMap::new();
    for placed in routes {
        let Some(name) = placed.name.as_ref().filter(|_| !placed.route.name.is_empty()) else { continue };
        if let Some(first) = names.get(placed.route.name.as_str()) {
            let message = format!("two routes are named {:?}", placed.route.name);
            name.conflict(message, "give each a name of its own", first.span, "the other one");
            continue;
        }
        names.insert(&placed.route.name, name);
        let key = placed.id.as_ref().filter(|_| placed.route.id.is_some()).unwrap_or(name);
        if let Some(first) = counts.get(placed.route.count_key()) {
            let message = format!("two routes count as {:?}", placed.route.count_key());
            key.conflict(message, "give each an \"id\" of its own", first.span, "the other one");
        }
        counts.entry(placed.route.count_key()).or_insert(key);
    }
    beside(routes);
    asking(routes);
    shadowed(routes);
}

/// Routes that another one leaves nothing.
fn shadowed(routes: &[Placed<'_>]) {
    let live: Vec<_> = routes.iter().filter(|placed| placed.enabled && placed.right).collect();
    for overlap in overlaps(&live.iter().map(|placed| &placed.route).collect::<Vec<_>>()) {
        let (Overlap::Same { route, first: other } | Overlap::Hidden { route, by: other }) = overlap;
        let (route, other) = (live[route], live[other]);
        let at = route.name.as_ref().unwrap_or(&route.at);
        let there = other.name.as_ref().unwrap_or(&other.at).span;
        match overlap {
            Overlap::Same { .. } => at.conflict(
                format!("{:?} matches exactly what {:?} matches on the same port", route.route.name, other.route.name),
                "make them differ, or give the one that is meant a higher \"priority\"",
                there,
                "the other one",
            ),
            Overlap::Hidden { .. } => at.warn_beside(
                format!("{:?} is never reached: {:?} takes all that it matches", route.route.name, other.route.name),
                "give it a higher \"priority\", or remove it",
                there,
                "this one comes first",
            ),
        }
    }
}

/// Plain tcp beside plain http on one port.
fn beside(routes: &[Placed<'_>]) {
    let mut first: HashMap<(u16, bool), &Placed<'_>> = HashMap::new();
    for placed in routes.iter().filter(|placed| placed.enabled && placed.right && placed.route.tls.is_none()) {
        let route = &placed.route;
        let bytes = route.protocol == Protocol::Tcp;
        let mut clash = None;
        for port in route.matching.ports() {
            clash = clash.or_else(|| first.get(&(port, !bytes)).map(|there| (port, *there)));
            first.entry((port, bytes)).or_insert(placed);
        }
        if let (Some((port, there)), Some(at)) = (clash, &placed.ports) {
            let message = format!(
                "port {port} has a plain tcp route and a plain http route, and no byte tells their clients apart"
            );
            let span = there.ports.as_ref().map_or(there.at.span, |at| at.span);
            at.conflict(message, "give one of them another port, or TLS", span, &format!("of {:?}", there.route.name));
        }
    }
}

/// Routes for one name that want certificates from different roots: a handshake asks once, before the route is known.
fn asking(routes: &[Placed<'_>]) {
    const ANY: &[DomainPattern] = &[DomainPattern::Any];
    let mut first: HashMap<(u16, &DomainPattern), &Placed<'_>> = HashMap::new();
    for placed in routes.iter().filter(|placed| placed.enabled && placed.right) {
        let Some(auth) = &placed.route.client_auth else { continue };
        let domains = &placed.route.matching.domains;
        let domains = if domains.is_empty() { ANY } else { domains.as_slice() };
        let places = placed.route.matching.ports().flat_map(|port| domains.iter().map(move |domain| (port, domain)));
        let mut clash = None;
        for place in places {
            let there = *first.entry(place).or_insert(placed);
            if there.route.client_auth.as_ref().is_some_and(|other| other.ca != auth.ca) {
                clash = clash.or(Some((there, place.1)));
            }
        }
        if let Some((there, domain)) = clash {
            let message = format!(
                "{:?} and {:?} want certificates of clients that ask for {domain} from different roots, but those are asked \
                 once, before the route is known",
                there.route.name, placed.route.name
            );
            let span = there.name.as_ref().unwrap_or(&there.at).span;
            let help = "give both one \"ca\", a file with all of the roots, or different \"domains\"";
            placed.name.as_ref().unwrap_or(&placed.at).conflict(message, help, span, "the other one");
        }
    }
}

/// Routes beside the settings of the process.
pub(crate) fn process(table: &Table<'_>, settings: &Settings, routes: &[Placed<'_>]) {
    let enabled = || routes.iter().filter(|placed| placed.enabled);
    if enabled().next().is_none() && table.cursor.sink.errors() == 0 {
        table.cursor.warn("no route is enabled, so no port is opened", "add a route to \"routes\"");
    }
    let open = |port: u16| {
        enabled().any(|placed| placed.route.matching.ports.iter().any(|range| (range.from..=range.to).contains(&port)))
    };
    if let (OnReject::Respond, Some(at)) = (settings.on_reject, table.take("onReject")) {
        let readable = |route: &Route| route.tls.is_none() && route.protocol == Protocol::Http;
        let (mut silent, mut all) = (BTreeSet::new(), BTreeSet::new());
        for placed in enabled().filter(|placed| placed.right) {
            all.extend(placed.route.matching.ports());
            if !readable(&placed.route) {
                silent.extend(placed.route.matching.ports());
            }
        }
        let listed: Vec<_> = silent.iter().take(FEW_PORTS).map(ToString::to_string).collect();
        let more = if silent.len() > FEW_PORTS { " and others" } else { "" };
        match silent.len() {
            0 => {}
            count if count == all.len() => at.error_help(
                "no port has plain HTTP alone, so nobody would understand an answer",
                "write \"close\" or \"reset\"",
            ),
            _ => at.warn(
                format!("only plain HTTP can be answered: refusals on {}{more} are closed", listed.join(", ")),
                "nothing, if that is meant; else write \"close\" or \"reset\"",
            ),
        }
    }
    let ports: BTreeSet<_> = enabled().flat_map(|placed| placed.route.matching.ports()).take(2).collect();
    let shared = settings.bind_unix.iter().find(|path| !path.to_string_lossy().contains("{port}"));
    if let (Some(path), Some(at), true) = (shared, table.take("bind"), ports.len() > 1) {
        at.error_help(
            format!("unix:{} would be the socket of several ports", path.display()),
            "write {port} in it, which stands for the number of the port",
        );
    }
    if let (Some(ports), Some(at)) = (&settings.accept_proxy.ports, table.take("acceptProxyProtocol")) {
        for port in ports.iter().filter(|port| !open(**port)) {
            at.warn(format!("no route is on port {port}"), "remove it, or add it to a route's \"ports\"");
        }
    }
    let admin = settings.admin.as_ref().map(|admin| &admin.listen);
    if let (Some(&Endpoint::Tcp(listen)), Some(at)) = (admin, table.take("admin")) {
        let bound = settings.bind.iter().any(|bind| bind.is_unspecified() || *bind == listen.ip());
        if bound
            && open(listen.port())
            && let Some(at) = at.table().and_then(|table| table.take("listen"))
        {
            at.error_help(
                format!("port {} is a route's port too", listen.port()),
                "listen on a port that no route has",
            );
        }
    }
}

/// More ports than fit a line help nobody.
const FEW_PORTS: usize = 8;
