//! Lines for each vcpu and I/O thread, and what NUMA nodes leave unsaid.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Domain;
use super::super::cpu::{Numa, Sibling};
use super::super::vcpu::{IothreadSched, VcpuSched};
use crate::Bitmap;

/// More vcpus than any guest has; a hostile count must not fill memory.
const MOST_CPUS: u32 = 16384;

fn clash<'a>(sets: impl Iterator<Item = &'a Bitmap>) -> bool {
    let sets: Vec<_> = sets.collect();
    sets.iter().enumerate().any(|(i, a)| sets[i + 1..].iter().any(|b| a.overlaps(b)))
}

/// Each vcpu and each I/O thread has a line of its own. What contradicts itself is left for validation to refuse.
pub(super) fn schedulers(d: &mut Domain) {
    let max = d.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1).min(MOST_CPUS);
    // Pins of vcpus that are not there mean nothing.
    d.cputune.vcpupins.retain(|p| p.vcpu < max);
    let threads = d.iothread_ids();
    let one = |n: u32| std::iter::once(n).collect::<Bitmap>();
    let tune = &mut d.cputune;
    let missing = tune.vcpuscheds.iter().filter_map(|s| s.vcpus.last()).any(|v| v >= max);
    if !tune.vcpuscheds.is_empty() && !missing && !clash(tune.vcpuscheds.iter().map(|s| &s.vcpus)) {
        let listed = std::mem::take(&mut tune.vcpuscheds);
        let of = |cpu| listed.iter().find(|s| s.vcpus.contains(cpu)).map(|s| (cpu, s));
        let lines = (0..max).filter_map(of).map(|(cpu, s)| VcpuSched { vcpus: one(cpu), ..s.clone() });
        tune.vcpuscheds = lines.collect();
    }
    let strange = tune.iothreadscheds.iter().flat_map(|s| s.iothreads.iter()).any(|t| !threads.contains(&t));
    if !strange && !clash(tune.iothreadscheds.iter().map(|s| &s.iothreads)) {
        let listed = std::mem::take(&mut tune.iothreadscheds);
        let of = |id: &u32| listed.iter().find(|s| s.iothreads.contains(*id)).map(|s| (*id, s));
        let lines =
            threads.iter().filter_map(of).map(|(id, s)| IothreadSched { iothreads: one(id), ..s.clone() });
        tune.iothreadscheds = lines.collect();
    }
}

/// vcpus of no node belong to the first.
pub(super) fn leftover_cpus(numa: &mut Numa, max: u32) {
    let max = max.min(MOST_CPUS);
    let named = numa.cells.iter().filter_map(|c| c.cpus.as_ref()).flat_map(Bitmap::iter);
    let named: BTreeSet<u32> = named.collect();
    if named.len() as u32 >= max || named.iter().any(|c| *c >= max) {
        return;
    }
    if let Some(first) = numa.cells.first_mut() {
        let cpus = first.cpus.get_or_insert_default();
        (0..max).filter(|c| !named.contains(c)).for_each(|c| cpus.insert_range(c, c));
    }
}

/// A distance given one way holds the other way too; a node that is mentioned is 10 from itself.
pub(super) fn distances(numa: &mut Numa) {
    let mut known: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for cell in &numa.cells {
        for s in &cell.distances.siblings {
            known.insert((cell.id.unwrap_or(0), s.id), s.value);
        }
    }
    for ((from, to), value) in known.clone() {
        known.entry((to, from)).or_insert(value);
        known.entry((from, from)).or_insert(10);
        known.entry((to, to)).or_insert(10);
    }
    for cell in &mut numa.cells {
        let id = cell.id.unwrap_or(0);
        let all = known.range((id, 0)..=(id, u32::MAX));
        cell.distances.siblings = all.map(|((_, id), value)| Sibling { id: *id, value: *value }).collect();
    }
}
