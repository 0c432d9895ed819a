//! Huge pages, NUMA nodes, memory devices.

use virt_error::Result;
use virt_model::domain::info::each;
use virt_xml::At;

use super::{Checker, unsupported};
use crate::document::types::{Address, MemoryAllocation, MemoryDevice, MemoryModel, MemorySource};
use crate::document::{machine, xml_detail};

impl Checker<'_> {
    pub(super) fn memory(&self) -> Result<()> {
        self.hugepages().within("/domain/memoryBacking/hugepages")?;
        self.memory_devices()
    }

    fn nodes(&self) -> usize {
        self.def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(0, |n| n.cells.len())
    }

    fn hugepages(&self) -> Result<()> {
        let backing = &self.def.memory_backing;
        let Some(huge) = &backing.hugepages else { return Ok(()) };
        if backing.allocation.mode == Some(MemoryAllocation::Ondemand) {
            return Err(unsupported("hugepages are not allowed with memory allocation ondemand"));
        }
        if backing.source == Some(MemorySource::Anonymous) {
            return Err(unsupported("hugepages are not allowed with anonymous memory source"));
        }
        let nodes = self.nodes();
        let mut master: Option<u64> = None;
        for page in &huge.pages {
            match &page.nodeset {
                None => {
                    if let Some(first) = master {
                        return Err(xml_detail(format!(
                            "two master hugepages detected: {} and {first}",
                            page.size.kib
                        )));
                    }
                    master = Some(page.size.kib);
                }
                Some(set) => {
                    // Without NUMA nodes the guest counts as node 0.
                    let missing = set.iter().find(|n| *n as usize >= nodes.max(1));
                    if let Some(node) = missing {
                        return Err(xml_detail(format!("hugepages: node {node} not found")));
                    }
                }
            }
        }
        // A guest of one piece has one page size: a size for its only node clashes with a different common one.
        if nodes == 0 {
            let mut sizes = huge.pages.iter().map(|p| p.size.kib);
            if let Some(first) = sizes.next()
                && let Some(other) = sizes.find(|s| *s != first)
            {
                return Err(xml_detail(format!("two master hugepages detected: {other} and {first}")));
            }
        }
        Ok(())
    }

    fn memory_devices(&self) -> Result<()> {
        let devices = &self.def.devices.memories;
        if devices.is_empty() {
            return Ok(());
        }
        let Some(max) = &self.def.max_memory else {
            return Err(unsupported(
                "cannot use/hotplug a memory device when domain 'maxMemory' is not defined",
            ));
        };
        // Enclaves need no slots, but hardware; the host shows it by this device.
        let enclaves = self.emulator.has_type("sgx-epc") && std::path::Path::new("/dev/sgx_vepc").exists();
        each(devices.iter().filter(|m| m.model == MemoryModel::SgxEpc), |_| match enclaves {
            true => Ok(()),
            false => Err(unsupported("sgx epc isn't supported by this QEMU binary")),
        })?;
        let slots = max.slots.unwrap_or(0) as usize;
        let modules =
            devices.iter().filter(|m| matches!(m.model, MemoryModel::Dimm | MemoryModel::Nvdimm)).count();
        if modules > slots {
            return Err(unsupported(format!(
                "memory device count '{modules}' exceeds slots count '{slots}'"
            )));
        }
        each(devices, |device| {
            self.memory_device(device)?;
            Ok(())
        })?;
        for (i, device) in devices.iter().enumerate() {
            let Some((from, to)) = span(device) else { continue };
            for other in &devices[i + 1..] {
                let Some((base, end)) = span(other) else { continue };
                if base < to && from < end {
                    return Err(unsupported(format!(
                        "memory device address [0x{from:x}:0x{to:x}] overlaps with other memory device (0x{base:x})"
                    )));
                }
            }
        }
        Ok(())
    }

    fn memory_device(&self, device: &MemoryDevice) -> Result<()> {
        let nodes = self.nodes();
        let module = matches!(device.model, MemoryModel::Dimm | MemoryModel::Nvdimm);
        match device.target.node {
            Some(node) if node as usize >= nodes => {
                return Err(xml_detail(format!(
                    "can't add memory backend for guest node '{node}' as the guest has only '{nodes}' NUMA nodes configured"
                )));
            }
            None if (module || device.model == MemoryModel::VirtioMem) && nodes > 0 => {
                return Err(unsupported("target NUMA node needs to be specified for memory device"));
            }
            Some(_) if device.model == MemoryModel::VirtioPmem => {
                return Err(unsupported("virtio-pmem does not support NUMA nodes"));
            }
            _ => {}
        }
        match (device.model, &device.info.address) {
            (MemoryModel::VirtioMem, Some(a)) if !matches!(a, Address::Pci(_) | Address::Ccw(_)) => {
                return Err(unsupported(
                    "only 'pci' and 'ccw' addresses are supported for the virtio-mem device",
                ));
            }
            (MemoryModel::VirtioPmem, Some(a)) if !matches!(a, Address::Pci(_)) => {
                return Err(unsupported("only 'pci' addresses are supported for the virtio-pmem device"));
            }
            (MemoryModel::Nvdimm, _)
                if machine::is_pseries(self.machine) && device.target.label.is_none() =>
            {
                return Err(unsupported("label size is required for NVDIMM device"));
            }
            _ => {}
        }
        if device.uuid.is_some() && !machine::is_pseries(self.machine) {
            return Err(unsupported("UUID is not supported for NVDIMM device"));
        }
        if module {
            match &device.info.address {
                Some(Address::Dimm(a)) => {
                    let slots = self.def.max_memory.as_ref().and_then(|m| m.slots).unwrap_or(0);
                    if a.slot >= slots {
                        return Err(unsupported(format!(
                            "memory device slot '{}' exceeds slots count '{slots}'",
                            a.slot
                        )));
                    }
                }
                Some(_) => {
                    return Err(unsupported("only 'dimm' addresses are supported for the pc-dimm device"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Guest physical addresses of a device that says where it is.
fn span(device: &MemoryDevice) -> Option<(u64, u64)> {
    let base = match &device.info.address {
        Some(Address::Dimm(a)) => a.base,
        _ => device.target.base,
    }?;
    let size = device.target.size?.bytes()?;
    Some((base, base.saturating_add(size)))
}
