//! What whole-host tests stand on: a temporary host with real daemons, guests and clients, and hostile clients.
//! Development only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in here is a failed test"
)]

pub mod bed;
pub mod host;
pub mod hostile;
pub mod vary;
pub mod wait;
pub mod wire_server;
