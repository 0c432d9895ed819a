//! What this emulator and its machines cannot do.
//!
//! Documents that contradict themselves are refused by the model's own checks; here is what QEMU adds.

mod controllers;
mod cpu;
mod devices;
mod disks;
mod displays;
mod guest;
mod live;
mod machines;
mod memory;
mod network;
mod pci;
mod ports;
mod small;

pub use displays::vnc_password;

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::DeviceKind;
use virt_model::domain::info::each;
use virt_xml::At;

use super::types::{CharBackend, Domain};
use super::{DEVICES, unsupported};
use crate::emulator::Emulator;

pub use live::check_live;

/// What all checks look at.
struct Checker<'a> {
    def: &'a Domain,
    emulator: &'a Emulator,
    machine: &'a str,
}

/// The driver makes the socket of an agent's channel and listens on it: nothing connects again. To be asked before
/// defaults are filled in.
pub fn own_sockets(def: &Domain) -> Result<()> {
    each(&def.devices.channels, |channel| {
        if let CharBackend::Unix(u) = &channel.backend
            && u.path.as_deref().is_none_or(super::ports::is_made)
            && u.reconnect.as_ref().is_some_and(|r| r.enabled == Some(true))
        {
            return Err(Error::internal(From::Domain, "chardev reconnect is possible only for connect mode"));
        }
        Ok(())
    })?;
    Ok(())
}

/// Checks what must hold before addresses are given out.
pub fn before_addresses(def: &Domain, emulator: &Emulator) -> Result<()> {
    Checker::new(def, emulator).usb_disks()
}

/// Checks a completed document.
pub fn check(def: &Domain, emulator: &Emulator) -> Result<()> {
    let c = Checker::new(def, emulator);
    c.guest()?;
    c.cpu().within("/domain/cpu")?;
    c.placement().within(DEVICES)?;
    def.validate_kind(DeviceKind::Disks)?;
    c.disks().within(DEVICES)?;
    def.validate_kind(DeviceKind::Interfaces)?;
    c.network().within(DEVICES)?;
    def.validate_kind(DeviceKind::Hostdevs)?;
    c.hostdevs().within(DEVICES)?;
    c.displays().within(DEVICES)?;
    def.validate_kind(DeviceKind::Controllers)?;
    c.controllers().within(DEVICES)?;
    def.validate_kind(DeviceKind::Ports)?;
    c.ports().within(DEVICES)?;
    def.validate_kind(DeviceKind::Others)?;
    c.devices().within(DEVICES)?;
    c.machines().within(DEVICES)?;
    c.small().within(DEVICES)?;
    c.iommus().within(DEVICES)?;
    c.memory().within(DEVICES)?;
    names_once(def)?;
    def.validate_whole()
}

/// Names that the user chose are each there once.
fn names_once(def: &Domain) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    // A console that is a serial port as well has its name.
    let consoles = def.devices.consoles.iter().filter_map(|c| c.info.alias.as_deref());
    let infos = || crate::config::devices::infos(&def.devices).filter_map(|i| i.alias.as_deref());
    let consoles: Vec<_> = consoles.filter(|a| infos().filter(|b| b == a).count() > 1).collect();
    for alias in infos().filter(|a| a.starts_with("ua-") && !consoles.contains(a)) {
        if !seen.insert(alias) {
            let text = format!("non unique alias detected: {alias}");
            return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
        }
    }
    Ok(())
}

impl<'a> Checker<'a> {
    fn new(def: &'a Domain, emulator: &'a Emulator) -> Self {
        Self { def, emulator, machine: def.os.kind.machine.as_deref().unwrap_or_default() }
    }

    fn arch(&self) -> &str {
        self.def.os.kind.arch.as_deref().unwrap_or(&self.emulator.arch)
    }

    /// Whether guest memory can be seen by other processes, as vhost-user needs.
    fn shares_memory(&self) -> bool {
        use super::types::MemoryAccess;
        let cells = self.def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(&[][..], |n| &n.cells);
        let shared = |a: Option<MemoryAccess>| a == Some(MemoryAccess::Shared);
        let own = shared(self.def.memory_backing.access);
        if cells.is_empty() {
            return own;
        }
        cells.iter().all(|c| match c.mem_access {
            Some(MemoryAccess::Shared) => true,
            Some(MemoryAccess::Private) => false,
            _ => own,
        })
    }
}
