//! A server of HTTP/2, and a client whose frames are made of bytes.
//!
//! Bytes alone would hardly ever be frames that belong together. So they are orders: each says which frame comes next, and
//! the bytes behind it what is in that. Some of the orders make frames that no client sends.

mod orders;
mod world;

use orders::{Order, Orders};
use std::cell::RefCell;
use world::World;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Has a client say to a server what the bytes order.
///
/// # Panics
/// If the server panics, does not come to an end with its client, or keeps a slot.
pub(crate) fn serve(bytes: &[u8]) {
    WORLD.with_borrow_mut(|kept| {
        // One that has panicked is not used again.
        let world = kept.take().unwrap_or_else(World::new);
        world.meet(Orders::new(bytes));
        *kept = Some(world);
    });
}
