//! The guest as a whole: emulator, machine, identity, and the devices its machine always has.

use std::path::PathBuf;
use std::sync::Arc;

use virt_error::Result;
use virt_model::Uuid;

use super::types::{
    BalloonModel, Boot, BootDevice, Clock, Controller, ControllerKind, Domain, LifecycleAction, Memballoon,
    Panic, PanicModel, Placement, VirtType, Watchdog, WatchdogAction, WatchdogModel,
};
use super::{controllers, machine, unsupported};
use crate::emulator::{Emulator, Emulators, host_arch};

/// Finds the emulator the guest names, or the host's for its architecture.
pub fn choose_emulator(def: &mut Domain, emulators: &Emulators) -> Result<Arc<Emulator>> {
    if def.os.kind.name.is_none() {
        return Err(super::xml_error("an os <type> must be specified"));
    }
    let arch = match &def.os.kind.arch {
        Some(arch) => arch.clone(),
        None => host_arch().to_string(),
    };
    let path: PathBuf = match &def.devices.emulator {
        Some(path) => PathBuf::from(path),
        None => emulators
            .binary_for(&arch)
            .ok_or_else(|| unsupported(format!("No emulator found for arch '{arch}'")))?,
    };
    let emulator = emulators.get(&path)?;
    if emulator.arch != arch && !runs(&emulator, &arch) {
        return Err(unsupported(format!("Emulator '{}' does not support arch '{arch}'", path.display())));
    }
    def.os.kind.arch = Some(arch);
    def.devices.emulator = Some(path.display().to_string());
    Ok(emulator)
}

/// 64-bit emulators do not run the 32-bit architectures under their own name, but for those that share a binary.
fn runs(emulator: &Emulator, arch: &str) -> bool {
    crate::emulator::target_of_arch(arch) == emulator.target
}

/// Checks the kind of virtualisation and makes the machine type canonical.
pub fn choose_machine(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let path = def.devices.emulator.clone().unwrap_or_default();
    let fits = match def.virt_type {
        VirtType::Qemu => true,
        VirtType::Kvm => emulator.kvm,
        _ => false,
    };
    if !fits {
        return Err(unsupported(format!("Emulator '{path}' does not support virt type '{}'", def.virt_type)));
    }
    match def.os.kind.name.as_deref() {
        Some("hvm") => {}
        other => {
            let other = other.unwrap_or_default();
            return Err(unsupported(format!("Emulator '{path}' does not support os type '{other}'")));
        }
    }
    let chosen = match &def.os.kind.machine {
        None => emulator.default_machine(),
        Some(name) => emulator.machine(name),
    };
    let Some(chosen) = chosen else {
        let name = def.os.kind.machine.clone().unwrap_or_default();
        return Err(unsupported(format!("Emulator '{path}' does not support machine type '{name}'")));
    };
    def.os.kind.machine = Some(chosen.name.clone());
    Ok(())
}

/// Identity, amounts, lifecycle actions.
pub fn basics(def: &mut Domain) -> Result<()> {
    def.uuid.get_or_insert_with(Uuid::new_v4);
    if let Some(genid) = &mut def.genid {
        genid.uuid.get_or_insert_with(Uuid::new_v4);
    }
    let vcpu = def.vcpu.get_or_insert_default();
    vcpu.placement.get_or_insert(Placement::Static);
    vcpu.max.get_or_insert(1);
    if vcpu.current == vcpu.max {
        vcpu.current = None;
    }
    if vcpu.placement == Some(Placement::Auto) {
        vcpu.cpuset = None;
    }
    let ordered = def.devices.disks.iter().any(|d| d.info.boot.is_some())
        || def.devices.interfaces.iter().any(|d| d.info.boot.is_some())
        || def.devices.hostdevs.iter().any(|d| d.info.boot.is_some())
        || def.devices.redirdevs.iter().any(|d| d.info.boot.is_some())
        || def.devices.filesystems.iter().any(|d| d.info.boot.is_some());
    if ordered && !def.os.boots.is_empty() {
        return Err(unsupported("per-device boot elements cannot be used together with os/boot elements"));
    }
    if !ordered && def.os.boots.is_empty() {
        def.os.boots.push(Boot { dev: BootDevice::Hd });
    }
    def.clock.get_or_insert_with(Clock::default);
    def.on_poweroff.get_or_insert(LifecycleAction::Destroy);
    def.on_reboot.get_or_insert(LifecycleAction::Restart);
    def.on_crash.get_or_insert(LifecycleAction::Destroy);
    number_iothreads(def);
    Ok(())
}

/// Gives every I/O thread a number, the lowest free ones to those without.
fn number_iothreads(def: &mut Domain) {
    let listed = def.iothreadids.iothreads.len() as u32;
    let wanted = def.iothreads.unwrap_or(0).max(listed);
    let mut next = 1;
    while (def.iothreadids.iothreads.len() as u32) < wanted {
        while def.iothreadids.iothreads.iter().any(|t| t.id == next) {
            next += 1;
        }
        def.iothreadids.iothreads.push(super::types::Iothread { id: next, ..Default::default() });
    }
    def.iothreads = (wanted > 0).then_some(wanted);
}

/// Controllers and devices that the machine brings with it.
pub fn default_devices(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let arch = emulator.arch.clone();
    let x86 = machine::is_x86(&arch);
    let q35 = machine::is_q35(&name);
    let pcie = machine::has_pcie_root(&arch, &name);
    let pci = machine::has_pci_root(&name);
    let isapc = name == "isapc";

    let usb = match arch.as_str() {
        _ if x86 => !isapc && name != "microvm",
        "ppc64" | "ppc64le" => true,
        "s390x" | "aarch64" | "armv7l" | "riscv64" | "riscv32" | "loongarch64" => false,
        _ => pci || pcie,
    };
    if usb && !def.devices.controllers.iter().any(|c| c.kind == ControllerKind::Usb) {
        let mut usb = Controller::new(ControllerKind::Usb, 0, None);
        usb.model = automatic_usb_model(&arch, &name, emulator);
        controllers::insert(&mut def.devices.controllers, usb);
    }
    if q35 {
        controllers::ensure(&mut def.devices.controllers, ControllerKind::Sata, 0, None);
    }
    let root = match (pci, pcie) {
        (_, true) => Some("pcie-root"),
        (true, _) => Some("pci-root"),
        _ if machine::is_s390(&name) => Some("pci-root"),
        _ => None,
    };
    if let Some(root) = root {
        check_root(def, root)?;
        controllers::ensure(&mut def.devices.controllers, ControllerKind::Pci, 0, Some(root));
    }
    let balloon = matches!(arch.as_str(), "s390x" | "sparc64") || x86 || pci || pcie;
    if balloon && def.devices.memballoon.is_none() && !isapc {
        def.devices.memballoon = Some(Memballoon { model: BalloonModel::Virtio, ..Memballoon::default() });
    }
    if q35 && !def.devices.watchdogs.iter().any(|w| w.model == WatchdogModel::Itco) {
        def.devices.watchdogs.push(Watchdog {
            model: WatchdogModel::Itco,
            action: WatchdogAction::Reset,
            ..Watchdog::default()
        });
    }
    if machine::is_pseries(&name) && def.devices.panics.is_empty() {
        def.devices.panics.push(Panic { model: Some(PanicModel::Pseries), ..Panic::default() });
    }
    if machine::is_s390(&name) && def.devices.panics.is_empty() {
        def.devices.panics.push(Panic { model: Some(PanicModel::S390), ..Panic::default() });
    }
    Ok(())
}

/// The USB controller of a guest that did not ask for one.
fn automatic_usb_model(arch: &str, name: &str, emulator: &Emulator) -> Option<String> {
    if machine::is_q35(name) || machine::is_arm(arch) {
        let found = ["qemu-xhci", "nec-usb-xhci"].into_iter().find(|m| emulator.has_type(m));
        return found.map(|m| if m == "nec-usb-xhci" { "nec-xhci".into() } else { m.into() });
    }
    None
}

/// Bus 0 must be the machine's own root.
fn check_root(def: &Domain, root: &str) -> Result<()> {
    for c in def.devices.controllers.iter().filter(|c| c.kind == ControllerKind::Pci) {
        let model = c.model.as_deref().unwrap_or_default();
        let is_root = model == "pci-root" || model == "pcie-root";
        if is_root
            && c.index.unwrap_or(0) != 0
            && !super::machine::is_pseries(def.os.kind.machine.as_deref().unwrap_or_default())
        {
            return Err(super::xml_error("pci-root and pcie-root controllers should have index 0"));
        }
        if c.index == Some(0) && model != root && !model.is_empty() {
            return Err(super::xml_error(format!(
                "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{model}' \
                 was found instead"
            )));
        }
    }
    Ok(())
}
