//! Speaks libvirt's own wire protocol to unmodified clients and maps each call to gRPC.
//!
//! One call through the proxy:
//!
//! ```text
//!   virsh        client.rs          gate.rs         calls/*            link.rs           virtqemud
//!     | CALL 23    |                  |               |                  |                  |
//!     |----------->| frame            |               |                  |                  |
//!     |            |-- number, auth,->|               |                  |                  |
//!     |            |   open, ro       |               |                  |                  |
//!     |            |-- decode arguments, read-only -->|                  |                  |
//!     |            |   by argument                    |-- GetRequest --->| session (opened  |
//!     |            |                                  |                  | at first use) -->|
//!     |            |                                  |<---- Domain -----|<-----------------|
//!     |<-----------|<-- reply, in any order ----------|                  |                  |
//! ```
//!
//! - [`route`]: which daemon serves a URI and an object. - [`house`]: what all connections share. - [`server`]: sockets.
//! - `client`, `gate`, `link`: one connection. - `calls`: the tables. - `api`: the gRPC side. - `events`, `streams`: what outlives a call.

mod api;
mod calls;
pub mod client;
mod events;
mod gate;
pub mod house;
mod keepalive;
mod kept;
pub mod limits;
pub mod link;
mod params;
mod refusal;
pub mod route;
pub mod server;
mod streams;

use std::sync::Arc;

use virt_daemon::{Context, Mode, Running};
use virt_error::Result;

use crate::house::House;
use crate::limits::Limits;
use crate::server::Room;

/// Opens the doors. The proxy has no state of its own: everything that a call needs is a daemon's.
pub async fn start(mut context: Context) -> Result<Running> {
    let limits = Limits::from_conf(&context.conf)?;
    let house = Arc::new(House::new(context.paths.grpc(), context.paths.mode == Mode::System, limits));
    let room = Room::new(&limits, context.busy.clone());
    for door in server::doors(&mut context)? {
        tokio::spawn(server::accept(door, house.clone(), room.clone()));
    }
    Ok(Running::without_rpc())
}
