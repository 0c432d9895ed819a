//! What one run of a guest needs on the host: folders, owners of files, ports, its log.

pub mod dac;
pub mod log;
pub mod paths;
pub mod ports;
