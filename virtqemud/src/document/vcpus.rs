//! How many vcpus there can be and how many there are at boot.

use super::types::Domain;

/// The most there can be.
pub fn most(def: &Domain) -> u32 {
    def.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1)
}

/// Those at boot.
pub fn online(def: &Domain) -> u32 {
    if !def.vcpus.vcpus.is_empty() {
        return def.vcpus.vcpus.iter().filter(|v| v.enabled).count() as u32;
    }
    def.vcpu.as_ref().and_then(|v| v.current).unwrap_or_else(|| most(def))
}
