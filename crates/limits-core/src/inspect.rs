//! Reading the counts while they change.

use crate::capacity::Family;
use crate::dense::HASHES;
use crate::routes::{RouteSlot, RouteState};
use crate::secret::Place;
use crate::settings::{Reasons, Settings};
use crate::shard::{Admitted, Cold, Refused};
use crate::sketch;
use crate::sync::Arc;
use crate::table::Table;
use conn_tracker::{
    ClientKey, Explanation, Inspect, Reason, RouteId, Scope, ScopeState, Snapshot, TopBy, TopClient, canonical,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

impl Inspect for Table {
    fn snapshot(&self) -> Snapshot {
        let settings = Arc::clone(&self.shards[0].lock().settings);
        let mut total = Total::default();
        let mut bytes = size_of_val(&*self.shards);
        for shard in &*self.shards {
            let shard = shard.lock();
            total.add(&shard.admitted, &shard.cold);
            bytes += shard.clients.bytes() + size_of::<Cold>() + shard.cold.pairs.bytes();
        }
        let mut scopes = self.process_scopes(&settings, &total);
        for (route, state) in self.routes.iter() {
            scopes.extend(route_scopes(&settings, route, state));
        }
        Snapshot {
            scopes,
            tracked_clients: self.clients.used(),
            table_capacity: u64::from(self.clients.most()),
            table_bytes: bytes as u64,
            anomalies: self.anomalies(),
        }
    }

    fn top(&self, by: TopBy, most: usize) -> Vec<TopClient> {
        let most = most.min(sketch::LEN);
        match by {
            TopBy::Refused => self
                .sketch
                .all()
                .into_iter()
                .take(most)
                .map(|hitter| TopClient {
                    client: hitter.client,
                    active: self.active(hitter.client),
                    refused: hitter.refused,
                    refused_error: hitter.error,
                })
                .collect(),
            TopBy::Active => self
                .most_active(most)
                .into_iter()
                .map(|(active, client)| {
                    let hitter = self.sketch.find(self.place_of(client));
                    let (refused, refused_error) = hitter.map_or((0, 0), |hitter| (hitter.refused, hitter.error));
                    TopClient { client, active, refused, refused_error }
                })
                .collect(),
        }
    }

    fn explain(&self, client: IpAddr) -> Explanation {
        let place = self.place(client);
        let routes = self.routes.iter().map(|(route, _)| (route, self.active_on(place, route)));
        let routes = routes.filter(|&(_, active)| active > 0).collect();
        let mut shard = self.shard_of(place).lock();
        let active = shard.clients.find(place.hash, place.key, ()).map_or(0, |usage| usage.held);
        let rule = shard.settings.client(place.key);
        Explanation {
            client: place.key,
            exempt: shard.settings.is_exempt(canonical(client)),
            active,
            limit: rule.most.limit(),
            rate_per_minute: rule.rate.map(|rate| rate.per_period()),
            routes,
        }
    }
}

impl Table {
    fn process_scopes(&self, settings: &Settings, total: &Total) -> Vec<ScopeState> {
        let held = self.process.held();
        let client_reasons = [Reason::ClientLimit, Reason::ClientRate, Reason::TableFull];
        let limit = |most, none: u32| (most != none).then_some(most);
        let scope = |scope, active, limit, admitted, reasons: &[Reason]| ScopeState {
            scope,
            route: None,
            active,
            limit,
            admitted,
            refused: occurred(reasons, |reason| total.refused.refused[reason.index()]),
            would_refuse: occurred(reasons, |reason| total.refused.would_refuse[reason.index()]),
        };
        let most = settings.most;
        let of_clients = total.admitted.client();
        let of_client = settings.any_client().most.limit();
        vec![
            scope(
                Scope::Global,
                held.global.into(),
                limit(most.global, crate::packed::GLOBAL_MOST),
                total.admitted.global(),
                &[Reason::GlobalLimit],
            ),
            scope(
                Scope::Pending,
                held.pending.into(),
                limit(most.pending, crate::packed::PENDING_MOST),
                total.admitted.pending,
                &[Reason::PendingLimit],
            ),
            scope(Scope::Client, of_clients - total.admitted.released, of_client, of_clients, &client_reasons),
            scope(Scope::Exempt, held.exempt.into(), Some(most.exempt), total.exempt, &[]),
        ]
    }

    fn active(&self, client: ClientKey) -> u32 {
        let place = self.place_of(client);
        self.shard_of(place).lock().clients.find(place.hash, client, ()).map_or(0, |usage| usage.held)
    }

    /// Connections of a client on a route.
    fn active_on(&self, place: Place, route: RouteId) -> u32 {
        let hash = self.secret.pair(place.hash, route);
        let mut shard = self.shard_of(place).lock();
        shard.cold.pairs.find(hash, place.key, route).map_or(0, |usage| usage.connections.held)
    }

    /// Part by part, each under its shard's lock. Whoever holds connections all the while is looked at once.
    fn most_active(&self, most: usize) -> Vec<(u32, ClientKey)> {
        let (mut foremost, mut seen) = (BinaryHeap::with_capacity(most + 1), Vec::with_capacity(2 * PART));
        for (shard, family) in self.shards.iter().flat_map(|shard| [(shard, Family::V4), (shard, Family::V6)]) {
            let mut from = 0;
            while from < HASHES {
                let least = foremost.peek().copied().filter(|_| foremost.len() >= most);
                // Not more than a look at each while the lock is held.
                from = shard.lock().clients.part(&self.secret, family, from, PART, |(key, usage)| {
                    let candidate = Reverse((usage.held, Reverse(key)));
                    if usage.held > 0 && least.is_none_or(|least| candidate < least) {
                        seen.push(candidate);
                    }
                });
                for candidate in seen.drain(..) {
                    foremost.push(candidate);
                    if foremost.len() > most {
                        foremost.pop();
                    }
                }
            }
        }
        foremost.into_sorted_vec().into_iter().map(|Reverse((active, Reverse(key)))| (active, key)).collect()
    }
}

/// Places looked at under one lock.
const PART: usize = 1024;

fn route_scopes(settings: &Settings, route: RouteId, state: &RouteState) -> Vec<ScopeState> {
    // Most routes have no limits of requests: they are shown where there is something to show.
    let shown = |scope: &ScopeState| {
        scope.limit.is_some() || scope.admitted > 0 || !scope.refused.is_empty() || !scope.would_refuse.is_empty()
    };
    let of_requests = slot_scopes(settings, route, state, RouteSlot::Request).into_iter().filter(shown);
    slot_scopes(settings, route, state, RouteSlot::Connection).into_iter().chain(of_requests).collect()
}

/// The scopes of one kind of slot of a route: of all clients, and of one.
fn slot_scopes(settings: &Settings, route: RouteId, state: &RouteState, slot: RouteSlot) -> [ScopeState; 2] {
    let (rule, reasons) = (settings.route(route).of(slot), Reasons::of(slot));
    let (active, active_of_clients) = state.held(slot).read();
    let (admitted, admitted_of_clients) = state.admitted(slot);
    let (all, client) = match slot {
        RouteSlot::Connection => (Scope::Route, Scope::RouteClient),
        RouteSlot::Request => (Scope::Requests, Scope::RequestsClient),
    };
    let scope = |scope, active: u32, limit, admitted, reasons: &[Reason]| ScopeState {
        scope,
        route: Some(route),
        active: active.into(),
        limit,
        admitted,
        refused: occurred(reasons, |reason| state.refused(slot, reason, true)),
        would_refuse: occurred(reasons, |reason| state.refused(slot, reason, false)),
    };
    let of_client = [reasons.client, reasons.rate, Reason::TableFull];
    [
        scope(all, active, rule.most.limit(), admitted, &[reasons.all]),
        scope(client, active_of_clients, rule.per_client.most.limit(), admitted_of_clients, &of_client),
    ]
}

fn occurred(reasons: &[Reason], count: impl Fn(Reason) -> u64) -> Vec<(Reason, u64)> {
    reasons.iter().map(|&reason| (reason, count(reason))).filter(|&(_, count)| count > 0).collect()
}

/// The sums over all shards.
#[derive(Debug, Default)]
struct Total {
    admitted: Admitted,
    exempt: u64,
    refused: Refused,
}

impl Total {
    fn add(&mut self, admitted: &Admitted, cold: &Cold) {
        let sums = &mut self.admitted;
        sums.direct += admitted.direct;
        sums.anonymous += admitted.anonymous;
        sums.named += admitted.named;
        sums.pending += admitted.pending;
        sums.released += admitted.released;
        self.exempt += cold.exempt;
        for (sum, more) in self.refused.refused.iter_mut().zip(cold.refused.refused) {
            *sum += more;
        }
        for (sum, more) in self.refused.would_refuse.iter_mut().zip(cold.refused.would_refuse) {
            *sum += more;
        }
    }
}
