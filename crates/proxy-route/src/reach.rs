//! Routes that are never reached, because another one takes everything that is theirs.

use crate::domain::parents;
use crate::path::leads;
use crate::table::{Specificity, order};
use crate::{DomainPattern, HeaderPattern, Match, PathPattern, Protocol, Route, TlsMode};
use std::collections::HashMap;

/// A route in the shadow of another one. Both are places in the list that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They match exactly the same on some port, with one priority: only their order in the file decides.
    Same {
        /// The route that comes later.
        route: usize,
        /// The one that comes first.
        first: usize,
    },
    /// Whatever this route matches goes to another one.
    Hidden {
        /// The route that is never reached.
        route: usize,
        /// The one that takes everything.
        by: usize,
    },
}

/// Every route, of those in file order, that is in the shadow of one other; each once.
///
/// Cautious: what it tells is so, but a route may also be hidden by several others together, of which nothing is told.
#[must_use]
pub fn overlaps(routes: &[&Route]) -> Vec<Overlap> {
    // A path that covers another one begins like it.
    let lead = |route: &Route| route.matching.path.as_ref().map(PathPattern::lead).unwrap_or_default();
    let mut by_domain: HashMap<(Transport, DomainPattern), Vec<usize>> = HashMap::new();
    let mut by_place: HashMap<(Transport, DomainPattern, String), Vec<usize>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        for domain in domains(&route.matching) {
            by_domain.entry((Transport::of(route), domain.clone())).or_default().push(index);
            by_place.entry((Transport::of(route), domain, lead(route))).or_default().push(index);
        }
    }
    let shadow = |index: usize| {
        let route = Placed { route: routes[index], index };
        let first = domains(&route.route.matching).into_iter().next()?;
        let (transport, lead) = (Transport::of(route.route), lead(route.route));
        let mut wider = Vec::new();
        for domain in covering(&first) {
            if passes_through(route.route) {
                // Whatever ends TLS for the name is asked before it or after it, by no path.
                wider.extend(by_domain.get(&(transport, domain)));
            } else {
                let of = |lead: &str| by_place.get(&(transport, domain.clone(), lead.to_owned()));
                wider.extend(leads(&lead).filter_map(of));
            }
        }
        let others = wider.into_iter().flatten().filter(|&&other| other != index);
        let mut shadows = others.filter_map(|&other| Placed { route: routes[other], index: other }.shadows(&route));
        shadows.next()
    };
    (0..routes.len()).filter_map(shadow).collect()
}

/// Routes that are told apart by the first byte of a connection never meet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Transport {
    Tls,
    PlainHttp,
    PlainTcp,
}

impl Transport {
    fn of(route: &Route) -> Self {
        match (route.tls, route.protocol) {
            (Some(_), _) => Self::Tls,
            (None, Protocol::Http) => Self::PlainHttp,
            (None, Protocol::Tcp) => Self::PlainTcp,
        }
    }
}

/// A route and its place in the file.
#[derive(Clone, Copy)]
struct Placed<'a> {
    route: &'a Route,
    index: usize,
}

impl Placed<'_> {
    fn shadows(&self, other: &Self) -> Option<Overlap> {
        let (mine, theirs) = (&self.route.matching, &other.route.matching);
        let by_hello = passes_through(self.route) != passes_through(other.route);
        let same = !by_hello
            && self.route.priority == other.route.priority
            && sorted(&domains(mine)) == sorted(&domains(theirs))
            && mine.path == theirs.path
            && mine.client_ip == theirs.client_ip
            && has_headers_of(mine, theirs)
            && has_headers_of(theirs, mine)
            && sorted_versions(mine) == sorted_versions(theirs)
            && theirs.ports().any(|port| is_on(mine, port));
        if same {
            return (self.index < other.index).then_some(Overlap::Same { route: other.index, first: self.index });
        }
        // Between passing through and ending TLS the hello decides, which knows nothing of requests.
        let requests = by_hello
            || (mine.path.as_ref().is_none_or(|path| theirs.path.as_ref().is_some_and(|other| path.covers(other)))
                && has_headers_of(theirs, mine));
        let hidden = requests
            && (mine.client_ip.is_none() || mine.client_ip == theirs.client_ip)
            && (mine.tls_versions.is_empty()
                || !theirs.tls_versions.is_empty()
                    && theirs.tls_versions.iter().all(|version| mine.tls_versions.contains(version)))
            && theirs.ports.iter().all(|range| (range.from..=range.to).all(|port| is_on(mine, port)))
            && domains(theirs).iter().all(|domain| self.comes_first(other, domain));
        hidden.then_some(Overlap::Hidden { route: other.index, by: self.index })
    }

    /// Whether this route has all names of one domain of the other's, and is asked before it.
    fn comes_first(&self, other: &Self, domain: &DomainPattern) -> bool {
        let theirs = order(other.route, other.index, specificity(domain));
        let covering = covering(domain);
        domains(&self.route.matching)
            .iter()
            .filter(|mine| covering.contains(mine))
            .any(|mine| order(self.route, self.index, specificity(mine)) < theirs)
    }
}

fn passes_through(route: &Route) -> bool {
    route.tls == Some(TlsMode::Passthrough)
}

fn is_on(matching: &Match, port: u16) -> bool {
    matching.ports.iter().any(|range| (range.from..=range.to).contains(&port))
}

fn domains(matching: &Match) -> Vec<DomainPattern> {
    if matching.domains.is_empty() { vec![DomainPattern::Any] } else { matching.domains.clone() }
}

fn sorted(domains: &[DomainPattern]) -> Vec<String> {
    let mut texts: Vec<_> = domains.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

fn sorted_versions(matching: &Match) -> Vec<crate::TlsVersion> {
    let mut versions = matching.tls_versions.clone();
    versions.sort();
    versions
}

/// Whether a request with the headers of `narrow` has those of `wide` too, for certain.
fn has_headers_of(narrow: &Match, wide: &Match) -> bool {
    let same = |one: &HeaderPattern, other: &HeaderPattern| match (one, other) {
        (HeaderPattern::Exact(one), HeaderPattern::Exact(other)) => one == other,
        (HeaderPattern::Regex(one), HeaderPattern::Regex(other)) => one.as_str() == other.as_str(),
        _ => false,
    };
    wide.headers.iter().all(|(name, pattern)| narrow.headers.iter().any(|(own, has)| own == name && same(has, pattern)))
}

/// Every pattern that has all names of `domain`.
fn covering(domain: &DomainPattern) -> Vec<DomainPattern> {
    let below = |name: &str| parents(name).map(|above| DomainPattern::Below(above.to_owned())).collect::<Vec<_>>();
    let mut all = vec![domain.clone()];
    match domain {
        DomainPattern::Any => return all,
        DomainPattern::Exact(name) | DomainPattern::Below(name) => all.extend(below(name)),
    }
    all.push(DomainPattern::Any);
    all
}

fn specificity(domain: &DomainPattern) -> Specificity {
    match domain {
        DomainPattern::Any => Specificity::None,
        DomainPattern::Below(name) => Specificity::Below(name.len()),
        DomainPattern::Exact(_) => Specificity::Exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, IpSet, PortRange, TlsVersion};

    /// A route by its changes to a plain HTTP route on ports 80 and 81.
    fn route(change: impl FnOnce(&mut Route)) -> Route {
        let mut route = Route::new("a", Action::Block);
        route.matching.ports = vec![PortRange { from: 80, to: 81 }];
        change(&mut route);
        route
    }

    fn on(domains: &[&str], path: Option<&str>, priority: i32) -> Route {
        route(|route| {
            route.matching.domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
            route.matching.path = path.map(Into::into);
            route.priority = priority;
        })
    }

    fn of(routes: &[Route]) -> Vec<Overlap> {
        overlaps(&routes.iter().collect::<Vec<_>>())
    }

    const SAME: [Overlap; 1] = [Overlap::Same { route: 1, first: 0 }];
    const SECOND: [Overlap; 1] = [Overlap::Hidden { route: 1, by: 0 }];

    #[test]
    fn the_same_match_twice_is_told() {
        assert_eq!(of(&[on(&[], None, 0), on(&[], None, 0)]), SAME);
        assert_eq!(of(&[on(&[], None, 0), on(&["*"], None, 0)]), SAME);
        assert_eq!(of(&[on(&["a.test", "b.test"], Some("/x"), 3), on(&["b.test", "a.test"], Some("/x"), 3)]), SAME);
        let tcp = |ports: (u16, u16)| {
            route(|route| {
                route.protocol = Protocol::Tcp;
                route.matching.ports = vec![PortRange { from: ports.0, to: ports.1 }];
            })
        };
        assert_eq!(of(&[tcp((1, 5)), tcp((5, 9))]), SAME, "one port is enough");
        assert_eq!(of(&[tcp((1, 5)), tcp((6, 9))]), []);
    }

    #[test]
    fn a_route_behind_a_wider_one_that_comes_first_is_told() {
        for (first, second, expected) in [
            (on(&[], None, 1), on(&["a.test"], Some("/x"), 0), &SECOND[..]),
            (on(&[], None, 0), on(&["a.test"], None, 0), &[]),
            (on(&["*.test"], None, 1), on(&["a.b.test", "c.test"], None, 0), &SECOND),
            (on(&["*.b.test"], None, 1), on(&["a.b.test", "c.test"], None, 0), &[]),
            (on(&["*.b.test"], None, 1), on(&["*.a.b.test"], None, 0), &SECOND),
            (on(&["*.a.b.test"], None, 1), on(&["*.b.test"], None, 0), &[]),
            (on(&["a.test"], Some("/x/*"), 1), on(&["a.test"], Some("/x/y"), 0), &SECOND),
            (on(&["a.test"], Some("/x/*"), 0), on(&["a.test"], Some("/x/y"), 0), &[]),
            (on(&["a.test"], Some("/x/*"), 1), on(&["a.test"], Some("/*"), 0), &[]),
            (on(&["a.test"], Some("/x"), 1), on(&["a.test"], None, 0), &[]),
        ] {
            assert_eq!(of(&[first.clone(), second.clone()]), expected, "{first:?}\n{second:?}");
        }
    }

    #[test]
    fn whatever_narrows_the_first_route_lets_the_second_be_reached() {
        type Change = fn(&mut Route);
        let narrowings: [Change; 5] = [
            |route| route.matching.ports = vec![PortRange::single(80)],
            |route| {
                route.matching.client_ip = Some("10.0.0.0/8".parse::<ipnet::IpNet>().into_iter().collect::<IpSet>());
            },
            |route| route.matching.headers = vec![("a".into(), HeaderPattern::Exact("b".into()))],
            |route| route.tls = Some(TlsMode::Terminate),
            |route| route.matching.path = Some("/x".into()),
        ];
        for (index, narrow) in narrowings.into_iter().enumerate() {
            let wide = on(&["a.test"], None, 0);
            let mut narrowed = on(&[], None, 1);
            narrow(&mut narrowed);
            assert_eq!(of(&[narrowed.clone(), wide.clone()]), [], "{index}");
            let mut narrower = wide.clone();
            narrow(&mut narrower);
            assert_eq!(of(&[narrowed, narrower]), SECOND, "{index}: both are as narrow");
        }
        let versions = |versions: &[TlsVersion], priority| {
            route(|route| {
                (route.tls, route.priority) = (Some(TlsMode::Terminate), priority);
                route.matching.tls_versions = versions.to_vec();
            })
        };
        let (old, both) = ([TlsVersion::V1_2], [TlsVersion::V1_3, TlsVersion::V1_2]);
        assert_eq!(of(&[versions(&both, 1), versions(&old, 0)]), SECOND);
        assert_eq!(of(&[versions(&old, 1), versions(&both, 0)]), []);
        assert_eq!(of(&[versions(&old, 1), versions(&[], 0)]), []);
    }

    #[test]
    fn the_hello_decides_between_passing_through_and_ending_tls() {
        let tls = |mode, path: Option<&str>| {
            let mut route = on(&["a.test"], path, 0);
            route.tls = Some(mode);
            route
        };
        let (through, ended) = (tls(TlsMode::Passthrough, None), tls(TlsMode::Terminate, Some("/x")));
        let hidden = [Overlap::Hidden { route: 0, by: 1 }];
        assert_eq!(of(&[through.clone(), ended]), hidden, "the longer path comes first, and hellos have none");
        assert_eq!(of(&[through, tls(TlsMode::Terminate, None)]), SECOND);
    }
}
