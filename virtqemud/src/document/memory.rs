//! Amounts of memory: what the guest has at boot, and how it is rounded.

use virt_error::Result;

use super::types::{Domain, MemoryModel, Numa, NumaCell};

/// QEMU takes whole MiB.
const ALIGN_KIB: u64 = 1024;

/// PowerPC's virtual machine counts in logical blocks of 256 MiB.
const BLOCK_KIB: u64 = 262_144;

/// Memory modules are kept to the size of a transparent huge page.
const MODULE_KIB: u64 = 2048;

fn round_up(kib: u64, step: u64) -> u64 {
    kib.div_ceil(step).saturating_mul(step)
}

/// A total that stays at the top rather than wrap: documents may hold any numbers.
fn total(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn cells(def: &Domain) -> &[NumaCell] {
    def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(&[], |n| &n.cells)
}

/// Memory at boot without memory devices, in KiB.
pub fn initial_kib(def: &Domain) -> u64 {
    let cells = cells(def);
    if !cells.is_empty() {
        return total(cells.iter().map(|c| c.memory.kib.unwrap_or(0)));
    }
    let whole = def.memory.as_ref().map_or(0, |m| m.size.kib);
    whole.saturating_sub(devices_kib(def))
}

fn devices_kib(def: &Domain) -> u64 {
    total(def.devices.memories.iter().filter_map(|m| m.target.size).map(|s| s.kib))
}

/// An NVDIMM of a pseries guest holds whole blocks behind its label, at least one.
fn pseries_nvdimms(def: &mut Domain) {
    if !super::machine::is_pseries(def.os.kind.machine.as_deref().unwrap_or_default()) {
        return;
    }
    for m in def.devices.memories.iter_mut().filter(|m| m.model == MemoryModel::Nvdimm) {
        let label = m.target.label.as_ref().map_or(0, |l| l.size.kib);
        if let Some(size) = &mut m.target.size {
            let blocks = size.kib.saturating_sub(label) / BLOCK_KIB;
            size.kib = label.saturating_add(blocks.max(1).saturating_mul(BLOCK_KIB));
        }
    }
}

/// Totals that follow from one another, and the NUMA node that memory devices need.
pub fn complete(def: &mut Domain) -> Result<()> {
    if let Some(numa) = def.cpu.as_mut().and_then(|c| c.numa.as_mut()) {
        for (i, cell) in numa.cells.iter_mut().enumerate() {
            cell.id.get_or_insert(i as u32);
        }
        numa.cells.sort_by_key(|c| c.id);
    }
    numa(def);
    pseries_nvdimms(def);
    let nodes = total(cells(def).iter().map(|c| c.memory.kib.unwrap_or(0)));
    let devices = devices_kib(def);
    if nodes > 0 {
        def.memory.get_or_insert_default().size.kib = nodes.saturating_add(devices);
    }
    let Some(memory) = &def.memory else {
        return Err(super::xml_error(
            "Memory size must be specified via <memory> or in the <numa> configuration",
        ));
    };
    let total = memory.size.kib;
    if total == 0 {
        return Err(super::xml_error(
            "Memory size must be specified via <memory> or in the <numa> configuration",
        ));
    }
    match &mut def.current_memory {
        Some(current) if current.kib == 0 => current.kib = total,
        Some(current) => current.kib = current.kib.min(total),
        None => def.current_memory = Some(virt_model::Size::from_kib(total)),
    }
    if let Some(max) = &def.max_memory {
        if max.size.kib < total {
            return Err(super::xml_error(
                "maximum memory size must be equal or greater than the actual memory size",
            ));
        }
        if max.size.kib > 0 && cells(def).is_empty() {
            let vcpus = super::vcpus::most(def);
            let cell = NumaCell {
                id: Some(0),
                cpus: Some((0..vcpus).collect()),
                memory: super::types::CellMemory { kib: Some(total.saturating_sub(devices)) },
                ..NumaCell::default()
            };
            let numa = def.cpu.get_or_insert_default().numa.get_or_insert_with(Numa::default);
            numa.cells.push(cell);
            // The only node is where they belong.
            for device in def.devices.memories.iter_mut().filter(|m| m.model != MemoryModel::VirtioPmem) {
                device.target.node.get_or_insert(0);
            }
        }
    }
    Ok(())
}

/// Vcpus in no node belong to the first; distances are the same both ways, and 10 to oneself.
fn numa(def: &mut Domain) {
    let vcpus = super::vcpus::most(def);
    let Some(numa) = def.cpu.as_mut().and_then(|c| c.numa.as_mut()) else { return };
    let listed: std::collections::BTreeSet<u32> =
        numa.cells.iter().flat_map(|c| c.cpus.iter().flat_map(|s| s.iter())).collect();
    let mut rest = (0..vcpus).filter(|n| !listed.contains(n)).peekable();
    if rest.peek().is_some()
        && let Some(first) = numa.cells.first_mut()
    {
        let own: Vec<u32> = first.cpus.iter().flat_map(|s| s.iter()).collect();
        first.cpus = Some(own.into_iter().chain(rest).collect());
    }
    let mut table: std::collections::BTreeMap<(u32, u32), u32> = Default::default();
    for cell in &numa.cells {
        let from = cell.id.unwrap_or(0);
        for s in &cell.distances.siblings {
            table.insert((from, s.id), s.value);
        }
    }
    for ((from, to), value) in table.clone() {
        table.entry((to, from)).or_insert(value);
        table.entry((from, from)).or_insert(10);
        table.entry((to, to)).or_insert(10);
    }
    for cell in &mut numa.cells {
        let from = cell.id.unwrap_or(0);
        let siblings = table.range((from, 0)..=(from, u32::MAX));
        cell.distances.siblings =
            siblings.map(|((_, id), value)| super::types::Sibling { id: *id, value: *value }).collect();
    }
}

/// Rounds everything up to what QEMU takes; the document keeps the numbers as given until the guest starts.
pub fn align(def: &mut Domain) {
    let power = matches!(def.os.kind.arch.as_deref(), Some("ppc64" | "ppc64le"));
    let pseries = power && super::machine::is_pseries(def.os.kind.machine.as_deref().unwrap_or_default());
    let step = if power { BLOCK_KIB } else { ALIGN_KIB };
    let devices = total(def.devices.memories.iter_mut().map(|m| {
        // Those of a pseries guest have their size already.
        let fixed = pseries && m.model == MemoryModel::Nvdimm;
        if let Some(size) = m.target.size.as_mut().filter(|_| !fixed) {
            size.kib = round_up(size.kib, if pseries { BLOCK_KIB } else { MODULE_KIB });
        }
        m.target.size.map_or(0, |s| s.kib)
    }));
    let mut nodes = 0;
    if let Some(numa) = def.cpu.as_mut().and_then(|c| c.numa.as_mut()) {
        for cell in &mut numa.cells {
            if let Some(kib) = &mut cell.memory.kib {
                *kib = round_up(*kib, step);
                nodes = u64::saturating_add(nodes, *kib);
            }
        }
    }
    if let Some(memory) = &mut def.memory {
        let initial = if nodes > 0 { nodes } else { round_up(memory.size.kib.saturating_sub(devices), step) };
        memory.size.kib = initial.saturating_add(devices);
    }
    if let Some(max) = &mut def.max_memory {
        max.size.kib = round_up(max.size.kib, step);
    }
}
