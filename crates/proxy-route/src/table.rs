//! The route table: which route a connection or request belongs to.

use crate::domain::{normal_host, parents};
use crate::path::{leads, normal_path};
use crate::{
    ClientAuth, ClientAuthMode, DomainPattern, HelloFacts, PathPattern, Protocol, RequestFacts, Route, TlsMode,
};
use conn_tracker::RouteId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A route in a table.
#[derive(Debug)]
pub struct RoutedRoute {
    /// Its identity in every count.
    pub id: RouteId,
    /// Its place in [`RouteTable::routes`], for what others keep per route of one table.
    pub index: usize,
    route: Route,
}

impl Deref for RoutedRoute {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

/// All routes, ready to be asked. Immutable: a changed configuration is a new table.
#[derive(Debug, Default)]
pub struct RouteTable {
    ports: BTreeMap<u16, PortRoutes>,
    routes: Vec<Arc<RoutedRoute>>,
    /// The places of the routes by their identity.
    by_id: HashMap<RouteId, usize>,
}

/// Routes that cannot be in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// Two routes have this name.
    SameName(String),
    /// A plain TCP route and a plain HTTP route share a port, and nothing tells their clients apart.
    TcpBesideHttp {
        /// The port.
        port: u16,
        /// The TCP route.
        tcp: String,
        /// The HTTP route.
        http: String,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameName(name) => write!(f, "two routes are named {name:?}; give each a name of its own"),
            Self::TcpBesideHttp { port, tcp, http } => write!(
                f,
                "port {port} has the plain tcp route {tcp:?} and the plain http route {http:?}, and no byte tells their \
                 clients apart; give one of them another port or TLS"
            ),
        }
    }
}

impl std::error::Error for TableError {}

impl RouteTable {
    /// A table of these routes, in file order.
    ///
    /// # Errors
    /// Routes that cannot be told apart.
    pub fn new(routes: impl IntoIterator<Item = (RouteId, Route)>) -> Result<Self, TableError> {
        let routes = routes.into_iter().enumerate();
        let routes: Vec<_> = routes.map(|(index, (id, route))| Arc::new(RoutedRoute { id, index, route })).collect();
        let mut names = HashMap::new();
        let mut ports: BTreeMap<u16, PortRoutes> = BTreeMap::new();
        for route in &routes {
            if names.insert(&route.name, ()).is_some() {
                return Err(TableError::SameName(route.name.clone()));
            }
        }
        for route in &routes {
            for port in route.matching.ports() {
                ports.entry(port).or_default().add(route);
            }
        }
        for (&port, routes) in &mut ports {
            routes.sort();
            if let (Some(tcp), Some(http)) = (routes.tcp.first(), routes.plain_http.first()) {
                return Err(TableError::TcpBesideHttp { port, tcp: tcp.name.clone(), http: http.name.clone() });
            }
        }
        let by_id = routes.iter().map(|route| (route.id, route.index)).collect();
        Ok(Self { ports, routes, by_id })
    }

    /// Every route, in file order.
    #[must_use]
    pub fn routes(&self) -> &[Arc<RoutedRoute>] {
        &self.routes
    }

    /// The route of this identity.
    #[must_use]
    pub fn by_id(&self, id: RouteId) -> Option<&Arc<RoutedRoute>> {
        self.routes.get(*self.by_id.get(&id)?)
    }

    /// The routes of one port.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&PortRoutes> {
        self.ports.get(&port)
    }

    /// Every port that has a route, ascending.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &PortRoutes)> {
        self.ports.iter().map(|(&port, routes)| (port, routes))
    }
}

/// What a new connection of a port needs before its route is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// Nothing: [`PortRoutes::by_address`] decides. The server may speak first.
    Decide,
    /// The first byte, which tells TLS from plain traffic.
    Read,
}

/// What a TLS hello leads to.
#[derive(Clone, Debug)]
pub enum HelloDecision {
    /// Nothing is routed for it.
    None,
    /// The bytes belong to this route, untouched.
    Passthrough(Arc<RoutedRoute>),
    /// TLS ends here; the first request decides.
    Terminate,
}

/// The routes of one port.
#[derive(Debug, Default)]
pub struct PortRoutes {
    tcp: Vec<Arc<RoutedRoute>>,
    plain_http: ByDomain,
    /// Every route with TLS, for the hello.
    tls: ByDomain,
    /// Those that end TLS, for the requests within.
    tls_http: ByDomain,
}

impl PortRoutes {
    /// What a new connection needs.
    #[must_use]
    pub fn first_step(&self) -> FirstStep {
        if self.plain_http.is_empty() && self.tls.is_empty() { FirstStep::Decide } else { FirstStep::Read }
    }

    /// Whether a connection may begin with TLS here.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        !self.tls.is_empty()
    }

    /// Whether TLS may end here.
    #[must_use]
    pub fn terminates_tls(&self) -> bool {
        !self.tls_http.is_empty()
    }

    /// Whether plain HTTP is served here.
    #[must_use]
    pub fn has_plain_http(&self) -> bool {
        !self.plain_http.is_empty()
    }

    /// Whether everybody speaks plain HTTP here.
    #[must_use]
    pub fn is_plain_http(&self) -> bool {
        self.has_plain_http() && !self.has_tls()
    }

    /// The routes that end TLS, in no particular order.
    pub fn terminating(&self) -> impl Iterator<Item = &Arc<RoutedRoute>> {
        self.tls_http.all.iter()
    }

    /// What TLS clients that ask for `name` are to show, where any route for it wants to see something: the first one's
    /// wish, and whether all of them refuse clients that show nothing.
    #[must_use]
    pub fn client_auth(&self, name: Option<&str>) -> Option<(&ClientAuth, bool)> {
        let name = name.unwrap_or("");
        let auth = self.tls_http.find(name, None, |route| route.client_auth.is_some())?.client_auth.as_ref()?;
        let refuses = |route: &RoutedRoute| {
            route.client_auth.as_ref().is_some_and(|own| own.ca == auth.ca && own.mode == ClientAuthMode::Require)
        };
        Some((auth, self.tls_http.find(name, None, |route| !refuses(route)).is_none()))
    }

    /// The plain TCP route of a client.
    #[must_use]
    pub fn by_address(&self, client: Option<std::net::IpAddr>) -> Option<&Arc<RoutedRoute>> {
        self.tcp.iter().find(|route| route.matching.fits_plain(client))
    }

    /// What to do with a TLS connection, after its hello.
    #[must_use]
    pub fn by_hello(&self, facts: &HelloFacts<'_>) -> HelloDecision {
        match self.tls.find(facts.sni.unwrap_or(""), None, |route| route.matching.fits_hello(facts)) {
            Some(route) if route.tls == Some(TlsMode::Passthrough) => HelloDecision::Passthrough(Arc::clone(route)),
            Some(_) => HelloDecision::Terminate,
            None if self.terminates_tls() => HelloDecision::Terminate,
            None => HelloDecision::None,
        }
    }

    /// The route of a request, among those with the request's kind of transport. Different spellings of one path (`//a`,
    /// `/./a`, `/%61`, `/b/../a`) have the same route.
    #[must_use]
    pub fn by_request(&self, facts: &RequestFacts<'_>) -> Option<&Arc<RoutedRoute>> {
        let routes = if facts.tls.is_some() { &self.tls_http } else { &self.plain_http };
        let path = normal_path(facts.path);
        let facts = &RequestFacts { path: &path, ..*facts };
        routes.find(facts.host, Some(&path), |route| route.matching.fits_request(facts))
    }

    fn add(&mut self, route: &Arc<RoutedRoute>) {
        match (route.tls, route.protocol) {
            (Some(mode), _) => {
                self.tls.add(route);
                if mode.terminates() {
                    self.tls_http.add(route);
                }
            }
            (None, Protocol::Http) => self.plain_http.add(route),
            (None, Protocol::Tcp) => self.tcp.push(Arc::clone(route)),
        }
    }

    fn sort(&mut self) {
        self.tcp.sort_by_key(|route| order(route, route.index, Specificity::None));
        for routes in [&mut self.plain_http, &mut self.tls, &mut self.tls_http] {
            routes.sort();
        }
    }
}

/// How narrow the domain is by which a route was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Specificity {
    None,
    Below(usize),
    Exact,
}

/// What comes first: priority, then the narrower domain, then the longer path, then more conditions, then file order.
pub(crate) fn order(route: &Route, index: usize, domain: Specificity) -> impl Ord + use<> {
    let matching = &route.matching;
    let path = matching.path.as_ref().map(PathPattern::weight);
    let conditions = matching.headers.len()
        + usize::from(matching.client_ip.is_some())
        + usize::from(!matching.tls_versions.is_empty());
    (Reverse(route.priority), Reverse(domain), Reverse(path), Reverse(conditions), index)
}

/// Routes by domain: looking up costs by the labels of the name, not by the number of routes.
#[derive(Debug, Default)]
struct ByDomain {
    all: Vec<Arc<RoutedRoute>>,
    any: ByPath,
    exact: HashMap<String, ByPath>,
    below: HashMap<String, ByPath>,
}

impl ByDomain {
    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn first(&self) -> Option<&Arc<RoutedRoute>> {
        self.all.first()
    }

    fn add(&mut self, route: &Arc<RoutedRoute>) {
        self.all.push(Arc::clone(route));
        if route.matching.domains.is_empty() {
            self.any.add(route);
        }
        for domain in &route.matching.domains {
            let list = match domain {
                DomainPattern::Any => &mut self.any,
                DomainPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
                DomainPattern::Below(name) => self.below.entry(name.clone()).or_default(),
            };
            list.add(route);
        }
    }

    fn sort(&mut self) {
        for list in self.exact.values_mut().chain(self.below.values_mut()).chain([&mut self.any]) {
            list.sort();
        }
    }

    /// The first route in order, of all whose domain has `host`, that `fits`; `path` is that of a request, in normal form.
    fn find(&self, host: &str, path: Option<&str>, fits: impl Fn(&RoutedRoute) -> bool) -> Option<&Arc<RoutedRoute>> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any.find(path, &fits);
        }
        let host = normal_host(host);
        let exact = self.exact.get(host.as_ref()).map(|list| (Specificity::Exact, list));
        let below =
            parents(&host).filter_map(|parent| Some((Specificity::Below(parent.len()), self.below.get(parent)?)));
        let any = Some((Specificity::None, &self.any));
        exact
            .into_iter()
            .chain(below)
            .chain(any)
            .filter_map(|(domain, list)| list.find(path, &fits).map(|route| (domain, route)))
            .min_by_key(|(domain, route)| order(route, route.index, *domain))
            .map(|(_, route)| route)
    }
}

/// Routes of one domain: looking up costs by the segments of the path, not by the number of routes, as long as these differ
/// in how their paths begin.
#[derive(Debug, Default)]
struct ByPath {
    /// In order.
    routes: Vec<Arc<RoutedRoute>>,
    /// By the beginning of their paths, the places of the routes, ascending. Empty where there are few.
    places: HashMap<String, Vec<usize>>,
    /// The most segments that a beginning has.
    deepest: usize,
}

/// So few routes are tried one after the other.
const FEW: usize = 8;

impl ByPath {
    fn add(&mut self, route: &Arc<RoutedRoute>) {
        self.routes.push(Arc::clone(route));
    }

    fn sort(&mut self) {
        // The domain is the same for all, so it does not matter which is given.
        self.routes.sort_by_key(|route| order(route, route.index, Specificity::Exact));
        if self.routes.len() <= FEW {
            return;
        }
        for (place, route) in self.routes.iter().enumerate() {
            let lead = route.matching.path.as_ref().map(PathPattern::lead).unwrap_or_default();
            self.deepest = self.deepest.max(lead.matches('/').count());
            self.places.entry(lead).or_default().push(place);
        }
    }

    /// The first route in order that `fits`, which has the path if there is one.
    fn find(&self, path: Option<&str>, fits: impl Fn(&RoutedRoute) -> bool) -> Option<&Arc<RoutedRoute>> {
        let Some(path) = path.filter(|_| !self.places.is_empty()) else {
            return self.routes.iter().find(|route| fits(route));
        };
        let lists = leads(path).take(self.deepest + 1).filter_map(|lead| self.places.get(lead));
        let first = |list: &Vec<usize>| list.iter().copied().find(|place| fits(&self.routes[*place]));
        lists.filter_map(first).min().map(|place| &self.routes[place])
    }
}

#[cfg(test)]
mod tests;
