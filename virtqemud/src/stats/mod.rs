//! Statistics of guests: what the host and QEMU tell of them now.
//!
//! Nothing here waits for a job. The host is read for all guests in one go, then each QEMU is asked for everything at
//! once, within [`DEADLINE`]. A guest that misses it gives what was collected before, and says so; until it answers
//! again, nobody waits for it.

pub mod balloon;
pub mod block;
pub mod cpu;
mod dirty;
mod host;
mod iothread;
pub mod net;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
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
/// How many guests are asked at the same time.
const AT_ONCE: usize = 64;

/// The groups this driver knows.
pub const GROUPS: u32 = VIR_DOMAIN_STATS_STATE
    | VIR_DOMAIN_STATS_CPU_TOTAL
    | VIR_DOMAIN_STATS_BALLOON
    | VIR_DOMAIN_STATS_VCPU
    | VIR_DOMAIN_STATS_INTERFACE
    | VIR_DOMAIN_STATS_BLOCK
    | VIR_DOMAIN_STATS_IOTHREAD
    | VIR_DOMAIN_STATS_DIRTYRATE;

/// What was collected of one guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Named values in libvirt's order.
    pub params: Vec<Param>,
    /// Some live values are missing: the guest did not answer in time.
    pub stale: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Groups; 0 stands for all.
    pub groups: u32,
    /// Only what can be had at once.
    pub nowait: bool,
}

impl Wanted {
    fn has(self, group: u32) -> bool {
        self.groups == 0 || self.groups & group != 0
    }
}

/// Statistics of guests, in their order.
pub async fn of(guests: Vec<Arc<Guest>>, wanted: Wanted) -> Vec<Sample> {
    let guests: Vec<_> = guests.into_iter().map(|guest| (guest.published(), guest)).collect();
    let seen = host::of(guests.iter().map(|(p, _)| &p.value), wanted).await;
    let samples = guests.into_iter().zip(seen).map(|((published, guest), seen)| async move {
        one(&published.value, guest.shared(), seen, wanted).await
    });
    futures_util::stream::iter(samples).buffered(AT_ONCE).collect().await
}

async fn one(p: &Published, shared: &Shared, seen: host::Seen, wanted: Wanted) -> Sample {
    let monitor = shared.monitor();
    let monitor = if seen.stopped { None } else { monitor.filter(|m| !m.is_silent()) };
    let stale = monitor.is_none() && shared.monitor().is_some();
    let end = Instant::now() + if wanted.nowait { NO_WAIT } else { DEADLINE };
    let asked = Asked { monitor: monitor.as_ref(), stale, end, shared };
    let (balloon, block, iothreads, dirty) = tokio::join!(
        asked.group(wanted, VIR_DOMAIN_STATS_BALLOON, balloon::rows(p, monitor.as_ref(), seen.rss)),
        asked.group(wanted, VIR_DOMAIN_STATS_BLOCK, Box::pin(block::rows(p, monitor.as_ref()))),
        asked.group(wanted, VIR_DOMAIN_STATS_IOTHREAD, iothread::rows(p, monitor.as_ref())),
        asked.group(wanted, VIR_DOMAIN_STATS_DIRTYRATE, dirty::rows(p, shared, asked.monitor)),
    );
    let stale = [&balloon, &block, &iothreads, &dirty].iter().any(|group| group.late);
    let mut params = Vec::new();
    if wanted.has(VIR_DOMAIN_STATS_STATE) {
        let (state, reason) = p.state.numbers();
        params.push(Param { name: "state.state".into(), value: Value::Int(state as i32) });
        params.push(Param { name: "state.reason".into(), value: Value::Int(reason) });
    }
    params.extend(seen.total);
    params.extend(balloon.rows);
    if wanted.has(VIR_DOMAIN_STATS_VCPU) {
        params.extend(cpu::rows(p, &seen.vcpus));
    }
    params.extend(seen.cards);
    params.extend(block.rows);
    params.extend(iothreads.rows);
    params.extend(dirty.rows);
    Sample { params, stale }
}

/// How a guest's QEMU is asked.
struct Asked<'a> {
    monitor: Option<&'a Client>,
    /// There is a QEMU, and it is known not to answer.
    stale: bool,
    end: Instant,
    shared: &'a Shared,
}

/// A group that QEMU is asked for.
#[derive(Default)]
struct Group {
    rows: Vec<Param>,
    late: bool,
}

impl Asked<'_> {
    /// The rows of a group: of a QEMU that does not answer, or too late, those of last time.
    async fn group(&self, wanted: Wanted, group: u32, rows: impl Future<Output = Vec<Param>>) -> Group {
        if !wanted.has(group) {
            return Group::default();
        }
        let last = if self.stale { self.shared.last_statistics(group) } else { None };
        if let Some(rows) = last {
            return Group { rows, late: true };
        }
        match tokio::time::timeout_at(self.end, rows).await {
            Ok(rows) => {
                if self.monitor.is_some() {
                    self.shared.remember_statistics(group, &rows);
                }
                Group { rows, late: self.stale }
            }
            Err(_) => Group { rows: self.shared.last_statistics(group).unwrap_or_default(), late: true },
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
