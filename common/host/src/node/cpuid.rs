//! The x86 CPUID instruction behind a trait; other machines answer nothing.

use std::collections::HashMap;

/// The four registers of one leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaf {
    /// First register.
    pub eax: u32,
    /// Second register.
    pub ebx: u32,
    /// Third register.
    pub ecx: u32,
    /// Fourth register.
    pub edx: u32,
}

/// Answers identification leaves.
pub trait Cpuid: Send + Sync {
    /// One leaf; all zero where the CPU has none.
    fn leaf(&self, leaf: u32, sub: u32) -> Leaf;
}

/// The CPU this process runs on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Instruction;

impl Cpuid for Instruction {
    #[cfg(target_arch = "x86_64")]
    fn leaf(&self, leaf: u32, sub: u32) -> Leaf {
        use std::arch::x86_64::__cpuid_count;
        // Leaves past the highest one repeat another leaf on Intel's CPUs.
        let highest = __cpuid_count(leaf & 0x8000_0000, 0).eax;
        if leaf > highest {
            return Leaf::default();
        }
        let r = __cpuid_count(leaf, sub);
        Leaf { eax: r.eax, ebx: r.ebx, ecx: r.ecx, edx: r.edx }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn leaf(&self, _leaf: u32, _sub: u32) -> Leaf {
        Leaf::default()
    }
}

/// Recorded leaves, for tests and for CPUs given as data.
#[derive(Debug, Default, Clone)]
pub struct Recorded(pub HashMap<(u32, u32), Leaf>);

impl Cpuid for Recorded {
    fn leaf(&self, leaf: u32, sub: u32) -> Leaf {
        self.0.get(&(leaf, sub)).copied().unwrap_or_default()
    }
}

/// Who made the CPU and which one it is (leaves 0 and 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The twelve letters: "GenuineIntel".
    pub vendor: String,
    /// Extended family added.
    pub family: u32,
    /// Extended model added.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

/// Decodes leaves 0 and 1 as the vendors' manuals tell.
pub fn identity(cpu: &dyn Cpuid) -> Identity {
    let zero = cpu.leaf(0, 0);
    let letters: Vec<u8> = [zero.ebx, zero.edx, zero.ecx].iter().flat_map(|r| r.to_le_bytes()).collect();
    let sig = cpu.leaf(1, 0).eax;
    let (family, model) = ((sig >> 8) & 0xf, (sig >> 4) & 0xf);
    Identity {
        vendor: letters.iter().filter(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect(),
        family: if family == 0xf { family + ((sig >> 20) & 0xff) } else { family },
        model: if family == 6 || family == 0xf { model + (((sig >> 16) & 0xf) << 4) } else { model },
        stepping: sig & 0xf,
    }
}

/// Physical address bits (leaf 0x80000008), `None` when the CPU does not tell.
pub fn address_bits(cpu: &dyn Cpuid) -> Option<u32> {
    let bits = cpu.leaf(0x8000_0008, 0).eax & 0xff;
    (bits > 0).then_some(bits)
}

/// The time stamp counter's frequency in Hz from leaf 0x15, or a hypervisor's leaf 0x40000010.
pub fn tsc_frequency(cpu: &dyn Cpuid) -> Option<u64> {
    let leaf = cpu.leaf(0x15, 0);
    if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
        return Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_adds_the_extensions() {
        let mut cpu = Recorded::default();
        cpu.0.insert((0, 0), Leaf { eax: 0xd, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 });
        cpu.0.insert((1, 0), Leaf { eax: 0x000a_0671, ..Leaf::default() });
        let id = identity(&cpu);
        assert_eq!((id.vendor.as_str(), id.family, id.model, id.stepping), ("GenuineIntel", 6, 167, 1));
    }
}
