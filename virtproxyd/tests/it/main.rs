//! The proxy in the test's own process, a fake daemon behind it, and before it the wire client, raw frames, or virsh.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in here is a failed test"
)]

mod bed;
mod calls;
mod clients;
mod events;
mod fake;
mod hostile;
mod kept;
mod protocol;
mod restart;
mod speed;
mod streams;
