//! A temporary host for tests.

pub mod hostile;
pub mod wire_server;
