//! The CPU: caches, address width, topology.

use virt_error::Result;

use super::{Checker, unsupported};
use crate::document::types::{CacheMode, CpuMode, MaxPhysAddrMode};
use crate::document::{machine, vcpus};

impl Checker<'_> {
    pub(super) fn cpu(&self) -> Result<()> {
        let Some(cpu) = &self.def.cpu else { return Ok(()) };
        let mode = cpu.mode.unwrap_or_default();
        let host = matches!(mode, CpuMode::HostPassthrough | CpuMode::Maximum);
        // The rest is said of a CPU that was chosen, not of the default under a topology.
        let chosen = host || mode == CpuMode::HostModel || self.named_cpu();
        if let Some(cache) = &cpu.cache {
            if !machine::is_x86(self.arch()) {
                return Err(unsupported(format!(
                    "CPU cache specification is not supported for '{}' architecture",
                    self.arch()
                )));
            }
            match cache.mode {
                CacheMode::Emulate if cache.level != Some(3) => {
                    return Err(unsupported("CPU cache mode 'emulate' can only be used with level='3'"));
                }
                CacheMode::Passthrough if !host => {
                    return Err(unsupported(
                        "CPU cache mode 'passthrough' can only be used with 'host-passthrough' / 'maximum' CPUs",
                    ));
                }
                CacheMode::Passthrough | CacheMode::Disable if cache.level.is_some() => {
                    return Err(unsupported(format!(
                        "unsupported CPU cache level for mode '{}'",
                        cache.mode
                    )));
                }
                _ => {}
            }
        }
        if let Some(address) = cpu.maxphysaddr.as_ref().filter(|_| chosen) {
            match address.mode {
                MaxPhysAddrMode::Passthrough => {
                    if !host {
                        return Err(unsupported(format!(
                            "CPU maximum physical address bits mode '{}' can only be used with 'host-passthrough' or 'maximum' CPUs",
                            address.mode
                        )));
                    }
                    if address.bits.is_some() {
                        return Err(unsupported(format!(
                            "CPU maximum physical address bits number specification cannot be used with mode='{}'",
                            address.mode
                        )));
                    }
                }
                MaxPhysAddrMode::Emulate => {
                    if address.bits.is_none() && !host {
                        return Err(unsupported(
                            "if using CPU maximum physical address mode='emulate', bits= must be specified too",
                        ));
                    }
                    if address.limit.is_some() {
                        return Err(unsupported(format!(
                            "CPU maximum physical address bits limit specification cannot be used with mode='{}'",
                            address.mode
                        )));
                    }
                }
            }
        }
        self.topology()
    }

    /// Whether the document names the model itself.
    fn named_cpu(&self) -> bool {
        self.def.cpu.as_ref().and_then(|c| c.model.as_ref()).is_some_and(|m| {
            m.name.is_some() && m.fallback != Some(crate::document::types::CpuFallback::Forbid)
        })
    }

    fn topology(&self) -> Result<()> {
        let Some(t) = self.def.cpu.as_ref().and_then(|c| c.topology.as_ref()) else { return Ok(()) };
        let parts = [t.sockets, t.dies, t.clusters, t.cores, t.threads];
        let product = parts.iter().map(|p| u64::from(p.unwrap_or(1))).product::<u64>();
        if product != u64::from(vcpus::most(self.def)) {
            return Err(unsupported("CPU topology doesn't match maximum vcpu count"));
        }
        if t.dies.unwrap_or(1) > 1 && !machine::is_x86(self.arch()) {
            return Err(unsupported("Only 1 die per socket is supported"));
        }
        if t.clusters.unwrap_or(1) > 1 && !machine::is_arm(self.arch()) && !machine::is_x86(self.arch()) {
            return Err(unsupported("Only 1 cluster per die is supported"));
        }
        Ok(())
    }
}
