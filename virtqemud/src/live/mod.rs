//! Changes of running guests: QEMU or the kernel is told, then the live document follows.
//!
//! Everything here runs inside a job of the guest ([`Work`]); the caller has checked that it runs.

pub mod affinity;
pub mod begin;
mod cards;
pub mod devices;
pub mod iothreads;
pub mod lifecycle;
pub mod limits;
pub mod line;
pub mod link;
pub mod memory;
pub mod resize;
pub mod throttle;
pub mod vcpus;

use serde_json::Value;
use virt_error::{Code, Domain as From, Error, Result};

use crate::guest::Work;

/// Runs one monitor command; a refusal is code 1 with QEMU's text.
async fn ask(work: &Work, command: &str, arguments: Value) -> Result<Value> {
    Ok(work.monitor()?.run_untyped(command, &arguments).await?)
}

fn invalid_state(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, text)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::InvalidArg, From::Qemu, text)
}
