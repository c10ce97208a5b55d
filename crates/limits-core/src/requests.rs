//! Requests in flight and request rates: decided like connections, counted on their own.

use crate::entry::hash;
use crate::routes::RouteSlot;
use crate::shard::Shard;
use crate::table::{Place, Table};
use conn_tracker::{Reason, Rejection, RequestHold, RouteId, Slots, canonical};
use std::net::IpAddr;
use std::time::Instant;

impl Table {
    pub(crate) fn begin(
        &self,
        desk: usize,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
    ) -> Result<RequestHold, Rejection> {
        let now = self.micros(now);
        let Some(state) = self.routes.state(route) else {
            debug_assert!(false, "{route} was never given out");
            return Err(Rejection::full(Reason::RequestLimit, 0));
        };
        let client = client.map(|address| (canonical(address), self.place(address)));
        let mut shard = match client {
            Some((_, place)) => self.lock_with_pair_room(place, now, route),
            None => self.lock_desk(desk, now),
        };
        let age = shard.age();
        let Shard { settings, cold, .. } = &mut *shard;
        let pairs = &mut cold.pairs;
        if client.is_some_and(|(address, _)| settings.is_exempt(address)) {
            return Ok(RequestHold::new(None, route, Slots::NONE));
        }
        let rule = settings.route(route);
        let full = rule.requests.rejection(Reason::RequestLimit);
        let fits = |(requests, _)| !rule.requests.refuses(requests);
        let held = state.held(RouteSlot::Request);

        let answer = match client {
            None if held.take((1, 0), fits) => Ok(Slots::REQUEST),
            None => Err(full),
            Some((_, Place { key, .. })) => {
                let hash = hash(&self.hasher, key, route);
                let pair = pairs.find(hash, key, route);
                match rule.begin(pair.as_deref().copied().unwrap_or_default(), age) {
                    Err(rejection) => Err(rejection),
                    Ok(_) if pair.is_none() && rule.request_rate.is_some() && !self.has_pair_room(key) => {
                        Err(Rejection::full(Reason::TableFull, self.pairs.most()))
                    }
                    Ok(_) if !held.take((1, 1), fits) => Err(full),
                    Ok(after) => {
                        match pair {
                            Some(usage) => *usage = after,
                            None => self.insert_pair(pairs, hash, key, route, after),
                        }
                        Ok(Slots::REQUEST.with(Slots::REQUEST_CLIENT))
                    }
                }
            }
        };
        let enforced = settings.enforce && rule.enforce;
        drop(shard);
        let key = client.map(|(_, place)| place.key);
        match answer {
            Ok(slots) => {
                state.note_admitted(RouteSlot::Request, client.is_some());
                Ok(RequestHold::new(key, route, slots))
            }
            Err(rejection) => {
                state.note_refused(RouteSlot::Request, rejection.reason, enforced);
                if let Some((_, place)) = client {
                    self.sketch.note(place);
                }
                if enforced { Err(rejection) } else { Ok(RequestHold::unheld(key, route, rejection.reason)) }
            }
        }
    }

    pub(crate) fn finish(&self, mut hold: RequestHold) {
        let (slots, route) = (hold.slots(), hold.route());
        let of_client = slots.has(Slots::REQUEST_CLIENT);
        if let Some(key) = hold.client().filter(|_| of_client) {
            let mut shard = self.shard_of(self.place_of(key)).lock();
            self.change_pair(&mut shard, key, route, |usage| {
                let held = usage.requests > 0;
                usage.requests = usage.requests.saturating_sub(1);
                held
            });
        }
        if slots.has(Slots::REQUEST) {
            let less = (1, u32::from(of_client));
            self.expect(self.routes.state(route).is_some_and(|state| state.held(RouteSlot::Request).give(less)));
        }
        hold.settle();
    }
}
