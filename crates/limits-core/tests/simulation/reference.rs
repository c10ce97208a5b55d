//! What the table should answer, told as plainly as possible: one thread, ordered maps, 128-bit time.

use crate::limits::{bind_rate, carry, client_limits, full, request_rate, route_limits, too_early};
use conn_tracker::{
    Arrival, Binding, ClientKey, Origin, Prefixes, Reason, Rejection, RouteId, Scope, Slots, TopClient, canonical,
};
use limits_core::Limits;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

#[derive(Clone, Copy, Default)]
struct Client {
    connections: u32,
    ahead_until: u128,
}

#[derive(Clone, Copy, Default)]
struct Pair {
    connections: u32,
    requests: u32,
    ahead_until: u128,
    bound_until: u128,
}

/// What the reference remembers of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) client: Option<ClientKey>,
    pub(crate) slots: Slots,
    pub(crate) over: bool,
    pub(crate) bindings: Vec<Binding>,
}

/// What the reference remembers of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeldRequest {
    pub(crate) client: Option<ClientKey>,
    pub(crate) route: RouteId,
    pub(crate) slots: Slots,
}

/// Why, where, whether it was enforced, whether it was of a request.
type Refusal = (Reason, Option<RouteId>, bool, bool);

/// Active, admitted.
type Count = (u64, u64);

pub(crate) struct Reference {
    limits: Limits,
    ids: Vec<RouteId>,
    tracked_clients: usize,
    clients: BTreeMap<ClientKey, Client>,
    pairs: BTreeMap<(ClientKey, RouteId), Pair>,
    pub(crate) scopes: HashMap<(Scope, Option<RouteId>), Count>,
    pub(crate) refused: HashMap<Refusal, u64>,
}

impl Reference {
    pub(crate) fn new(limits: Limits, ids: Vec<RouteId>, tracked_clients: usize) -> Self {
        Self {
            limits,
            ids,
            tracked_clients,
            clients: BTreeMap::new(),
            pairs: BTreeMap::new(),
            scopes: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    pub(crate) fn reload(&mut self, now: u128, limits: Limits, ids: Vec<RouteId>) {
        let old = std::mem::replace(&mut self.limits, limits);
        let old_ids = std::mem::replace(&mut self.ids, ids);
        for (&key, client) in &mut self.clients {
            let rates = (client_limits(&old, key).1, client_limits(&self.limits, key).1);
            client.ahead_until = carry(rates, client.ahead_until, now);
        }
        for (&(_, route), pair) in &mut self.pairs {
            let rate = |limits: &Limits, ids: &[RouteId]| request_rate(&route_limits(limits, ids, route));
            let rates = (rate(&old, &old_ids), rate(&self.limits, &self.ids));
            pair.ahead_until = carry(rates, pair.ahead_until, now);
            let rate = |limits: &Limits, ids: &[RouteId]| bind_rate(&route_limits(limits, ids, route));
            let rates = (rate(&old, &old_ids), rate(&self.limits, &self.ids));
            pair.bound_until = carry(rates, pair.bound_until, now);
        }
    }

    /// Forgets who is as if never seen; whether there was anybody.
    pub(crate) fn expire(&mut self, now: u128) -> bool {
        let before = self.clients.len() + self.pairs.len();
        self.clients.retain(|_, client| client.connections > 0 || client.ahead_until > now);
        let is_idle = |pair: &Pair| pair.connections == 0 && pair.requests == 0;
        self.pairs.retain(|_, pair| !is_idle(pair) || pair.ahead_until.max(pair.bound_until) > now);
        self.clients.len() + self.pairs.len() < before
    }

    /// Whether a new client and a new pair of either family would find room.
    pub(crate) fn has_room_for_all(&self) -> bool {
        let families = [ClientKey::V4(0), ClientKey::V6(0)];
        families.into_iter().all(|family| {
            self.has_room(self.clients.keys().copied(), family)
                && self.has_room(self.pairs.keys().map(|(key, _)| *key), family)
        })
    }

    /// Under what pressure the table is: every state that holds.
    pub(crate) fn pressure(&self) -> Vec<&'static str> {
        let Limits { max_connections, pending, per_client, .. } = self.limits;
        let of_process = [
            ("the process is full", max_connections, self.process(Scope::Global)),
            ("pending is full", pending, self.process(Scope::Pending)),
        ];
        let mut states: Vec<_> =
            of_process.into_iter().filter(|(_, limit, held)| full(*limit, *held)).map(|(name, ..)| name).collect();
        if of_process.into_iter().any(|(_, limit, held)| limit != 0 && held > limit) {
            states.push("the process is above a lowered limit");
        }
        if self.clients.values().any(|client| full(per_client, client.connections)) {
            states.push("a client is full");
        }
        if self.limits.exempt_slots > 0 && self.process(Scope::Exempt) >= self.limits.exempt_slots {
            states.push("exempt is full");
        }
        let routes = || self.limits.routes.iter().zip(&self.ids);
        if routes().any(|(limits, id)| full(limits.max_connections, self.active(Scope::Route, *id))) {
            states.push("a route is full");
        }
        if routes().any(|(limits, id)| full(limits.max_requests, self.active(Scope::Requests, *id))) {
            states.push("the requests of a route are full");
        }
        if !self.has_room_for_all() {
            states.push("the table is full");
        }
        if states.is_empty() {
            states.push("nothing is full");
        }
        states
    }

    pub(crate) fn tracked(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn open(&mut self, now: u128, arrival: Arrival) -> Result<Held, Rejection> {
        let slots = if arrival.pending { Slots::GLOBAL.with(Slots::PENDING) } else { Slots::GLOBAL };
        let Origin::Client(address) = arrival.origin else {
            return match self.process_fits(slots) {
                Ok(()) => {
                    self.take(slots);
                    Ok(Held { slots, ..Held::default() })
                }
                Err(rejection) => {
                    self.refuse(rejection, None, self.limits.enforce, false)?;
                    Ok(Held { over: true, ..Held::default() })
                }
            };
        };
        if self.take_exempt(address) {
            return Ok(Held { slots: Slots::EXEMPT, ..Held::default() });
        }
        let key = Prefixes::default().key(address);
        match self.client_fits(now, key).and_then(|()| self.process_fits(slots)) {
            Ok(()) => {
                self.take(slots);
                self.take_client(now, key);
                Ok(Held { client: Some(key), slots: slots.with(Slots::CLIENT), ..Held::default() })
            }
            Err(rejection) => {
                self.refuse(rejection, None, self.limits.enforce, false)?;
                Ok(Held { client: Some(key), over: true, ..Held::default() })
            }
        }
    }

    pub(crate) fn identify(&mut self, now: u128, held: &mut Held, client: IpAddr) -> Result<(), Rejection> {
        if held.client.is_some() || held.slots.has(Slots::EXEMPT) {
            return Ok(());
        }
        let key = Prefixes::default().key(client);
        if held.slots == Slots::NONE {
            held.client = Some(key);
            return Ok(());
        }
        if self.take_exempt(client) {
            self.give(held.slots);
            held.slots = Slots::EXEMPT;
            return Ok(());
        }
        if let Err(rejection) = self.client_fits(now, key) {
            self.refuse(rejection, None, self.limits.enforce, false)?;
            self.give(held.slots);
            *held = Held {
                client: Some(key),
                slots: Slots::NONE,
                over: true,
                bindings: std::mem::take(&mut held.bindings),
            };
            return Ok(());
        }
        self.take_client(now, key);
        held.client = Some(key);
        held.slots = held.slots.with(Slots::CLIENT);
        Ok(())
    }

    pub(crate) fn bind(&mut self, now: u128, held: &mut Held, route: RouteId) -> Result<(), Rejection> {
        if held.bindings.iter().any(|binding| binding.route() == route) {
            return Ok(());
        }
        if !held.slots.has(Slots::GLOBAL) {
            held.bindings.push(Binding::new(route, false, false));
            return Ok(());
        }
        if held.slots.has(Slots::PENDING) {
            self.give(Slots::PENDING);
            held.slots = held.slots.without(Slots::PENDING);
        }
        let client = held.client.filter(|_| held.slots.has(Slots::CLIENT));
        let limits = route_limits(&self.limits, &self.ids, route);
        let pair = client.and_then(|key| self.pairs.get(&(key, route)).copied());
        let Pair { connections, bound_until, .. } = pair.unwrap_or_default();
        let rate = client.and_then(|_| bind_rate(&limits));
        let refusal = if full(limits.max_connections, self.active(Scope::Route, route)) {
            Some(Rejection::full(Reason::RouteLimit, limits.max_connections))
        } else if let Some(wait) = rate.and_then(|rate| too_early(rate, bound_until, now)) {
            Some(Rejection::too_fast(Reason::RouteClientRate, limits.rate_per_minute, wait))
        } else if client.is_some() && full(limits.per_client, connections) {
            Some(Rejection::full(Reason::RouteClientLimit, limits.per_client))
        } else if let Some(key) = client.filter(|_| rate.is_some() && pair.is_none())
            && !self.has_room(self.pairs.keys().map(|(key, _)| *key), key)
        {
            Some(self.table_full())
        } else {
            None
        };
        if let Some(rejection) = refusal {
            self.refuse(rejection, Some(route), self.limits.enforce && limits.enforce, false)?;
            held.over = true;
            return Ok(());
        }
        self.add(Scope::Route, Some(route));
        if let Some(key) = client {
            self.add(Scope::RouteClient, Some(route));
            let pair = self.pairs.entry((key, route)).or_default();
            pair.connections += 1;
            if let Some((interval, ..)) = rate {
                pair.bound_until = pair.bound_until.max(now) + interval;
            }
        }
        held.bindings.push(Binding::new(route, true, client.is_some()));
        Ok(())
    }

    pub(crate) fn unbind(&mut self, held: &mut Held, route: RouteId) {
        if let Some(place) = held.bindings.iter().position(|binding| binding.route() == route) {
            let binding = held.bindings.remove(place);
            self.release(held.client, binding);
        }
    }

    pub(crate) fn close(&mut self, held: &Held) {
        for &binding in &held.bindings {
            self.release(held.client, binding);
        }
        if held.slots.has(Slots::CLIENT) {
            self.clients.get_mut(&held.client.unwrap()).unwrap().connections -= 1;
            self.subtract(Scope::Client, None);
        }
        self.give(held.slots);
    }

    pub(crate) fn begin(
        &mut self,
        now: u128,
        client: Option<IpAddr>,
        route: RouteId,
    ) -> Result<HeldRequest, Rejection> {
        let limits = route_limits(&self.limits, &self.ids, route);
        if client.is_some_and(|address| self.is_exempt(address)) {
            return Ok(HeldRequest { client: None, route, slots: Slots::NONE });
        }
        let key = client.map(|address| Prefixes::default().key(address));
        let pair = key.and_then(|key| self.pairs.get(&(key, route)).copied()).unwrap_or_default();
        let rate = request_rate(&limits);
        let refusal = if let Some(wait) = key.and(rate).and_then(|rate| too_early(rate, pair.ahead_until, now)) {
            Some(Rejection::too_fast(Reason::RequestRate, rate.unwrap().2, wait))
        } else if key.is_some() && full(limits.max_requests_per_client, pair.requests) {
            Some(Rejection::full(Reason::RequestClientLimit, limits.max_requests_per_client))
        } else if let Some(key) = key.filter(|_| rate.is_some())
            && !self.pairs.contains_key(&(key, route))
            && !self.has_room(self.pairs.keys().map(|(key, _)| *key), key)
        {
            Some(self.table_full())
        } else if full(limits.max_requests, self.active(Scope::Requests, route)) {
            Some(Rejection::full(Reason::RequestLimit, limits.max_requests))
        } else {
            None
        };
        if let Some(rejection) = refusal {
            self.refuse(rejection, Some(route), self.limits.enforce && limits.enforce, true)?;
            return Ok(HeldRequest { client: key, route, slots: Slots::NONE });
        }
        self.add(Scope::Requests, Some(route));
        let Some(key) = key else { return Ok(HeldRequest { client: None, route, slots: Slots::REQUEST }) };
        self.add(Scope::RequestsClient, Some(route));
        let pair = self.pairs.entry((key, route)).or_default();
        pair.requests += 1;
        if let Some((interval, ..)) = rate {
            pair.ahead_until = pair.ahead_until.max(now) + interval;
        }
        Ok(HeldRequest { client: Some(key), route, slots: Slots::REQUEST.with(Slots::REQUEST_CLIENT) })
    }

    pub(crate) fn finish(&mut self, held: &HeldRequest) {
        if held.slots.has(Slots::REQUEST) {
            self.subtract(Scope::Requests, Some(held.route));
        }
        if held.slots.has(Slots::REQUEST_CLIENT) {
            self.subtract(Scope::RequestsClient, Some(held.route));
            self.pairs.get_mut(&(held.client.unwrap(), held.route)).unwrap().requests -= 1;
        }
    }

    /// The clients with connections, largest first.
    pub(crate) fn top(&self) -> Vec<TopClient> {
        let mut top: Vec<_> = self.clients.iter().filter(|(_, client)| client.connections > 0).collect();
        top.sort_by_key(|(key, client)| (std::cmp::Reverse(client.connections), **key));
        let foremost = |(&client, state): (&ClientKey, &Client)| TopClient {
            client,
            active: state.connections,
            refused: 0,
            refused_error: 0,
        };
        top.into_iter().map(foremost).collect()
    }

    /// Connections of a client: all, and per route.
    pub(crate) fn connections(&self, key: ClientKey) -> (u32, Vec<(RouteId, u32)>) {
        let of_routes = self.pairs.iter().filter(|((client, _), pair)| *client == key && pair.connections > 0);
        let all = self.clients.get(&key).map_or(0, |client| client.connections);
        (all, of_routes.map(|((_, route), pair)| (*route, pair.connections)).collect())
    }

    fn active(&self, scope: Scope, route: RouteId) -> u32 {
        let count = self.scopes.get(&(scope, Some(route))).copied().unwrap_or_default();
        u32::try_from(count.0).unwrap()
    }

    fn process(&self, scope: Scope) -> u32 {
        u32::try_from(self.scopes.get(&(scope, None)).copied().unwrap_or_default().0).unwrap()
    }

    fn process_fits(&self, slots: Slots) -> Result<(), Rejection> {
        if slots.has(Slots::PENDING) && full(self.limits.pending, self.process(Scope::Pending)) {
            return Err(Rejection::full(Reason::PendingLimit, self.limits.pending));
        }
        if full(self.limits.max_connections, self.process(Scope::Global)) {
            return Err(Rejection::full(Reason::GlobalLimit, self.limits.max_connections));
        }
        Ok(())
    }

    fn client_fits(&self, now: u128, key: ClientKey) -> Result<(), Rejection> {
        let (most, rate) = client_limits(&self.limits, key);
        let client = self.clients.get(&key).copied();
        let Client { connections, ahead_until } = client.unwrap_or_default();
        if let Some(wait) = rate.and_then(|rate| too_early(rate, ahead_until, now)) {
            return Err(Rejection::too_fast(Reason::ClientRate, rate.unwrap().2, wait));
        }
        if full(most, connections) {
            return Err(Rejection::full(Reason::ClientLimit, most));
        }
        if client.is_none() && !self.has_room(self.clients.keys().copied(), key) {
            return Err(self.table_full());
        }
        Ok(())
    }

    fn has_room(&self, keys: impl Iterator<Item = ClientKey>, for_key: ClientKey) -> bool {
        let is_v4 = |key: &ClientKey| matches!(key, ClientKey::V4(_));
        let (v4, v6): (Vec<ClientKey>, Vec<ClientKey>) = keys.partition(is_v4);
        let (own, other) = if is_v4(&for_key) { (v4, v6) } else { (v6, v4) };
        own.len() + other.len().max(self.tracked_clients / 4) < self.tracked_clients
    }

    fn table_full(&self) -> Rejection {
        Rejection::full(Reason::TableFull, u32::try_from(self.tracked_clients).unwrap())
    }

    fn take_client(&mut self, now: u128, key: ClientKey) {
        let rate = client_limits(&self.limits, key).1;
        let client = self.clients.entry(key).or_default();
        client.connections += 1;
        if let Some((interval, ..)) = rate {
            client.ahead_until = client.ahead_until.max(now) + interval;
        }
        self.add(Scope::Client, None);
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.limits.exempt.iter().any(|network| network.contains(&canonical(address)))
    }

    fn take_exempt(&mut self, address: IpAddr) -> bool {
        let most = if self.limits.exempt_slots == 0 { 4_095 } else { self.limits.exempt_slots };
        let taken = self.is_exempt(address) && self.process(Scope::Exempt) < most;
        if taken {
            self.add(Scope::Exempt, None);
        }
        taken
    }

    fn release(&mut self, client: Option<ClientKey>, binding: Binding) {
        if binding.holds_route() {
            self.subtract(Scope::Route, Some(binding.route()));
        }
        if binding.holds_client() {
            self.subtract(Scope::RouteClient, Some(binding.route()));
            self.pairs.get_mut(&(client.unwrap(), binding.route())).unwrap().connections -= 1;
        }
    }

    fn take(&mut self, slots: Slots) {
        for (slot, scope) in PROCESS {
            if slots.has(slot) {
                self.add(scope, None);
            }
        }
    }

    fn give(&mut self, slots: Slots) {
        for (slot, scope) in PROCESS {
            if slots.has(slot) {
                self.subtract(scope, None);
            }
        }
    }

    fn add(&mut self, scope: Scope, route: Option<RouteId>) {
        let count = self.scopes.entry((scope, route)).or_default();
        *count = (count.0 + 1, count.1 + 1);
    }

    fn subtract(&mut self, scope: Scope, route: Option<RouteId>) {
        self.scopes.get_mut(&(scope, route)).unwrap().0 -= 1;
    }

    fn refuse(
        &mut self,
        rejection: Rejection,
        route: Option<RouteId>,
        enforce: bool,
        request: bool,
    ) -> Result<(), Rejection> {
        *self.refused.entry((rejection.reason, route, enforce, request)).or_default() += 1;
        if enforce { Err(rejection) } else { Ok(()) }
    }
}

const PROCESS: [(Slots, Scope); 3] =
    [(Slots::GLOBAL, Scope::Global), (Slots::PENDING, Scope::Pending), (Slots::EXEMPT, Scope::Exempt)];
