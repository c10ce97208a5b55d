use super::*;
use crate::{Action, Forward, HeaderPattern, HeaderSource, Match, PortRange, Respond, Target, TargetPort, TlsVersion};

fn http(name: &str, domains: &[&str], path: Option<&str>) -> Route {
    let respond = Respond { status: 200, headers: vec![], body: String::new() };
    let mut route = Route::new(name, Action::Respond(respond));
    route.matching.ports = vec![PortRange::single(80)];
    route.matching.domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
    route.matching.path = path.map(Into::into);
    route
}

fn forward(name: &str, tls: Option<TlsMode>, domains: &[&str]) -> Route {
    let target = Target::new("127.0.0.1", TargetPort::Fixed(1));
    let mut route = http(name, domains, None);
    route.action = Action::Forward(Box::new(Forward::new(vec![target])));
    route.tls = tls;
    route.protocol = if tls.is_some_and(TlsMode::terminates) { Protocol::Http } else { Protocol::Tcp };
    route
}

fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new((0..).map(|index| RouteId::new(index).unwrap()).zip(routes)).unwrap()
}

fn found<'a>(table: &'a RouteTable, host: &str, path: &str) -> Option<&'a str> {
    let facts = RequestFacts { host, path, ..RequestFacts::default() };
    table.port(80).unwrap().by_request(&facts).map(|route| route.name.as_str())
}

#[test]
fn the_narrower_match_wins_whatever_the_file_order() {
    let table = table(vec![
        http("any", &[], None),
        http("wild", &["*.shop.test"], None),
        http("deeper", &["*.eu.shop.test"], None),
        http("exact", &["www.shop.test"], None),
        http("short", &["www.shop.test"], Some("/a/*")),
        http("long", &["www.shop.test"], Some("/a/b/*")),
    ]);
    for (host, path, name) in [
        ("other.test", "/", "any"),
        ("", "/", "any"),
        ("x.shop.test", "/", "wild"),
        ("a.b.shop.test", "/", "wild"),
        ("a.eu.shop.test", "/", "deeper"),
        ("shop.test", "/", "any"),
        ("WWW.shop.test:80", "/", "exact"),
        ("www.shop.test", "/a/x", "short"),
        ("www.shop.test", "/a/b/x", "long"),
    ] {
        assert_eq!(found(&table, host, path), Some(name), "{host}{path}");
    }
}

#[test]
fn priority_beats_every_match_and_file_order_breaks_ties() {
    let mut first = http("first", &[], None);
    first.priority = 1;
    let table = table(vec![http("exact", &["a.test"], Some("/x")), first, http("twin", &["b.test"], None), {
        let mut twin = http("other twin", &["b.test"], None);
        twin.priority = 1;
        twin
    }]);
    assert_eq!(found(&table, "a.test", "/x"), Some("first"));
    assert_eq!(found(&table, "b.test", "/"), Some("other twin"), "narrower among equals");
}

struct One(&'static str, &'static str);

impl HeaderSource for One {
    fn any(&self, name: &str, fits: &dyn Fn(&[u8]) -> bool) -> bool {
        name == self.0 && fits(self.1.as_bytes())
    }
}

#[test]
fn headers_and_addresses_are_conditions() {
    let mut canary = http("canary", &[], None);
    canary.matching.headers = vec![("x-version".into(), HeaderPattern::Regex(regex::bytes::Regex::new("^2").unwrap()))];
    let mut inside = http("inside", &[], None);
    inside.matching.client_ip = Some(["10.0.0.0/8".parse().unwrap()].into_iter().collect());
    let table = table(vec![http("rest", &[], None), canary, inside]);
    let ask = |headers: &One, client: &str| {
        let facts = RequestFacts { headers, client: Some(client.parse().unwrap()), ..RequestFacts::default() };
        table.port(80).unwrap().by_request(&facts).unwrap().name.clone()
    };
    assert_eq!(ask(&One("x-version", "2.1"), "192.0.2.1"), "canary");
    assert_eq!(ask(&One("x-version", "1.2"), "192.0.2.1"), "rest");
    assert_eq!(ask(&One("x-other", "2"), "10.0.0.1"), "inside");
}

#[test]
fn passthrough_terminated_and_plain_share_a_port() {
    let table = table(vec![
        forward("pass", Some(TlsMode::Passthrough), &["mail.test"]),
        forward("end", Some(TlsMode::Terminate), &["shop.test"]),
        http("plain", &[], None),
    ]);
    let port = table.port(80).unwrap();
    assert_eq!(port.first_step(), FirstStep::Read);
    let by_sni = |sni| port.by_hello(&HelloFacts { sni, ..HelloFacts::default() });
    assert!(matches!(by_sni(Some("Mail.test")), HelloDecision::Passthrough(route) if route.name == "pass"));
    for sni in [Some("shop.test"), Some("unknown.test"), None] {
        assert!(matches!(by_sni(sni), HelloDecision::Terminate), "{sni:?}");
    }
    let over_tls = RequestFacts { tls: Some(TlsVersion::V1_3), host: "shop.test", ..RequestFacts::default() };
    assert_eq!(port.by_request(&over_tls).unwrap().name, "end");
    assert_eq!(port.by_request(&RequestFacts { tls: None, ..over_tls }).unwrap().name, "plain");
}

#[test]
fn a_name_that_nothing_is_routed_for_is_nobodys() {
    let table = table(vec![forward("pass", Some(TlsMode::Passthrough), &["mail.test"])]);
    let port = table.port(80).unwrap();
    assert!(matches!(port.by_hello(&HelloFacts { sni: Some("x.test"), ..HelloFacts::default() }), HelloDecision::None));
    assert!(!port.terminates_tls());
}

#[test]
fn plain_tcp_needs_no_byte() {
    let table = table(vec![forward("raw", None, &[])]);
    let port = table.port(80).unwrap();
    assert_eq!(port.first_step(), FirstStep::Decide);
    assert_eq!(port.by_address(None).unwrap().name, "raw");
}

#[test]
fn what_cannot_be_told_apart_is_an_error() {
    let ids = || (0..).map(|index| RouteId::new(index).unwrap());
    let same = RouteTable::new(ids().zip([http("a", &[], None), http("a", &[], None)]));
    assert_eq!(same.unwrap_err(), TableError::SameName("a".into()));
    let mixed = RouteTable::new(ids().zip([http("web", &[], None), forward("raw", None, &[])])).unwrap_err();
    assert!(matches!(&mixed, TableError::TcpBesideHttp { port: 80, .. }), "{mixed}");
}

#[test]
fn who_asks_for_a_name_is_asked_what_its_routes_want_to_see() {
    let guarded = |name: &str, domains: &[&str], path: Option<&str>, wish: Option<(&str, ClientAuthMode)>| {
        let mut route = Route::new(name, Action::Block);
        route.matching = Match {
            ports: vec![PortRange::single(443)],
            domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
            path: path.map(Into::into),
            ..Match::default()
        };
        route.tls = Some(TlsMode::Terminate);
        route.client_auth = wish.map(|(ca, mode)| ClientAuth { ca: ca.into(), mode });
        route
    };
    let require = |ca| Some((ca, ClientAuthMode::Require));
    let routes = [
        guarded("closed", &["closed.test"], None, require("/a")),
        guarded("open", &["open.test"], None, None),
        guarded("part", &["part.test"], Some("/in/*"), require("/a")),
        guarded("rest", &["part.test"], None, None),
        guarded("asks", &["asks.test"], None, Some(("/a", ClientAuthMode::Optional))),
        guarded("one", &["two.test"], Some("/one/*"), require("/a")),
        guarded("other", &["*.test"], None, require("/b")),
    ];
    let routes = routes.into_iter().zip(0..).map(|(route, index)| (RouteId::new(index).unwrap(), route));
    let table = RouteTable::new(routes).unwrap();
    let port = table.port(443).unwrap();
    for (name, expected) in [
        (Some("closed.test"), Some(("/a", false))),
        (Some("open.test"), Some(("/b", false))),
        (Some("part.test"), Some(("/a", false))),
        (Some("asks.test"), Some(("/a", false))),
        (Some("two.test"), Some(("/a", false))),
        (Some("else.test"), Some(("/b", true))),
        (Some("else.example"), None),
        (None, None),
    ] {
        let found = port.client_auth(name).map(|(auth, mandatory)| (auth.ca.to_str().unwrap(), mandatory));
        assert_eq!(found, expected, "{name:?}");
    }
}

mod many {
    use super::*;
    use proptest::prelude::*;

    /// Short paths of few letters, so that patterns and paths meet often.
    fn path(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(segments), 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
    }

    proptest! {
        #[test]
        fn the_first_of_many_is_found_as_if_each_were_tried(
            patterns in prop::collection::vec(
                (prop::option::weighted(0.9, path(&["a", "b", "ab", "*", ":id", "a*", ""])), 0..3, any::<bool>()),
                FEW..40,
            ),
            paths in prop::collection::vec(path(&["a", "b", "ab", "abc", ""]), 1..20),
        ) {
            let routes = patterns.iter().enumerate().map(|(index, (path, priority, inside))| {
                let mut route = http(&index.to_string(), &[], path.as_deref());
                route.priority = *priority;
                route.matching.client_ip = inside.then(|| ["10.0.0.0/8".parse().unwrap()].into_iter().collect());
                route
            });
            let table = table(routes.collect());
            for path in paths.iter().map(String::as_str).chain(["*", ""]) {
                let path = &normal_path(path);
                for client in ["10.0.0.1", "192.0.2.1"] {
                    let client = Some(client.parse().unwrap());
                    let facts = RequestFacts { path, client, ..RequestFacts::default() };
                    let naive = table.routes().iter().filter(|route| route.matching.fits_request(&facts));
                    let naive = naive.min_by_key(|route| order(route, route.index, Specificity::None));
                    let found = table.port(80).unwrap().by_request(&facts);
                    prop_assert_eq!(found.map(|route| route.index), naive.map(|route| route.index), "{}", path);
                }
            }
        }
    }
}

#[test]
fn a_route_is_found_by_its_identity() {
    let id = |index| RouteId::new(index).unwrap();
    let table = RouteTable::new([(id(7), http("a", &[], None)), (id(3), http("b", &["b.test"], None))]).unwrap();
    let name = |index| table.by_id(id(index)).map(|route| route.name.as_str());
    assert_eq!([name(7), name(3), name(0)], [Some("a"), Some("b"), None]);
}
