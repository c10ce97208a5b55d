//! Recording: the hot path.

use crate::Occurrence;
use crate::core::{CLOSED, Core, FOLDING};
use crate::keys::{Key, RouteOf};
use crate::local::Local;
use crate::origin::Origin;
use crate::wording::Wording;
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;

impl Core {
    pub(crate) fn record(&self, kind: usize, reason: &'static str, route: Option<u32>, source: Option<IpAddr>) -> bool {
        let (state, now) = (self.kind(kind), self.clock.now());
        let word = state.word();
        let key = || Key { reason: Cow::Borrowed(reason), route: route.map_or(RouteOf::None, RouteOf::Number) };
        if word & FOLDING == 0 && state.claim(now, key) {
            let route = route.map(|route| self.name(route));
            self.sink.occurrence(&Occurrence { kind: state.kind.clone(), reason, route, source });
            return true;
        }
        let origin = source.map(|source| self.origin(source));
        let word = with(self, |local| {
            let number = local.typed(kind, reason, route);
            state.count(&local.cell, kind, number, now, origin)
        });
        if word & CLOSED != 0 {
            self.flush();
        } else if state.is_overdue(now) {
            self.tick_if_free();
        }
        false
    }

    /// Takes note of an event whose kind and reason are texts; whether it is to be written by whoever has it. Writes
    /// nothing itself, unless nobody sweeps any more.
    pub(crate) fn record_texts(&self, wording: &Wording, origin: impl FnOnce(&Self) -> Option<Origin>) -> bool {
        let now = self.clock.now();
        let counted = with(self, |local| {
            let (kind, number) = local.texts(wording, |name| self.kind_named(name));
            let state = self.kind(kind);
            if state.word() & FOLDING == 0 && state.claim(now, || wording.key()) {
                return None;
            }
            Some(state.count(&local.cell, kind, number, now, origin(self)))
        });
        match counted {
            None => true,
            Some(word) if word & CLOSED != 0 => {
                self.flush();
                false
            }
            Some(_) => false,
        }
    }
}

#[cfg(not(loom))]
thread_local! {
    /// Almost always one.
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

#[cfg(loom)]
loom::thread_local! {
    static LOCALS: RefCell<Vec<Local>> = RefCell::new(Vec::new());
}

/// Calls `what` with the thread's part of `core`; with one that threads share under a lock where the thread is at its end,
/// or in the middle of this.
pub(crate) fn with<T>(core: &Core, what: impl FnOnce(&mut Local) -> T) -> T {
    let mut what = Some(what);
    let mut call = |local: &mut Local| what.take().map(|what| what(local));
    let called = LOCALS.try_with(|locals| {
        let mut locals = locals.try_borrow_mut().ok()?;
        let place = locals.iter().position(|local| local.id == core.id);
        let place = place.unwrap_or_else(|| {
            locals.retain(Local::is_of_use);
            locals.push(core.local());
            locals.len() - 1
        });
        let local = &mut locals[place];
        if local.generation != core.generation() {
            *local = core.local();
        }
        call(local)
    });
    let called = called.ok().flatten();
    called.unwrap_or_else(|| {
        let mut spare = core.spare.lock();
        let local = match &mut *spare {
            Some(local) if local.generation == core.generation() => local,
            other => other.insert(core.local()),
        };
        call(local).expect("it is called once, here or above")
    })
}
