//! The guest's CPU: its default model, its checks, and QEMU's names of features.

use virt_error::Result;

use super::types::{Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel, Domain};
use crate::emulator::Emulator;

/// Names the default CPU where the document names none, and fills in how strictly it is checked.
pub fn complete(def: &mut Domain, emulator: &Emulator) -> Result<()> {
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
                name: Some(name.to_string()),
                ..CpuModel::default()
            }),
            ..Cpu::default()
        });
        return Ok(());
    }
    let Some(cpu) = &mut def.cpu else { return Ok(()) };
    let given = cpu.model.as_ref().is_some_and(|m| m.name.is_some());
    if cpu.mode.is_none() && !given {
        // A CPU element with a topology only: the default model under it.
        cpu.mode = Some(CpuMode::Custom);
        cpu.matching = Some(CpuMatch::Exact);
        cpu.check.get_or_insert(CpuCheck::None);
        if let Some(name) = emulator.default_cpu(&machine) {
            let model = cpu.model.get_or_insert_default();
            model.fallback = Some(CpuFallback::Forbid);
            model.name = Some(name.to_string());
        }
        return Ok(());
    }
    let mode = *cpu.mode.get_or_insert(CpuMode::Custom);
    match mode {
        CpuMode::Custom => {
            cpu.matching.get_or_insert(CpuMatch::Exact);
            cpu.check.get_or_insert(CpuCheck::Partial);
            if let Some(model) = &mut cpu.model {
                model.fallback.get_or_insert(CpuFallback::Allow);
            }
        }
        CpuMode::HostModel => {
            cpu.check.get_or_insert(CpuCheck::Partial);
        }
        CpuMode::HostPassthrough | CpuMode::Maximum => {
            cpu.check.get_or_insert(CpuCheck::None);
            cpu.migratable.get_or_insert(true);
        }
    }
    Ok(())
}

/// Where libvirt writes the default CPU into the document.
fn named_by_default(emulator: &Emulator) -> bool {
    matches!(
        emulator.arch.as_str(),
        "x86_64" | "i686" | "s390x" | "aarch64" | "armv7l" | "ppc64" | "ppc64le" | "riscv64" | "loongarch64"
    )
}

/// QEMU's name of a CPU feature: dashes, and a few that libvirt spells otherwise.
pub fn qemu_feature(name: &str) -> String {
    match name {
        "cmp_legacy" => "cmp-legacy".into(),
        "pclmuldq" => "pclmulqdq".into(),
        other => other.replace('_', "-"),
    }
}
