//! The guest as a whole: emulator, machine, identity, and the devices its machine always has.

use std::path::PathBuf;
use std::sync::Arc;

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::{Mac, Uuid};
use virt_xml::At;

use super::types::{
    BalloonModel, Controller, ControllerKind, Domain, Memballoon, Panic, PanicModel, VirtType, Watchdog,
    WatchdogAction, WatchdogModel,
};
use super::{machine, unsupported};
use crate::emulator::{Emulator, Emulators, host_arch};
use virt_model::domain::defaults::add_controller;

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
    def.os.kind.arch = Some(arch);
    def.devices.emulator = Some(path.display().to_string());
    Ok(emulator)
}

/// A 64-bit emulator runs the 32-bit architecture it grew from.
fn runs(emulator: &Emulator, arch: &str) -> bool {
    let target = crate::emulator::target_of_arch(arch);
    target == emulator.target
        || (target == "i386" && emulator.target == "x86_64")
        || (target == "arm" && emulator.target == "aarch64")
}

/// Makes the machine type canonical. The answer is why this emulator cannot run the guest: it is to be told only when
/// nothing else is wrong with the document.
///
/// # Errors
/// Code 8 when the machine is left to an emulator that has none of this kind.
pub fn choose_machine(def: &mut Domain, emulator: &Emulator) -> Result<Option<Error>> {
    let path = def.devices.emulator.clone().unwrap_or_default();
    let arch = def.os.kind.arch.get_or_insert_with(|| emulator.arch.clone()).clone();
    if emulator.arch != arch && !runs(emulator, &arch) {
        let reason = unsupported(format!("Emulator '{path}' does not support arch '{arch}'"));
        return Ok(Some(reason));
    }
    let fits = match def.virt_type {
        VirtType::Qemu => true,
        VirtType::Kvm => emulator.kvm,
        _ => false,
    };
    if !fits && def.os.kind.machine.is_none() {
        let text = format!("could not get preferred machine for {path} type={}", def.virt_type);
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    let machine = def.os.kind.machine.clone();
    if let Some(known) = machine.as_deref().and_then(|m| emulator.machine(m)) {
        def.os.kind.machine = Some(known.name.clone());
    }
    if !fits {
        let text = format!("Emulator '{path}' does not support virt type '{}'", def.virt_type);
        return Ok(Some(unsupported(text)));
    }
    match def.os.kind.name.as_deref() {
        Some("hvm") => {}
        other => {
            let other = other.unwrap_or_default();
            let text = format!("Emulator '{path}' does not support os type '{other}'");
            return Ok(Some(unsupported(text)));
        }
    }
    let chosen = match &def.os.kind.machine {
        None => emulator.default_machine(),
        Some(name) => emulator.machine(name),
    };
    let Some(chosen) = chosen else {
        let name = def.os.kind.machine.clone().unwrap_or_default();
        let text = format!("Emulator '{path}' does not support machine type '{name}'");
        return Ok(Some(unsupported(text)));
    };
    def.os.kind.machine = Some(chosen.name.clone());
    Ok(None)
}

/// What stands in for an emulator that cannot run the guest while the rest of the document is looked at: its facts
/// with the guest's architecture. A machine of another architecture is like none we know.
pub fn stand_in(def: &mut Domain, emulator: &Emulator) -> Emulator {
    let arch = def.os.kind.arch.clone().unwrap_or_default();
    let mut stand_in = emulator.clone();
    if emulator.arch != arch && !runs(emulator, &arch) {
        stand_in.arch = arch.clone();
    }
    if let Some(name) = &mut def.os.kind.machine
        && !machine::is_of(&stand_in.arch, name)
    {
        name.insert_str(0, "foreign ");
    }
    stand_in
}

/// New identities, from the system's random numbers.
pub struct Host;

impl virt_model::domain::defaults::Fresh for Host {
    fn uuid(&mut self) -> Uuid {
        Uuid::new_v4()
    }

    /// An address of QEMU's own range.
    fn mac(&mut self) -> Mac {
        let r = Uuid::new_v4();
        let b = r.as_bytes();
        Mac([0x52, 0x54, 0x00, b[0], b[1], b[2]])
    }
}

/// Controllers and devices that the machine brings with it.
pub fn default_devices(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let arch = emulator.arch.clone();
    sort_controllers(def);
    let x86 = machine::is_x86(&arch);
    let q35 = machine::is_q35(&name);
    let pcie = machine::has_pcie_root(&arch, &name);
    let pci = machine::has_pci_root(&arch, &name);
    let isapc = name == "isapc";

    let usb = match arch.as_str() {
        _ if x86 => !isapc && name != "microvm",
        "ppc64" | "ppc64le" => true,
        "s390x" | "aarch64" | "armv7l" | "armv6l" | "riscv64" | "riscv32" | "loongarch64" | "m68k"
        | "sparc" => false,
        _ => pci || pcie,
    };
    let first = |c: &Controller| c.kind == ControllerKind::Usb && c.index == Some(0);
    if usb && !def.devices.controllers.iter().any(first) {
        let mut usb = Controller::new(ControllerKind::Usb, 0, None);
        usb.model = automatic_usb_model(&arch, &name, emulator);
        add_controller(def, usb);
    }
    if q35 {
        ensure(def, ControllerKind::Sata, 0, None);
    }
    let root = match (pci, pcie) {
        (_, true) => Some("pcie-root"),
        (true, _) => Some("pci-root"),
        _ => None,
    };
    check_root(def, root)?;
    if let Some(root) = root {
        ensure(def, ControllerKind::Pci, 0, Some(root));
    }
    let balloon = !machine::is_arm(&arch) && !matches!(arch.as_str(), "loongarch64" | "m68k" | "sparc");
    if balloon && def.devices.memballoon.is_none() && !isapc {
        def.devices.memballoon = Some(Memballoon { model: BalloonModel::Virtio, ..Memballoon::default() });
    }
    if q35 && !def.devices.watchdogs.iter().any(|w| w.model == WatchdogModel::Itco) {
        // All watchdogs of a guest do the same.
        let action = def.devices.watchdogs.first().map_or(WatchdogAction::Reset, |w| w.action);
        def.devices.watchdogs.push(Watchdog { model: WatchdogModel::Itco, action, ..Watchdog::default() });
    }
    if machine::is_pseries(&name) && def.devices.panics.is_empty() {
        def.devices.panics.push(Panic { model: Some(PanicModel::Pseries), ..Panic::default() });
    }
    if machine::is_s390(&name) && def.devices.panics.is_empty() {
        def.devices.panics.push(Panic { model: Some(PanicModel::S390), ..Panic::default() });
    }
    Ok(())
}

/// Keeps controllers of a kind together, by index; companions of a USB controller follow it and serve its ports.
fn sort_controllers(def: &mut Domain) {
    for c in def.devices.controllers.iter_mut().filter(|c| c.kind == ControllerKind::Usb) {
        let first = match c.model.as_deref() {
            Some("ich9-uhci1") => 0,
            Some("ich9-uhci2") => 2,
            Some("ich9-uhci3") => 4,
            _ => continue,
        };
        c.info.master_startport.get_or_insert(first);
    }
    let mut kinds: Vec<ControllerKind> = Vec::new();
    for c in &def.devices.controllers {
        if !kinds.contains(&c.kind) {
            kinds.push(c.kind);
        }
    }
    def.devices.controllers.sort_by_key(|c| {
        (kinds.iter().position(|k| *k == c.kind), c.index, c.info.master_startport.is_some())
    });
}

/// Adds a controller of this kind and index unless there is one.
fn ensure(def: &mut Domain, kind: ControllerKind, index: u32, model: Option<&str>) {
    let there = def.devices.controllers.iter().any(|c| c.kind == kind && c.index == Some(index));
    if !there {
        add_controller(def, Controller::new(kind, index, model));
    }
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
fn check_root(def: &Domain, root: Option<&str>) -> Result<()> {
    for c in def.devices.controllers.iter().filter(|c| c.kind == ControllerKind::Pci) {
        let model = c.model.as_deref().unwrap_or_default();
        let is_root = model == "pci-root" || model == "pcie-root";
        if is_root
            && c.index.unwrap_or(0) != 0
            && !super::machine::is_pseries(def.os.kind.machine.as_deref().unwrap_or_default())
        {
            return Err(super::xml_error("pci-root and pcie-root controllers should have index 0"))
                .at(c.info.place);
        }
        let Some(root) = root else { continue };
        if c.index == Some(0) && model != root {
            let model = c.model.as_deref().unwrap_or("(null)");
            return Err(super::xml_error(format!(
                "The PCI controller with index='0' must be model='{root}' for this machine type, but model='{model}' \
                 was found instead"
            )))
            .at(c.info.place);
        }
    }
    Ok(())
}
