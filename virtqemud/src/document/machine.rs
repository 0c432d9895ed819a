//! What kind of machine a machine type is.

/// The PC of 1996, with conventional PCI.
pub fn is_i440fx(machine: &str) -> bool {
    machine == "pc"
        || machine.starts_with("pc-0.")
        || machine.starts_with("pc-1.")
        || machine.starts_with("pc-i440fx-")
        || machine.starts_with("rhel")
}

/// The PC with PCI Express.
pub fn is_q35(machine: &str) -> bool {
    machine == "q35" || machine.starts_with("pc-q35")
}

/// QEMU's own machine of Arm.
pub fn is_arm_virt(arch: &str, machine: &str) -> bool {
    is_arm(arch) && is_virt(machine)
}

/// QEMU's own machine of RISC-V.
pub fn is_riscv_virt(arch: &str, machine: &str) -> bool {
    matches!(arch, "riscv32" | "riscv64") && is_virt(machine)
}

/// QEMU's own machine of LoongArch.
pub fn is_loongarch_virt(arch: &str, machine: &str) -> bool {
    arch == "loongarch64" && is_virt(machine)
}

fn is_virt(machine: &str) -> bool {
    machine == "virt" || machine.starts_with("virt-")
}

/// PowerPC's paravirtual machine.
pub fn is_pseries(machine: &str) -> bool {
    machine == "pseries" || machine.starts_with("pseries-")
}

/// IBM Z's machine.
pub fn is_s390(machine: &str) -> bool {
    machine.starts_with("s390-")
}

/// A 32-bit or 64-bit Arm.
pub fn is_arm(arch: &str) -> bool {
    matches!(arch, "aarch64" | "armv7l" | "armv6l")
}

/// A PC.
pub fn is_x86(arch: &str) -> bool {
    matches!(arch, "x86_64" | "i686")
}

/// Whether a machine we know by name belongs to the architecture; those we do not know may.
pub fn is_of(arch: &str, machine: &str) -> bool {
    if is_i440fx(machine) || is_q35(machine) || matches!(machine, "isapc" | "microvm") {
        return is_x86(arch);
    }
    if is_pseries(machine) {
        return matches!(arch, "ppc64" | "ppc64le");
    }
    if is_s390(machine) {
        return arch == "s390x";
    }
    true
}

/// Whether bus 0 is PCI Express.
pub fn has_pcie_root(arch: &str, machine: &str) -> bool {
    is_q35(machine)
        || is_arm_virt(arch, machine)
        || is_riscv_virt(arch, machine)
        || is_loongarch_virt(arch, machine)
}

/// Whether bus 0 is conventional PCI.
pub fn has_pci_root(arch: &str, machine: &str) -> bool {
    is_i440fx(machine)
        || is_s390(machine)
        || match arch {
            "alpha" | "ppc" | "ppc64" | "ppc64le" | "sh4" | "sh4eb" | "sparc64" => true,
            "aarch64" | "armv7l" | "armv6l" => machine == "versatilepb",
            "mips" | "mipsel" | "mips64" | "mips64el" => machine == "malta",
            _ => false,
        }
}

/// Whether the IDE controller is part of the machine.
pub fn has_builtin_ide(machine: &str) -> bool {
    is_i440fx(machine) || matches!(machine, "malta" | "sun4u" | "g3beige" | "isapc")
}

/// Whether `-machine acpi=` exists.
pub fn has_acpi_switch(arch: &str, machine: &str) -> bool {
    is_x86(arch)
        || is_arm_virt(arch, machine)
        || is_riscv_virt(arch, machine)
        || is_loongarch_virt(arch, machine)
}

/// The version at the end of a machine type: `pc-q35-5.2` is (5, 2).
pub fn version(machine: &str) -> Option<(u32, u32)> {
    let (major, minor) = machine.rsplit('-').next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
