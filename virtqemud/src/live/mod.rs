//! Changes of running guests: QEMU or the kernel is told, then the live document follows.
//!
//! Everything here runs inside a job of the guest ([`Work`]); the caller has checked that it runs.

pub mod affinity;
pub mod begin;
pub mod blkio;
mod cards;
pub mod cpu;
pub mod iothreads;
pub mod lifecycle;
pub mod limits;
pub mod line;
pub mod link;
pub mod memory;
pub mod memtune;
pub mod numa;
pub mod plug;
pub mod resize;
pub mod sched;
pub mod threshold;
pub mod throttle;
pub mod vcpus;

use serde_json::Value;
use virt_api::common::v1alpha1::TypedParam;
use virt_api::domain::v1alpha1::TunableEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_error::{Code, Domain as From, Error, Result};

use crate::api::parameters::to_message;
use crate::config::params::{self, Param};
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

/// The event of values that were tuned.
fn tunable(rows: impl IntoIterator<Item = (String, params::Value)>) -> Event {
    let message = |(name, value)| -> TypedParam { to_message(Param { name, value }) };
    Event::Tunable(TunableEvent { params: rows.into_iter().map(message).collect() })
}
