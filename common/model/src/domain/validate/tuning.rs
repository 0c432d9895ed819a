//! Placement, scheduling and shares of vcpus and I/O threads, block weights.

use virt_error::{Code, Domain as From, Error, Result};
use virt_xml::At;

use super::super::Domain;
use super::super::vcpu::{CacheTune, CacheType, CpuTune, MemoryTune};
use super::{fail, twice, unsupported, xml};
use crate::Bitmap;

pub(super) fn check(d: &Domain) -> Result<()> {
    ranges(&d.cputune)?;
    for t in &d.iothreadids.iothreads {
        pool(t.thread_pool_min, t.thread_pool_max)?;
    }
    if let Some(t) = &d.defaultiothread {
        pool(t.thread_pool_min, t.thread_pool_max)?;
    }
    match twice(d.blkiotune.devices.iter().filter_map(|x| x.path.as_deref())) {
        Some(path) => {
            unsupported(format!("duplicate blkio device path '{path}'")).within("/domain/blkiotune")
        }
        None => Ok(()),
    }
}

/// Microseconds the kernel takes.
fn ranges(t: &CpuTune) -> Result<()> {
    let periods = [
        (t.period, "period"),
        (t.global_period, "global_period"),
        (t.emulator_period, "emulator_period"),
        (t.iothread_period, "iothread_period"),
    ];
    for (value, name) in periods {
        if value.is_some_and(|v| v != 0 && !(1000..=1_000_000).contains(&v)) {
            return unsupported(format!("Value of cputune '{name}' must be in range [1000, 1000000]"));
        }
    }
    let quotas = [
        (t.quota, "quota"),
        (t.global_quota, "global_quota"),
        (t.emulator_quota, "emulator_quota"),
        (t.iothread_quota, "iothread_quota"),
    ];
    for (value, name) in quotas {
        if value.is_some_and(|v| v > 0 && !(1000..=17_592_186_044_415).contains(&v)) {
            return unsupported(format!("Value of cputune '{name}' must be in range [1000, 17592186044415]"));
        }
    }
    Ok(())
}

fn pool(min: Option<i32>, max: Option<i32>) -> Result<()> {
    if max.is_some_and(|m| m == 0 || m < -1) {
        return unsupported("thread_pool_max must be a positive integer");
    }
    if min.is_some_and(|m| m < -1) {
        return unsupported("thread_pool_min must be a non-negative integer");
    }
    if min.unwrap_or(-1) > max.unwrap_or(-1) {
        return unsupported("thread_pool_min must be smaller or equal to thread_pool_max");
    }
    Ok(())
}

/// Groups of vcpus that share caches and memory bandwidth: groups are the same or apart.
pub(super) fn shares(t: &CpuTune) -> Result<()> {
    let groups: Vec<&Bitmap> = t.cachetunes.iter().map(|c| &c.vcpus).collect();
    for (i, a) in groups.iter().enumerate() {
        for b in &groups[i + 1..] {
            if a == b {
                return xml("Identical vcpus in cachetunes found");
            }
            if a.overlaps(b) {
                return xml("Overlapping vcpus in cachetunes");
            }
        }
    }
    t.cachetunes.iter().try_for_each(cachetune)?;
    for (i, tune) in t.memorytunes.iter().enumerate() {
        memorytune(tune, &t.memorytunes[..i])?;
        let others = groups.iter().copied().chain(t.memorytunes[..i].iter().map(|m| &m.vcpus));
        for other in others {
            if *other != tune.vcpus && other.overlaps(&tune.vcpus) {
                return xml("Overlapping vcpus in resctrls");
            }
        }
    }
    Ok(())
}

fn cachetune(tune: &CacheTune) -> Result<()> {
    for (i, a) in tune.caches.iter().enumerate() {
        for b in &tune.caches[..i] {
            let same = (a.level, a.id) == (b.level, b.id);
            let clash = a.kind == b.kind || a.kind == CacheType::Both || b.kind == CacheType::Both;
            if same && clash {
                let text = format!(
                    "Colliding cache allocations for cache level '{}' id '{}', type '{}'",
                    a.level, a.id, a.kind
                );
                return Err(Error::new(Code::XmlError, From::Resctrl, text));
            }
        }
    }
    monitors(tune.monitors.iter().map(|m| &m.vcpus), &tune.vcpus)
}

fn memorytune(tune: &MemoryTune, before: &[MemoryTune]) -> Result<()> {
    let same = before.iter().filter(|m| m.vcpus == tune.vcpus);
    if let Some(node) = twice(same.chain([tune]).flat_map(|m| &m.nodes).map(|n| n.id)) {
        let text = format!("Memory Bandwidth already defined for node {node}");
        return Err(Error::new(Code::XmlError, From::Resctrl, text));
    }
    monitors(tune.monitors.iter().map(|m| &m.vcpus), &tune.vcpus)
}

fn monitors<'a>(sets: impl Iterator<Item = &'a Bitmap>, group: &Bitmap) -> Result<()> {
    for set in sets {
        if !set.iter().all(|v| group.contains(v)) {
            return fail(Code::InvalidArg, "Monitor vcpus conflicts with allocation");
        }
    }
    Ok(())
}
