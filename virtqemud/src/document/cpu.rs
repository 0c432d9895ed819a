//! The guest's CPU: its default model, its checks, and QEMU's names of features.

use virt_error::Result;

use super::machine;
use super::types::{
    Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel, Domain, FeaturePolicy, GicVersion, VirtType,
};
use crate::emulator::Emulator;

/// Names the default CPU where the document names none, and fills in how strictly it is checked.
pub fn complete(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    gic(def, emulator);
    let machine = def.os.kind.machine.clone().unwrap_or_default();
    if def.cpu.is_none() {
        let Some(name) = emulator.default_cpu(&machine).filter(|_| named_by_default(emulator)) else {
            return Ok(());
        };
        def.cpu = Some(Cpu {
            mode: Some(CpuMode::Custom),
            matching: Some(CpuMatch::Exact),
            check: Some(CpuCheck::None),
            model: Some(CpuModel {
                fallback: Some(CpuFallback::Forbid),
                name: Some(written(name, &emulator.arch)),
                ..CpuModel::default()
            }),
            ..Cpu::default()
        });
        return Ok(());
    }
    let emulated = def.virt_type == VirtType::Qemu;
    let Some(cpu) = &mut def.cpu else { return Ok(()) };
    if let Some(t) = &mut cpu.topology {
        t.dies.get_or_insert(1);
        t.clusters.get_or_insert(1);
    }
    for feature in &mut cpu.features {
        feature.policy.get_or_insert(FeaturePolicy::Require);
    }
    let given = cpu.model.as_ref().is_some_and(|m| m.name.is_some());
    let custom = matches!(cpu.mode, None | Some(CpuMode::Custom));
    if custom && !given && !cpu.features.is_empty() {
        return Err(super::xml_error("Non-empty feature list specified without CPU model"));
    }
    if custom && !given {
        // A CPU element with a topology only: the default model under it.
        cpu.mode = Some(CpuMode::Custom);
        cpu.matching = Some(CpuMatch::Exact);
        cpu.check = Some(CpuCheck::None);
        if let Some(name) = emulator.default_cpu(&machine) {
            let model = cpu.model.get_or_insert_default();
            model.fallback = Some(CpuFallback::Forbid);
            model.name = Some(written(name, &emulator.arch));
        }
        return Ok(());
    }
    let mode = *cpu.mode.get_or_insert(CpuMode::Custom);
    if mode != CpuMode::Custom {
        cpu.matching = None;
    }
    match mode {
        CpuMode::Custom => {
            cpu.matching.get_or_insert(CpuMatch::Exact);
            // Under TCG the host's own CPU does not matter.
            let check = if emulated { CpuCheck::None } else { CpuCheck::Partial };
            cpu.check.get_or_insert(check);
            if let Some(model) = &mut cpu.model {
                model.fallback.get_or_insert(CpuFallback::Allow);
            }
        }
        CpuMode::HostModel => {
            cpu.check.get_or_insert(CpuCheck::Partial);
            if let Some(model) = &mut cpu.model {
                model.fallback.get_or_insert(CpuFallback::Allow);
            }
        }
        CpuMode::HostPassthrough | CpuMode::Maximum => {
            cpu.check.get_or_insert(CpuCheck::None);
            if mode == CpuMode::HostPassthrough {
                // A 32-bit emulator is not asked what of the host's CPU can migrate.
                cpu.migratable.get_or_insert(emulator.arch != "i686");
            }
            cpu.model = None;
        }
    }
    Ok(())
}

/// Arm's virtual machine has an interrupt controller, the second version where nothing else is asked: an emulated one
/// exists with any QEMU.
fn gic(def: &mut Domain, emulator: &Emulator) {
    let machine = def.os.kind.machine.as_deref().unwrap_or_default();
    if machine::is_arm_virt(&emulator.arch, machine) {
        let version = def.features.gic.get_or_insert_default().version.get_or_insert(GicVersion::V2);
        if *version == GicVersion::Host && def.virt_type == VirtType::Qemu {
            *version = GicVersion::V2;
        }
    }
}

/// The name libvirt gives QEMU's default model: PowerPC's are written large.
fn written(name: &str, arch: &str) -> String {
    let power = arch.starts_with("ppc64") && name.starts_with("power");
    if power { name.to_ascii_uppercase() } else { name.to_string() }
}

/// Where libvirt writes the default CPU into the document.
fn named_by_default(emulator: &Emulator) -> bool {
    matches!(
        emulator.arch.as_str(),
        "x86_64" | "i686" | "s390x" | "aarch64" | "armv7l" | "ppc64" | "ppc64le" | "riscv64" | "loongarch64"
    )
}

/// What only matters once a guest is to run: the host's own CPU needs KVM.
pub fn check_live(def: &Domain) -> Result<()> {
    let passthrough = def.cpu.as_ref().is_some_and(|c| c.mode == Some(CpuMode::HostPassthrough));
    if passthrough && def.virt_type == VirtType::Qemu {
        let arch = def.os.kind.arch.clone().unwrap_or_default();
        return Err(super::unsupported(format!(
            "CPU mode 'host-passthrough' for {arch} qemu domain on {} host is not supported by hypervisor",
            crate::emulator::host_arch()
        )));
    }
    Ok(())
}

/// QEMU's name of a CPU feature: dashes, and a few that libvirt spells otherwise.
pub fn qemu_feature(name: &str) -> String {
    match name {
        "cmp_legacy" => "cmp-legacy".into(),
        "pclmuldq" => "pclmulqdq".into(),
        other => other.replace('_', "-"),
    }
}
