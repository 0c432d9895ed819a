//! Graphical consoles of running guests: which ports and addresses they get, who may come in.
//!
//! What QEMU is told of them on its command line is in `command/graphics.rs`.

pub mod client;
pub mod config;
pub mod password;
pub mod place;
pub mod update;

pub use config::{Displays, Server};
