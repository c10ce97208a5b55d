//! Limits that were checked, in the form in which decisions read them.

use crate::entry::{Key, PairUsage, Usage};
use crate::limits::{ClientOverride, Limits, LimitsError, RouteLimits};
use crate::listed::Listed;
use crate::packed::{EXEMPT_MOST, GLOBAL_MOST, Most, PENDING_MOST, Room};
use crate::rate::{Rate, Ticks, rate_most};
use crate::routes::RouteSlot;
use conn_tracker::{ClientKey, Prefixes, Reason, Rejection, RouteId, canonical};
use ipnet::IpNet;
use prefix_trie::joint::{JointPrefixMap, JointPrefixSet};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A limit on how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling(u32);

impl Ceiling {
    fn new(limit: u32) -> Self {
        Self(if limit == 0 { u32::MAX } else { limit })
    }

    pub(crate) fn refuses(self, held: u32) -> bool {
        held >= self.0
    }

    pub(crate) fn limit(self) -> Option<u32> {
        (self.0 != u32::MAX).then_some(self.0)
    }

    pub(crate) fn rejection(self, reason: Reason) -> Rejection {
        Rejection::full(reason, self.0)
    }
}

/// The limits of one client: everywhere, or on a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientRule {
    pub(crate) most: Ceiling,
    pub(crate) rate: Option<Rate>,
}

impl ClientRule {
    const NONE: Self = Self { most: Ceiling(u32::MAX), rate: None };

    /// What `usage` becomes with one more: rate, then count.
    #[inline]
    pub(crate) fn admit(&self, reasons: Reasons, usage: Usage, age: u64) -> Result<Usage, Rejection> {
        let spent = match &self.rate {
            Some(rate) => rate
                .admit(usage.spent, age)
                .map_err(|wait| Rejection::too_fast(reasons.rate, rate.per_period(), wait))?,
            None => usage.spent,
        };
        if self.most.refuses(usage.held) {
            return Err(self.most.rejection(reasons.client));
        }
        Ok(Usage { held: usage.held + 1, spent })
    }

    /// What `usage` becomes with one more so many ticks after the epoch, if nothing refuses it.
    #[inline]
    pub(crate) fn take(&self, usage: Usage, passed: u32) -> Option<Usage> {
        let spent = match self.rate {
            Some(ref rate) => rate.spend(usage.spent, passed)?,
            None => usage.spent,
        };
        (!self.most.refuses(usage.held)).then(|| Usage { held: usage.held + 1, spent })
    }

    fn ticks(&self) -> Ticks {
        self.rate.map_or(Ticks::STILL, |rate| rate.ticks())
    }

    /// `usage` as it is `age` microseconds later, when time begins anew.
    fn rebased(&self, usage: Usage, age: u64) -> Usage {
        Usage { spent: usage.spent.saturating_sub(self.ticks().passed(age)), ..usage }
    }

    /// `usage` under these limits after it was counted under those of `old` for `age` microseconds, with time begun anew.
    pub(crate) fn adopted(&self, old: &Self, usage: Usage, age: u64) -> Usage {
        Usage { spent: Rate::carry(old.rate.as_ref(), self.rate.as_ref(), usage.spent, age), ..usage }
    }
}

/// How the limits of something are called in a refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reasons {
    /// All clients together.
    pub(crate) all: Reason,
    /// One client holds too many.
    pub(crate) client: Reason,
    /// One client comes too often.
    pub(crate) rate: Reason,
}

impl Reasons {
    pub(crate) const CLIENT: Self =
        Self { all: Reason::GlobalLimit, client: Reason::ClientLimit, rate: Reason::ClientRate };

    #[inline]
    pub(crate) const fn of(slot: RouteSlot) -> Self {
        match slot {
            RouteSlot::Connection => {
                Self { all: Reason::RouteLimit, client: Reason::RouteClientLimit, rate: Reason::RouteClientRate }
            }
            RouteSlot::Request => {
                Self { all: Reason::RequestLimit, client: Reason::RequestClientLimit, rate: Reason::RequestRate }
            }
        }
    }
}

/// The limits of one kind of slot of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRule {
    pub(crate) most: Ceiling,
    pub(crate) per_client: ClientRule,
}

impl SlotRule {
    const NONE: Self = Self { most: Ceiling(u32::MAX), per_client: ClientRule::NONE };

    fn new(most: u32, per_client: u32, rate: Option<Rate>) -> Self {
        Self { most: Ceiling::new(most), per_client: ClientRule { most: Ceiling::new(per_client), rate } }
    }
}

/// The limits of one route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteRule {
    pub(crate) connections: SlotRule,
    pub(crate) requests: SlotRule,
    pub(crate) enforce: bool,
}

impl RouteRule {
    /// A route that is not in force any more: its connections are still counted.
    const RETIRED: Self = Self { connections: SlotRule::NONE, requests: SlotRule::NONE, enforce: true };

    fn new(limits: &RouteLimits) -> Result<Self, LimitsError> {
        let per_minute = limits.rate_per_minute;
        at_most("the connection rate of a route", per_minute, rate_most(MINUTE))?;
        let connection_rate = (per_minute > 0).then(|| whole_burst(per_minute, MINUTE));
        let request_rate = match limits.request_rate {
            Some(rate) if rate.requests > 0 => {
                if !(Duration::from_millis(1)..=DAY).contains(&rate.window) {
                    return Err(LimitsError::Window(limits.key.clone()));
                }
                at_most("a request rate", rate.requests, rate_most(rate.window))?;
                Some(whole_burst(rate.requests, rate.window))
            }
            _ => None,
        };
        Ok(Self {
            connections: SlotRule::new(limits.max_connections, limits.per_client, connection_rate),
            requests: SlotRule::new(limits.max_requests, limits.max_requests_per_client, request_rate),
            enforce: limits.enforce,
        })
    }

    #[inline]
    pub(crate) fn of(&self, slot: RouteSlot) -> &SlotRule {
        match slot {
            RouteSlot::Connection => &self.connections,
            RouteSlot::Request => &self.requests,
        }
    }

    /// `usage` as it is `age` microseconds later, when time begins anew.
    pub(crate) fn rebased(&self, usage: PairUsage, age: u64) -> PairUsage {
        PairUsage {
            connections: self.connections.per_client.rebased(usage.connections, age),
            requests: self.requests.per_client.rebased(usage.requests, age),
        }
    }

    /// `usage` under these limits after it was counted under those of `old` for `age` microseconds, with time begun anew.
    pub(crate) fn adopted(&self, old: &Self, usage: PairUsage, age: u64) -> PairUsage {
        let (connections, requests) = (&old.connections.per_client, &old.requests.per_client);
        PairUsage {
            connections: self.connections.per_client.adopted(connections, usage.connections, age),
            requests: self.requests.per_client.adopted(requests, usage.requests, age),
        }
    }

    /// Whether a client is, on this route, as if it had never been seen there.
    #[inline]
    pub(crate) fn is_idle(&self, usage: PairUsage, age: u64) -> bool {
        let idle = |rule: &SlotRule, usage: Usage| usage.is_idle(|| rule.per_client.ticks().passed(age));
        idle(&self.connections, usage.connections) && idle(&self.requests, usage.requests)
    }

    /// How long, in microseconds, an epoch may last.
    fn span(&self) -> u64 {
        self.connections.per_client.ticks().span().min(self.requests.per_client.ticks().span())
    }
}

/// A rate all of which may come at once.
fn whole_burst(rate: u32, period: Duration) -> Rate {
    Rate::new(Ticks::fitting(period, &[(rate, rate)]), period, rate, rate)
}

/// Everything that decisions read. Each shard has a pointer to the settings in force.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) most: Most,
    pub(crate) room: Room,
    pub(crate) enforce: bool,
    /// How long an epoch of a shard may last, in microseconds.
    pub(crate) span: u64,
    /// What the rates of all clients are counted in.
    pub(crate) ticks: Ticks,
    general: ClientRule,
    /// One more than `span`, if no tick is longer than a microsecond; else 0.
    fine_until: u64,
    /// The same, if there are neither overrides nor exempt networks; else 0. So it takes one look to see all of that.
    plain_until: u64,
    /// How addresses begin that are inside of either, where there are any.
    listed: Option<Listed>,
    // `None` where there are none, as nearly everywhere: that is cheaper to see than an empty map.
    overrides: Option<Overrides>,
    exempt: Option<JointPrefixSet<IpNet>>,
    /// By [`RouteId::index`].
    routes: Vec<RouteRule>,
}

impl Settings {
    /// Checks everything but the keys of routes; `routes` are left empty.
    pub(crate) fn check(limits: &Limits, prefixes: Prefixes) -> Result<Checked, LimitsError> {
        at_most("the limit of connections", limits.max_connections, GLOBAL_MOST)?;
        at_most("the limit of pending connections", limits.pending, PENDING_MOST)?;
        at_most("the number of exempt slots", limits.exempt_slots, EXEMPT_MOST)?;
        let (ticks, general, overrides) = clients(limits, prefixes)?;
        let mut keys = HashSet::new();
        if let Some(twice) = limits.routes.iter().find(|route| !keys.insert(&route.key)) {
            return Err(LimitsError::DuplicateRoute(twice.key.clone()));
        }
        let rules = limits.routes.iter().map(RouteRule::new).collect::<Result<Vec<_>, _>>()?;
        let span = rules.iter().map(RouteRule::span).fold(ticks.span(), u64::min);
        let fine_until = if ticks.are_fine() { span.saturating_add(1) } else { 0 };
        let special = limits.overrides.iter().map(|special| special.network).chain(limits.exempt.iter().copied());
        let mut special = special.map(canonical_network).peekable();
        let listed = special.peek().is_some().then(|| Listed::new(special, prefixes));
        let or = |limit, most| if limit == 0 { most } else { limit };
        let most = Most {
            global: or(limits.max_connections, GLOBAL_MOST),
            pending: or(limits.pending, PENDING_MOST),
            exempt: or(limits.exempt_slots, EXEMPT_MOST),
        };
        let settings = Self {
            room: Room::below(&most),
            most,
            enforce: limits.enforce,
            span,
            ticks,
            general,
            fine_until,
            plain_until: if listed.is_none() { fine_until } else { 0 },
            listed,
            overrides: (!limits.overrides.is_empty()).then_some(overrides),
            exempt: (!limits.exempt.is_empty())
                .then(|| limits.exempt.iter().map(|&network| canonical_network(network)).collect()),
            routes: Vec::new(),
        };
        Ok(Checked { settings, rules })
    }

    /// The limits of all clients in the epoch under way, if nothing else is said about this one. `None` says nothing.
    #[inline(always)]
    pub(crate) fn ordinary_client<K: Key>(&self, key: K, age: u64) -> Option<&ClientRule> {
        let is_unlisted = || self.listed.as_ref().is_some_and(|listed| !key.is_listed(listed));
        (age < self.plain_until || age < self.fine_until && is_unlisted()).then_some(&self.general)
    }

    /// The limits of a client.
    pub(crate) fn client(&self, key: ClientKey) -> &ClientRule {
        let Some(overrides) = &self.overrides else { return &self.general };
        overrides.get_lpm(&IpNet::from(key.network())).map_or(&self.general, |(_, rule)| rule)
    }

    /// The limits of a client that no override is for.
    pub(crate) fn any_client(&self) -> &ClientRule {
        &self.general
    }

    /// Whether an address in its one spelling is exempt.
    pub(crate) fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.as_ref().is_some_and(|exempt| exempt.is_covered(&IpNet::from(address)))
    }

    pub(crate) fn route(&self, route: RouteId) -> &RouteRule {
        self.routes.get(route.index() as usize).unwrap_or(&RouteRule::RETIRED)
    }
}

/// Settings that only lack the numbers of their routes.
#[derive(Debug)]
pub(crate) struct Checked {
    settings: Settings,
    rules: Vec<RouteRule>,
}

impl Checked {
    /// Puts the rules of the routes, in their order, under `ids`.
    pub(crate) fn with_routes(self, ids: &[RouteId]) -> Settings {
        let Self { mut settings, rules } = self;
        let most = ids.iter().map(|id| id.index() as usize + 1).max().unwrap_or(0);
        settings.routes = vec![RouteRule::RETIRED; most];
        for (id, rule) in ids.iter().zip(rules) {
            settings.routes[id.index() as usize] = rule;
        }
        settings
    }
}

type Overrides = JointPrefixMap<IpNet, ClientRule>;

fn clients(limits: &Limits, prefixes: Prefixes) -> Result<(Ticks, ClientRule, Overrides), LimitsError> {
    let highest = rate_most(MINUTE);
    if limits.rate_burst == Some(0) {
        return Err(LimitsError::NoBurst);
    }
    let burst = limits.rate_burst.unwrap_or(limits.rate_per_minute);
    at_most("the connection rate", limits.rate_per_minute, highest)?;
    at_most("the connection burst", burst, highest)?;
    let mut rates = vec![(limits.rate_per_minute, burst)];
    for special in &limits.overrides {
        let rate = special.rate_per_minute.unwrap_or(0);
        at_most("the connection rate of an override", rate, highest)?;
        rates.push((rate, rate));
    }
    rates.retain(|&(rate, _)| rate > 0);
    let ticks = Ticks::fitting(MINUTE, &rates);

    let rate = |rate, burst| (rate > 0).then(|| Rate::new(ticks, MINUTE, rate, burst));
    let general = ClientRule { most: Ceiling::new(limits.per_client), rate: rate(limits.rate_per_minute, burst) };
    let mut overrides = Overrides::new();
    for &ClientOverride { network, per_client, rate_per_minute } in &limits.overrides {
        let network = canonical_network(network);
        let longest = if network.addr().is_ipv4() { prefixes.v4() } else { prefixes.v6() };
        if network.prefix_len() > longest {
            return Err(LimitsError::OverrideTooLong { network, longest });
        }
        let rule = ClientRule {
            most: per_client.map_or(general.most, Ceiling::new),
            rate: rate_per_minute.map_or(general.rate, |per_minute| rate(per_minute, per_minute)),
        };
        if overrides.insert(network, rule).is_some() {
            return Err(LimitsError::DuplicateOverride(network));
        }
    }
    Ok((ticks, general, overrides))
}

fn at_most(name: &'static str, given: u32, most: u32) -> Result<(), LimitsError> {
    if given > most { Err(LimitsError::TooLarge(name, given, most)) } else { Ok(()) }
}

/// A network in the spelling of the addresses that are matched: IPv4 inside IPv6 becomes IPv4. Host bits are cut.
fn canonical_network(network: IpNet) -> IpNet {
    let network = network.trunc();
    match (network, canonical(network.network())) {
        (IpNet::V6(v6), inner @ IpAddr::V4(_)) if v6.prefix_len() >= 96 => {
            IpNet::new(inner, v6.prefix_len() - 96).expect("at most 32 bits are left")
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RequestRate;

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn pitfall_17_the_most_specific_override_wins_and_keeps_what_it_does_not_name() {
        let special =
            |text, per_client, rate_per_minute| ClientOverride { network: network(text), per_client, rate_per_minute };
        let limits = Limits {
            per_client: 10,
            rate_per_minute: 300,
            overrides: vec![
                special("10.0.0.0/8", Some(20), None),
                special("::ffff:10.1.0.0/112", Some(0), Some(7)),
                special("2001:db8::/32", None, Some(0)),
            ],
            ..Limits::default()
        };
        let settings = Settings::check(&limits, Prefixes::default()).unwrap().with_routes(&[]);
        for (address, connections, rate) in [
            ("192.0.2.1", Some(10), Some(300)),
            ("10.200.0.1", Some(20), Some(300)),
            ("10.1.2.3", None, Some(7)),
            ("2001:db8::1", Some(10), None),
        ] {
            let rule = settings.client(Prefixes::default().key(address.parse().unwrap()));
            assert_eq!(rule.most.limit(), connections, "{address}");
            assert_eq!(rule.rate.map(|rate| rate.per_period()), rate, "{address}");
        }
    }

    #[test]
    fn exempt_networks_match_the_whole_address_in_every_spelling() {
        let limits = Limits {
            exempt: ["192.0.2.7/32", "64:ff9b::c000:209/128", "2001:db8::9/128"].map(network).to_vec(),
            ..Limits::default()
        };
        let settings = Settings::check(&limits, Prefixes::default()).unwrap().with_routes(&[]);
        for (address, exempt) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("192.0.2.9", true),
            ("2001:db8::9", true),
            ("2001:db8::8", false),
        ] {
            assert_eq!(settings.is_exempt(address.parse().unwrap()), exempt, "{address}");
        }
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let special = |text| ClientOverride { network: network(text), per_client: None, rate_per_minute: None };
        let route = |window| RouteLimits {
            request_rate: Some(RequestRate { requests: 1, window }),
            ..RouteLimits::new("shop")
        };
        let none = Limits::default;
        let cases: [(Limits, &str); 8] = [
            (Limits { max_connections: 1 << 25, ..none() }, "at most 33554431"),
            (Limits { pending: 1 << 24, ..none() }, "at most 16777215"),
            (Limits { exempt_slots: 4096, ..none() }, "at most 4095"),
            (Limits { rate_burst: Some(0), ..none() }, "use 1 or more"),
            (Limits { overrides: vec![special("2001:db8::/65")], ..none() }, "shorten its prefix to 64"),
            (Limits { overrides: vec![special("10.0.0.0/8"), special("10.9.9.9/8")], ..none() }, "keep one"),
            (Limits { routes: vec![RouteLimits::new("a"), RouteLimits::new("a")], ..none() }, "name of its own"),
            (Limits { routes: vec![route(Duration::ZERO)], ..none() }, "between 1 ms and 24 h"),
        ];
        for (limits, says) in cases {
            let error = Settings::check(&limits, Prefixes::default()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
