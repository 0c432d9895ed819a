//! What a document asks of the host and of QEMU beside the command line: done when QEMU is there, before the guest runs.
//!
//! What is neither on the command line nor here is refused by [`crate::document`] before the start.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_model::domain::Domain;

use super::{affinity, lifecycle, throttle};
use crate::guest::Work;
use crate::qmp::Client;

/// Limits, weights and host CPUs of a guest that is being started.
///
/// # Errors
/// Code 38 when the kernel refuses; code 67 when the host has no such controller; what QEMU refuses.
pub async fn begin(work: &mut Work) -> Result<()> {
    let run = work.run()?;
    weights(&run.held.group, &run.live)?;
    affinity::begin(&run.live, run.process.pid(), &run.vcpus)?;
    let (live, monitor): (Domain, Client) = (run.live.clone(), run.monitor.clone());
    lifecycle::begin(&live, &monitor).await?;
    throttle::begin(&live, &monitor).await
}

/// The group's share of the processors and its memory.
fn weights(group: &Group, live: &Domain) -> Result<()> {
    if let Some(shares) = live.cputune.shares {
        set(group, "cpu", ["cpu.shares", "cpu.weight"], shares)?;
    }
    let memory = &live.memtune;
    let bytes = |kib: u64| kib.saturating_mul(1024);
    if let Some(limit) = &memory.hard_limit {
        set(group, "memory", ["memory.limit_in_bytes", "memory.max"], bytes(limit.kib))?;
    }
    if let Some(limit) = &memory.soft_limit {
        set(group, "memory", ["memory.soft_limit_in_bytes", "memory.high"], bytes(limit.kib))?;
    }
    Ok(())
}

fn set(group: &Group, controller: &str, files: [&str; 2], value: u64) -> Result<()> {
    group.set(controller, files, value).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let text = format!("cgroup controller '{controller}' is not available on this host");
            Error::new(Code::ConfigUnsupported, From::Cgroup, text)
        }
        _ => Error::system(From::Cgroup, format!("Unable to write {value} to '{}'", files.join("' or '")), e),
    })
}
