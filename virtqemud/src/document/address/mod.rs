//! Addresses of devices: every device that needs a place gets one, and places that are taken twice are refused.

pub mod bus;
mod dimm;
mod pci;
mod pci_devices;
mod serial;
mod spapr;
mod usb;

use virt_error::Result;

use super::types::Domain;
use crate::emulator::Emulator;

/// Assigns all addresses of a document whose devices are complete.
pub fn assign(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    serial::assign(def)?;
    usb::assign(def)?;
    dimm::assign(def)?;
    spapr::assign(def);
    pci::assign(def, emulator)
}
