//! The gRPC services: check, convert, ask, convert.
//!
//! `DomainService` is one trait for many concerns: its calls are free functions in one file a concern (`define`,
//! `metadata` ...), and the implementation only passes requests on.

pub mod check;
pub mod define;
pub mod device;
pub mod host;
pub mod metadata;
pub mod parameters;
pub mod tuning;
