//! Whether a request may take its slots: those of its connection on the route, and its own.

use super::{Answer, Dropped, Serving, answers};
use crate::HttpGeneration;
use crate::connection::Refusal;
use conn_tracker::{EventKind, Reason, RequestPermit};
use proxy_route::RoutedRoute;
use std::net::IpAddr;
use std::sync::Arc;

/// Another worker may be the one that gets a slot which is free for a moment: so often is it tried.
const MOST_TAKEN: usize = 3;

impl Serving<'_> {
    /// Binds the connection to the route and counts the request of `for_whom`; what the client gets instead of an
    /// answer from the route, if a limit refuses.
    pub(super) fn admit(
        &mut self,
        newest: &HttpGeneration,
        route: &RoutedRoute,
        for_whom: IpAddr,
    ) -> Option<Result<Answer, Dropped>> {
        let client = self.client;
        let now = self.flight.began;
        let mut bound = client.bind(now, route.id);
        if newest.generation.settings.idle_reclaim {
            let is_full = |refused: &Refusal| refused.rejection.reason == Reason::RouteLimit;
            for _ in 0..MOST_TAKEN {
                if !bound.as_ref().is_err_and(is_full) || !client.worker.idle.take_slot(route.id) {
                    break;
                }
                self.event(EventKind::Reclaimed, "route_limit", for_whom);
                bound = client.bind(now, route.id);
            }
        }
        match bound {
            Ok(None) => {}
            Ok(Some(over)) => {
                self.event(EventKind::WouldRefuse, over.reason.label(), for_whom);
                // Enforced, there would be no such request; a first one would have ended its connection.
                if over.first && self.h1 && !newest.generation.settings.enforce {
                    client.let_go();
                }
                return None;
            }
            Err(refused) => {
                self.event(EventKind::Refused, refused.rejection.reason.label(), for_whom);
                let answer = answers::refused(&refused.rejection, &self.flight.id);
                return Some(if refused.first && self.h1 { self.released_answer(answer) } else { Ok(answer) });
            }
        }
        // Who speaks for others is nobody's client.
        let counted = (!newest.generation.balancers.contains(for_whom)).then_some(for_whom);
        match client.begin(now, counted, route.id) {
            Ok(permit) => {
                if let Some(reason) = permit.as_ref().and_then(RequestPermit::would_refuse) {
                    self.event(EventKind::WouldRefuse, reason.label(), for_whom);
                }
                self.flight.permit = permit.map(Arc::new);
                None
            }
            Err(rejection) => {
                self.event(EventKind::Refused, rejection.reason.label(), for_whom);
                let mut answer = answers::refused(&rejection, &self.flight.id);
                if let (Reason::RequestRate, Some(text)) = (rejection.reason, &route.security.too_fast) {
                    answers::say(&mut answer, text);
                }
                Some(Ok(answer))
            }
        }
    }
}
