//! How many vcpus there can be and how many there are at boot.

use super::types::{Domain, VcpuState};

/// The most there can be.
pub fn most(def: &Domain) -> u32 {
    def.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1)
}

/// Those that the machine has from its first moment. Listed ones that can go again are plugged in before it runs.
pub fn online(def: &Domain) -> u32 {
    if !def.vcpus.vcpus.is_empty() {
        let fixed = |v: &&VcpuState| v.enabled && v.hotpluggable != Some(true);
        return def.vcpus.vcpus.iter().filter(fixed).count() as u32;
    }
    def.vcpu.as_ref().and_then(|v| v.current).unwrap_or_else(|| most(def))
}
