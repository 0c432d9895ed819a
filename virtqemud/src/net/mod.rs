//! The host's end of guests' network cards.
//!
//! ```text
//!   card of a network --> port of virtnetworkd (gRPC) --+
//!                                                       v
//!   card with a source of its own ------------> connection: bridge | interface of the host | nothing
//!                                                       v
//!                                  tap in a bridge | macvtap | plain tap --> descriptors that QEMU inherits
//! ```
//!
//! A tap lasts while QEMU holds its descriptor, so there is nothing to clean up after a killed daemon or guest but
//! ports and macvtaps: both are in the status file before they are made ([`Holding`]).

pub mod addresses;
pub mod connect;
pub mod filter;
mod holding;
pub mod limits;
mod macvtap;
pub mod names;
pub mod ports;
pub mod replug;
mod tap;

pub use connect::{Connected, Context, connect};
pub use holding::Holding;
pub use names::Names;
pub use ports::Networks;

use std::collections::HashMap;

use virt_model::domain::Domain;
use virt_model::domain::interface::{Interface, NetSource};

use crate::command::NetFds;

/// Whether QEMU gets the card's cable as a descriptor.
pub fn has_tap(card: &Interface) -> bool {
    matches!(
        card.source,
        NetSource::Network(_) | NetSource::Bridge(_) | NetSource::Ethernet(_) | NetSource::Direct(_)
    )
}

/// Models that speak virtio, whose packets carry a header of their own.
pub fn is_virtio(card: &Interface) -> bool {
    card.model.as_deref().is_some_and(|m| m.starts_with("virtio"))
}

/// How many descriptors a card's cable has.
pub fn queues(card: &Interface) -> u32 {
    if is_virtio(card) { card.driver.queues.unwrap_or(1).max(1) } else { 1 }
}

/// Names under which a running QEMU gets the descriptors of card `alias`.
pub fn fd_names(alias: &str, taps: usize, vhosts: usize) -> NetFds {
    let names = |what: &str, count| (0..count).map(|at| format!("{what}-{alias}{at}")).collect();
    NetFds { tap: names("tapfd", taps), vhost: names("vhostfd", vhosts) }
}

/// Descriptors of all cards as a running QEMU knows them, for lines that are only compared.
pub fn named(domain: &Domain) -> HashMap<String, NetFds> {
    let cards = domain.devices.interfaces.iter().filter(|c| has_tap(c));
    let of = |card: &Interface| {
        let alias = card.info.alias.clone()?;
        let names = fd_names(&alias, queues(card) as usize, 0);
        Some((alias, names))
    };
    cards.filter_map(of).collect()
}
