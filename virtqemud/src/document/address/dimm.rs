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
    let slots = def.max_memory.as_ref().and_then(|m| m.slots).unwrap_or(0);
    let mut used = BTreeSet::new();
    for memory in &def.devices.memories {
        if let Some(Address::Dimm(a)) = &memory.info.address {
            used.insert(a.slot);
        }
    }
    for memory in &mut def.devices.memories {
        let dimm = matches!(memory.model, MemoryModel::Dimm | MemoryModel::Nvdimm);
        if !dimm || memory.info.address.is_some() {
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
