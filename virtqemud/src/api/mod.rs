//! The gRPC services: check, convert, ask, convert.
//!
//! `DomainService` is one trait for many concerns: its calls are free functions in one file a concern (`define`,
//! `metadata` ...), and the implementation only passes requests on.

pub mod agent;
pub mod block;
pub mod check;
pub mod console;
pub mod define;
pub mod device;
pub mod domain;
pub mod events;
pub mod guest_agent;
pub mod host;
pub mod interface;
pub mod job;
pub mod lifecycle;
pub mod lookup;
pub mod metadata;
pub mod parameters;
pub mod save;
pub mod stats;
pub mod tuning;
