//! Starts a guest's process outside the daemon: session, cgroup, credentials, descriptors.
//!
//! A daemon with threads must not fork and run Rust code, and a guest must outlive its daemon. So the daemon starts the
//! small program `virt-launch` with a socket as its standard input, sends one [`Request`] with the descriptors the
//! guest keeps, and reads one [`Outcome`]:
//!
//! ```text
//!   daemon --spawn--> virt-launch            (own process, one thread)
//!     | --request, fds-->  | log file, pid file, setsid, umask, limits, cgroups, groups, gid, uid,
//!     |                    | descriptor numbers, working folder
//!     |                    +--spawn--> guest (its parent ends, init adopts it)
//!     | <--outcome, pidfd--| exit
//! ```
//!
//! The pidfd is opened while the guest is still a child of `virt-launch`, so it can never name another process.

mod client;
mod request;
pub mod server;
mod transfer;

pub use client::{Launched, launch};
pub use request::{Failure, Keep, Limit, Outcome, Request, Resource, Step, User};
