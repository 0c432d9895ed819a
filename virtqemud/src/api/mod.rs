//! The gRPC services: check, convert, ask, convert.

pub mod check;
pub mod host;
