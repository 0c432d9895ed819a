//! The secrets daemon: passphrases and keys of disks, storage pools, TLS and virtual TPMs.
//!
//! ```text
//!   client --virtproxyd--> SetValue, GetValue (not of private ones)    as sealed memory files, never in a message
//!   virtqemud, virtstoraged --> Reveal (any)                           only as this daemon's own user, for themselves
//! ```
//!
//! A persistent secret's value is read from disk when somebody asks and overwritten in memory right after; only an
//! ephemeral one's stays. [`vault`] is the only place that knows how values lie on disk, [`definitions`] what may follow
//! what. The process is hidden from core dumps (`virt_daemon::Daemon::hidden`).

pub mod api;
pub mod definitions;
pub mod driver;
pub mod secret;
pub mod serve;
pub mod vault;
