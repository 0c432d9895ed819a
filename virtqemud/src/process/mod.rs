//! What one run of a guest needs on the host: folders, owners of files, ports, its log, its process.

pub mod chain;
pub mod dac;
pub mod ended;
pub mod groups;
pub mod identity;
pub mod images;
pub mod kill;
pub mod log;
pub mod nvram;
pub mod paths;
pub mod ports;
pub mod sockets;
pub mod stage;
pub mod starting;
pub mod tpm;
