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
        if let Some(address) = &cpu.maxphysaddr {
            let refuse = |what: &str| {
                let text = format!(
                    "CPU maximum physical address bits {what} specification cannot be used with mode='{}'",
                    address.mode
                );
                Err(unsupported(text))
            };
            match address.mode {
                MaxPhysAddrMode::Passthrough if address.bits.is_some() => return refuse("number"),
                MaxPhysAddrMode::Emulate if address.limit.is_some() => {
                    return Err(unsupported(
                        "attribute 'limit' is only supported for maxphysaddr mode 'passthrough'",
                    ));
                }
                _ => {}
            }
        }
        self.topology()
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
