//! Statistics of guests: what the host and QEMU tell of them now.
//!
//! Nothing here waits for a job: the monitor and the process are read beside it, each guest within [`DEADLINE`]. A guest
//! that misses it gives what was collected before, and says so; until it answers again, nobody waits for it.

pub mod balloon;
pub mod block;
pub mod cpu;
mod dirty;
pub mod net;

use std::time::Duration;

use tokio::time::Instant;
use virt_consts::*;

use crate::config::params::{Param, Value};
use crate::config::{memory, vcpus};
use crate::guest::shared::Shared;
use crate::guest::{Guest, Published};
use crate::qmp::Client;

/// How long one guest may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// How long it may take when the caller does not want to wait: what a QEMU at rest needs.
const NO_WAIT: Duration = Duration::from_millis(200);

/// The groups this driver knows.
pub const GROUPS: u32 = VIR_DOMAIN_STATS_STATE
    | VIR_DOMAIN_STATS_CPU_TOTAL
    | VIR_DOMAIN_STATS_BALLOON
    | VIR_DOMAIN_STATS_VCPU
    | VIR_DOMAIN_STATS_INTERFACE
    | VIR_DOMAIN_STATS_BLOCK
    | VIR_DOMAIN_STATS_DIRTYRATE;

/// What was collected of one guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Named values in libvirt's order.
    pub params: Vec<Param>,
    /// Some live values are missing: the guest did not answer in time.
    pub stale: bool,
}

/// Statistics of one guest; 0 stands for all groups. With `nowait` only what can be had at once.
pub async fn of(guest: &Guest, groups: u32, nowait: bool) -> Sample {
    let published = guest.published();
    let wanted = |group: u32| groups == 0 || groups & group != 0;
    let shared = guest.shared();
    let monitor = shared.answering_monitor();
    let p = &published.value;
    let mut sample = Sample { stale: monitor.is_none() && shared.monitor().is_some(), ..Sample::default() };
    let deadline = if nowait { NO_WAIT } else { DEADLINE };
    let end = tokio::time::Instant::now() + deadline;
    if wanted(VIR_DOMAIN_STATS_STATE) {
        let (state, reason) = p.state.numbers();
        sample.put("state.state", Value::Int(state as i32));
        sample.put("state.reason", Value::Int(reason));
    }
    if wanted(VIR_DOMAIN_STATS_CPU_TOTAL) {
        sample.within(end, shared, VIR_DOMAIN_STATS_CPU_TOTAL, cpu::total(p)).await;
    }
    if wanted(VIR_DOMAIN_STATS_BALLOON) {
        sample.live(end, shared, VIR_DOMAIN_STATS_BALLOON, balloon::rows(p, monitor.as_ref())).await;
    }
    if wanted(VIR_DOMAIN_STATS_VCPU) {
        sample.live(end, shared, VIR_DOMAIN_STATS_VCPU, cpu::vcpus(p, monitor.as_ref())).await;
    }
    if wanted(VIR_DOMAIN_STATS_INTERFACE) {
        sample.within(end, shared, VIR_DOMAIN_STATS_INTERFACE, net::rows(p)).await;
    }
    if wanted(VIR_DOMAIN_STATS_BLOCK) {
        sample.live(end, shared, VIR_DOMAIN_STATS_BLOCK, block::rows(p, monitor.as_ref())).await;
    }
    if wanted(VIR_DOMAIN_STATS_DIRTYRATE) {
        sample.live(end, shared, VIR_DOMAIN_STATS_DIRTYRATE, dirty::rows(p, monitor.as_ref())).await;
    }
    sample
}

impl Sample {
    fn put(&mut self, name: impl Into<String>, value: Value) {
        self.params.push(Param { name: name.into(), value });
    }

    /// A group that QEMU is asked for: of a QEMU that does not answer, the last values serve.
    async fn live(
        &mut self,
        end: Instant,
        shared: &Shared,
        group: u32,
        rows: impl Future<Output = Vec<Param>>,
    ) {
        match shared.last_statistics(group).filter(|_| self.stale) {
            Some(last) => self.params.extend(last),
            None => self.within(end, shared, group, rows).await,
        }
    }

    /// Adds a group's rows; when they come too late, those of last time.
    async fn within(
        &mut self,
        end: Instant,
        shared: &Shared,
        group: u32,
        rows: impl Future<Output = Vec<Param>>,
    ) {
        match tokio::time::timeout_at(end, rows).await {
            Ok(rows) => {
                if !self.stale {
                    shared.remember_statistics(group, &rows);
                }
                self.params.extend(rows);
            }
            Err(_) => {
                self.stale = true;
                self.params.extend(shared.last_statistics(group).unwrap_or_default());
            }
        }
    }
}

/// Rows under construction.
#[derive(Default)]
struct Rows(Vec<Param>);

impl Rows {
    fn put(&mut self, name: impl Into<String>, value: Value) {
        self.0.push(Param { name: name.into(), value });
    }

    fn number(&mut self, name: impl Into<String>, value: u64) {
        self.put(name, Value::Ullong(value));
    }

    fn count(&mut self, name: impl Into<String>, value: usize) {
        self.put(name, Value::Uint(u32::try_from(value).unwrap_or(u32::MAX)));
    }
}

/// Current and maximum memory of the document in force, KiB.
fn memory_of(p: &Published) -> (u64, u64) {
    p.document().map_or((0, 0), |d| (memory::current(d), memory::maximum(d)))
}

/// Current and maximum vCPUs of the document in force.
fn vcpus_of(p: &Published) -> (u32, u32) {
    p.document().map_or((0, 0), |d| (vcpus::current(d), vcpus::maximum(d)))
}

/// Asks QEMU; an answer that cannot be had is logged and missing.
async fn ask(monitor: &Client, command: &str, arguments: serde_json::Value) -> serde_json::Value {
    match monitor.run_untyped(command, &arguments).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, command, "no statistics");
            serde_json::Value::Null
        }
    }
}
