//! Slots of memory devices.

use std::collections::BTreeSet;

use virt_error::Result;

use crate::document::types::{Address, DimmAddress, Domain, MemoryModel};
use crate::document::unsupported;

pub(super) fn assign(def: &mut Domain) -> Result<()> {
    // Without room for them they are refused as such.
    if def.max_memory.is_none() {
        return Ok(());
    }
    // A module has a slot and nothing else: another place is as good as none.
    let module = |m: MemoryModel| matches!(m, MemoryModel::Dimm | MemoryModel::Nvdimm);
    for memory in def.devices.memories.iter_mut().filter(|m| module(m.model)) {
        memory.info.address = memory.info.address.take().filter(|a| matches!(a, Address::Dimm(_)));
    }
    let slots = def.max_memory.as_ref().and_then(|m| m.slots).unwrap_or(0);
    let mut used = BTreeSet::new();
    for memory in &def.devices.memories {
        if let Some(Address::Dimm(a)) = &memory.info.address
            && !used.insert(a.slot)
        {
            return Err(unsupported(format!(
                "memory device slot '{}' is already being used by another memory device",
                a.slot
            )));
        }
    }
    for memory in &mut def.devices.memories {
        if !module(memory.model) || memory.info.address.is_some() {
            continue;
        }
        let Some(slot) = (0..slots).find(|s| !used.contains(s)) else {
            return Err(unsupported(format!("memory device slot '{slots}' is not available")));
        };
        used.insert(slot);
        memory.info.address = Some(Address::Dimm(DimmAddress { slot, base: None }));
    }
    Ok(())
}
