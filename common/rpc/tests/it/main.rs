//! In-process tests of the whole RPC layer: a real server and real clients on sockets in a temporary folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test or benchmark stops at the first surprise")]

mod client;
mod descriptors;
mod harness;
mod identity;
mod server;
mod sessions;
