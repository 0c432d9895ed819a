//! The network filter daemon: filters, and their bindings to guests' cards.
//!
//! All rules are one nftables table, so all changes run one after another as jobs of one owner ([`driver`]): the new
//! rules are worked out without touching anything ([`rules`]), written to disk, put into force in one step, published.
//! Addresses that nobody told are learned from the card's own packets ([`learn`]).

pub mod api;
pub mod bindings;
pub mod definitions;
pub mod driver;
pub mod force;
pub mod learn;
pub mod rules;
pub mod serve;
pub mod stock;
