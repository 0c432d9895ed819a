//! The client of QEMU's machine protocol (QMP): JSON lines over a unix socket.
//!
//! ```text
//!   callers --run()--> [queue] --> writer task --> socket --> QEMU
//!      ^                                                        |
//!      +-- waiter map by id <------- reader task <-- lines -----+
//!                                        |
//!                                        +--> bounded event queue --> the guest's owner
//! ```
//!
//! Several commands may be in flight; each has an id, a waiter and a deadline ([`deadline`]). The end of the
//! connection fails every waiter. The peer is hostile: it runs guest code, so lines, nesting, commands in flight and
//! queued events are bounded, and unknown events and fields are no error. Reference: QEMU's interop/qmp-spec.

mod client;
pub mod commands;
mod deadline;
mod error;
mod event;
#[cfg(test)]
pub(crate) mod fake;
pub mod lines;
#[cfg(test)]
mod tests;

pub use client::{Client, Pending};
pub use commands::Command;
pub use error::{Error, Result, is_closed};
pub use event::{Delivery, Event, Events};

/// Longest accepted line, in bytes: libvirt's own limit of a reply.
pub const MAX_LINE: usize = 10 * 1024 * 1024;
/// Longest accepted event, in bytes; a longer one is dropped and counted as lost.
pub const MAX_EVENT: usize = 256 * 1024;
/// Commands in flight on one connection.
pub const MAX_IN_FLIGHT: usize = 64;
/// Events that wait for the owner; more are dropped and counted as lost.
pub const MAX_EVENTS: usize = 1024;
