//! libvirt's RPC: XDR, frames, the table of every program, server and client side.
//!
//! - [`xdr`]: how values look on the wire, with every limit checked before memory is taken.
//! - [`remote`], [`qemu`], [`lxc`], [`admin`], [`keepalive`], [`lock`], [`log`]: the programs, generated from `facts/` by
//!   `cargo xtask gen wire`: their types, tables, and one marker type per call ([`Procedure`]) and event ([`Event`]).
//! - [`frame`]: length word, header, payload; replies, errors, events, stream parts.
//! - [`conn`]: frames over a socket, with descriptors: what a server is built on.
//! - [`client`]: the client's side.

pub mod client;
pub mod conn;
pub mod frame;
#[path = "gen/mod.rs"]
mod generated;
pub mod program;
pub mod xdr;

pub use generated::{admin, keepalive, lock, log, lxc, qemu, remote};
pub use program::{Event, ProcInfo, Procedure, Program};

/// The programs served on the main socket, and the rest: found by their number on the wire.
pub fn program(number: u32) -> Option<&'static Program> {
    Some(match number {
        n if n == remote::PROGRAM.number => &remote::PROGRAM,
        n if n == qemu::PROGRAM.number => &qemu::PROGRAM,
        n if n == lxc::PROGRAM.number => &lxc::PROGRAM,
        n if n == keepalive::PROGRAM.number => &keepalive::PROGRAM,
        n if n == admin::PROGRAM.number => &admin::PROGRAM,
        n if n == lock::PROGRAM.number => &lock::PROGRAM,
        n if n == log::PROGRAM.number => &log::PROGRAM,
        _ => return None,
    })
}
