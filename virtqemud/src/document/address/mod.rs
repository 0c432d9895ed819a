//! Addresses of devices: every device that needs a place gets one, and places that are taken twice are refused.

pub mod bus;
mod dimm;
mod pci;
mod pci_devices;
mod serial;
mod spapr;
mod usb;
mod virtio;
mod zpci;

use virt_error::Result;

use super::machine;
use super::types::{Address, ConsoleTarget, DeviceInfo, Domain};
use crate::emulator::Emulator;

/// Assigns all addresses of a document whose devices are complete.
pub fn assign(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    serial::assign(def)?;
    usb::assign(def)?;
    dimm::assign(def)?;
    spapr::assign(def);
    // The first console is the first serial port, wherever that is.
    if let (Some(serial), Some(console)) = (def.devices.serials.first(), def.devices.consoles.first_mut())
        && console.target.kind == Some(ConsoleTarget::Serial)
        && matches!(serial.info.address, Some(Address::SpaprVio(_)))
    {
        console.info.address = serial.info.address.clone();
    }
    virtio::assign(def, emulator)?;
    pci::assign(def, emulator)?;
    zpci::assign(def)
}

/// Aliases of the PCI devices of an IBM Z guest, with their two numbers.
pub fn zpci_numbers(def: &Domain) -> Vec<(String, u32, u32)> {
    let mut out = Vec::new();
    if machine::is_s390(def.os.kind.machine.as_deref().unwrap_or_default()) {
        pci_infos(&mut def.clone(), &mut |info| {
            if let (Some(alias), Some(Address::Pci(a))) = (&info.alias, &info.address)
                && let (Some(uid), Some(fid)) = (a.zpci.uid, a.zpci.fid)
            {
                out.push((alias.clone(), uid, fid));
            }
        });
    }
    out
}

/// Visits every device that has a PCI address, but the buses themselves.
fn pci_infos(def: &mut Domain, act: &mut dyn FnMut(&mut DeviceInfo)) {
    let act = std::cell::RefCell::new(act);
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let arch = def.os.kind.arch.clone().unwrap_or_default();
    let needs = pci_devices::Needs::of(&name, &arch);
    let done = pci_devices::visit::<std::convert::Infallible>(
        def,
        needs,
        &mut |(info, _)| {
            (act.borrow_mut())(info);
            Ok(())
        },
        &mut |controllers| {
            controllers.iter_mut().for_each(|c| (act.borrow_mut())(&mut c.info));
            Ok(())
        },
    );
    match done {
        Ok(()) => {}
    }
}
