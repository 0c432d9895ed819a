//! What an emulator binary can do.
//!
//! A binary is probed over QMP once per identity (path, mtime, size, modules), when a call first needs it, and the facts are
//! kept in a file under the cache folder. Nothing here is guessed from version numbers when QEMU can be asked.

mod cache;
pub mod flags;
mod probe;
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use probe::Session;
pub use registry::{Emulators, host_arch};

/// What makes two files "the same binary" for the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Modification time in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Size in bytes.
    pub size: u64,
    /// Whether /dev/kvm could be opened: it changes what the binary reports.
    pub kvm_device: bool,
    /// When the folder of QEMU's modules last changed: displays and sound come as packages of their own. 0 without one.
    #[serde(default)]
    pub modules_ns: i128,
}

/// A machine type of an emulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Canonical name: `pc-i440fx-10.0`.
    pub name: String,
    /// The name that stands for it: `pc`.
    pub alias: Option<String>,
    /// Whether QEMU takes it when none is named.
    pub default: bool,
    /// Most vcpus it accepts.
    pub cpu_max: u32,
    /// Whether vcpus can be plugged one by one.
    pub hotpluggable_cpus: bool,
    /// Whether `-numa node,mem=` is still accepted.
    pub numa_mem: bool,
    /// QOM type of its default CPU.
    pub default_cpu: Option<String>,
    /// Name of its main memory object: `pc.ram`.
    pub default_ram_id: Option<String>,
    /// QEMU warns about it.
    pub deprecated: bool,
    /// Whether it can have ACPI at all.
    pub acpi: bool,
}

/// A named CPU model of an emulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CpuModel {
    /// `-cpu` name.
    pub name: String,
    /// QOM type.
    pub type_name: String,
    /// The versioned model it stands for.
    pub alias_of: Option<String>,
    /// QEMU warns about it.
    pub deprecated: bool,
    /// Features this host cannot give it; `None` when QEMU does not tell.
    pub blockers: Option<Vec<String>>,
}

/// AMD's memory encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sev {
    /// The address bit that marks encrypted pages.
    pub cbitpos: u32,
    /// By how many bits it shortens physical addresses.
    pub reduced_phys_bits: u32,
}

/// The facts about one emulator binary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Emulator {
    /// The binary.
    pub path: PathBuf,
    /// The file that was probed.
    pub identity: Identity,
    /// QEMU's version.
    pub version: (u32, u32, u32),
    /// The distribution's text for it.
    pub package: String,
    /// libvirt's name of the guest architecture.
    pub arch: String,
    /// QEMU's name of the guest architecture.
    pub target: String,
    /// Whether it can accelerate with KVM on this host.
    pub kvm: bool,
    /// Machine types in QEMU's order.
    pub machines: Vec<Machine>,
    /// CPU models in QEMU's order.
    pub cpus: Vec<CpuModel>,
    /// Names of option groups (`-sandbox` is `sandbox`).
    pub options: BTreeSet<String>,
    /// Every QOM type that can be made.
    pub types: BTreeSet<String>,
    /// What AMD's memory encryption is on this host, if QEMU finds it.
    pub sev: Option<Sev>,
    /// Property names of some device types.
    pub properties: BTreeMap<String, BTreeSet<String>>,
}

impl Emulator {
    /// Whether the QOM type exists: `virtio-vga-gl`.
    pub fn has_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// Whether the device type has the property.
    pub fn has_property(&self, device: &str, property: &str) -> bool {
        self.properties.get(device).is_some_and(|p| p.contains(property))
    }

    /// The machine with this name or alias.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines
            .iter()
            .find(|m| m.name == name)
            .or_else(|| self.machines.iter().find(|m| m.alias.as_deref() == Some(name)))
    }

    /// QEMU's default machine; x86's is `pc`, and where QEMU names none libvirt has its own choice.
    pub fn default_machine(&self) -> Option<&Machine> {
        let preferred = match self.arch.as_str() {
            "x86_64" | "i686" => "pc",
            "aarch64" | "armv7l" | "riscv64" | "riscv32" | "loongarch64" => "virt",
            "s390x" => "s390-ccw-virtio",
            "ppc64" | "ppc64le" => "pseries",
            _ => "",
        };
        self.machine(preferred)
            .or_else(|| self.machines.iter().find(|m| m.default))
            .or_else(|| self.machines.first())
    }

    /// Whether a CPU model of this name exists.
    pub fn cpu(&self, name: &str) -> Option<&CpuModel> {
        self.cpus.iter().find(|c| c.name == name)
    }

    /// The `-cpu` name of a machine's default CPU: `qemu64`.
    pub fn default_cpu(&self, machine: &str) -> Option<&str> {
        let wanted = self.machine(machine)?.default_cpu.as_deref()?;
        self.cpus.iter().find(|c| c.type_name == wanted).map(|c| c.name.as_str())
    }

    /// Whether it is at least this version.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.version.0, self.version.1) >= (major, minor)
    }
}

/// libvirt's architecture name for QEMU's target name.
pub fn arch_of_target(target: &str) -> &str {
    match target {
        "i386" => "i686",
        "arm" => "armv7l",
        "or32" => "or1k",
        other => other,
    }
}

/// QEMU's target name for libvirt's architecture name.
pub fn target_of_arch(arch: &str) -> &str {
    match arch {
        "i686" => "i386",
        "armv7l" | "armv6l" => "arm",
        "ppc64le" => "ppc64",
        other => other,
    }
}
