//! What a new configuration changes that cannot change, or that looks like a mistake.

use proxy_route::{Action, Route, Settings, Target};
use std::collections::{HashMap, HashSet};

/// Takes what needs a restart back to what is in force; the keys of what was taken back.
pub(crate) fn take_back(in_force: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let mut keys = Vec::new();
    keep("bind", &in_force.bind, &mut new.bind, &mut keys);
    keep("bind (Unix sockets)", &in_force.bind_unix, &mut new.bind_unix, &mut keys);
    keep("workers", &in_force.workers, &mut new.workers, &mut keys);
    let (limits, wanted) = (&in_force.limits, &mut new.limits);
    keep("ipv4PrefixLength and ipv6PrefixLength", &limits.prefixes, &mut wanted.prefixes, &mut keys);
    keep("maxTrackedClients", &limits.tracked_clients, &mut wanted.tracked_clients, &mut keys);
    keep("logging.format", &in_force.logging.format, &mut new.logging.format, &mut keys);
    keep("logging.level", &in_force.logging.level, &mut new.logging.level, &mut keys);
    keep("admin", &in_force.admin, &mut new.admin, &mut keys);
    keys
}

fn keep<T: Clone + PartialEq>(key: &'static str, in_force: &T, new: &mut T, keys: &mut Vec<&'static str>) {
    if in_force != new {
        new.clone_from(in_force);
        keys.push(key);
    }
}

/// Routes that are gone and seem to be back under another name, as old and new name: their counts began anew.
pub(crate) fn renamed<'a>(old: &[&'a Route], new: &'a [Route]) -> Vec<(&'a str, &'a str)> {
    let before: HashSet<&str> = old.iter().map(|route| route.count_key()).collect();
    let now: HashSet<&str> = new.iter().map(Route::count_key).collect();
    let mut gone: HashMap<String, Vec<&Route>> = HashMap::new();
    for route in old.iter().filter(|route| !now.contains(route.count_key())) {
        gone.entry(matched(route)).or_default().push(route);
    }
    if gone.is_empty() {
        return Vec::new();
    }
    let fresh = |route: &&Route| route.id.is_none() && !before.contains(route.count_key());
    let pair = |route: &'a Route| {
        let alike = gone.get(&matched(route))?.iter().find(|old| targets(old) == targets(route))?;
        Some((alike.name.as_str(), route.name.as_str()))
    };
    new.iter().filter(fresh).filter_map(pair).collect()
}

/// What a route matches. It has no equality of its own (expressions have none), but a complete description.
fn matched(route: &Route) -> String {
    format!("{:?}", route.matching)
}

fn targets(route: &Route) -> Option<&[Target]> {
    match &route.action {
        Action::Forward(forward) => Some(&forward.targets),
        Action::Block | Action::Redirect(_) | Action::Respond(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_route::{AccessLogOutput, AccessLogSettings, LogFormat, PortRange};
    use std::num::NonZeroUsize;

    fn route(name: &str, id: Option<&str>, port: u16) -> Route {
        let mut route = Route::new(name, Action::Block);
        route.id = id.map(str::to_owned);
        route.matching.ports = vec![PortRange::single(port)];
        route
    }

    #[test]
    fn what_needs_a_restart_stays() {
        let in_force = Settings::default();
        let mut new = Settings { workers: NonZeroUsize::new(3), enforce: false, ..Settings::default() };
        new.limits.tracked_clients = 7;
        new.limits.per_client = 7;
        (new.logging.level, new.logging.folding.burst) = ("warn".to_owned(), 3);
        new.access_log =
            Some(AccessLogSettings { output: AccessLogOutput::Stdout, format: LogFormat::Json, sample: 1.0 });
        assert_eq!(take_back(&in_force, &mut new), ["workers", "maxTrackedClients", "logging.level"]);
        assert_eq!((new.workers, new.limits.tracked_clients), (None, in_force.limits.tracked_clients));
        let taken = (new.limits.per_client, new.enforce, new.logging.folding.burst);
        assert_eq!(taken, (7, false, 3), "and the rest is taken");
        assert!(take_back(&in_force, &mut new).is_empty());
    }

    #[test]
    fn a_new_name_for_the_same_is_noticed() {
        let old = [route("a", None, 1), route("b", Some("b"), 2)];
        let old: Vec<_> = old.iter().collect();
        for (new, expected) in [
            (vec![route("a", None, 1), route("b", Some("b"), 2)], vec![]),
            (vec![route("c", None, 1), route("b2", Some("b"), 2)], vec![("a", "c")]),
            (vec![route("c", Some("c"), 1)], vec![]),
            (vec![route("c", None, 3)], vec![]),
            (vec![route("a", None, 1), route("c", None, 1)], vec![]),
            (vec![route("d", None, 2), route("c", None, 1)], vec![("b", "d"), ("a", "c")]),
        ] {
            assert_eq!(renamed(&old, &new), expected);
        }
    }
}
