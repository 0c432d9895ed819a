//! Hostile clients of the libvirt protocol: what they send comes from a seed, so a failure can be sent again.
//!
//! A server passes when each frame is followed by an answer to the probe behind it or by a closed connection, nothing
//! it sends is other than a frame, and new connections are served.

mod documents;
mod frames;
mod session;

pub use documents::{hostile_documents, mangle_document};
pub use frames::{HostileFrame, Trick};
pub use session::{Report, hostile_session};
