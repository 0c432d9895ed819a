//! tonic kept in one place: listeners, identity, sessions, the descriptor channel, access, status mapping, clients.
//!
//! A daemon's side: [`server::Services`] and [`server::Server`] serve handlers; a handler asks [`caller::Caller::of`] who
//! calls, works with [`virt_error::Error`] and ends with [`status::IntoStatus`]. What must end with the client is
//! registered at [`session::Session::on_close`]; descriptors go through [`descriptor::Descriptors`].
//!
//! A client's side (virtproxyd, tests): [`client::Daemon`] reaches a daemon by its socket, [`client::ClientSession`] is
//! one legacy client's session with it.

pub mod access;
pub mod broken;
pub mod bulk;
pub mod caller;
pub mod check;
pub mod client;
pub mod descriptor;
mod gather;
pub mod listen;
pub mod peer;
pub mod server;
pub mod session;
pub mod status;
pub mod token;
pub mod watch;

pub use caller::{Asserted, Caller, Identity};
pub use session::{Session, Sessions};
pub use status::{IntoStatus, answer, from_status, to_status};
