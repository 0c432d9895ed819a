//! QEMU's view of a domain document: what is filled in, checked and numbered before a guest is defined or started.
//!
//! [`complete`] makes a configuration whole (defaults, implicit devices, addresses) and refuses what this emulator
//! cannot do; its result is what `dumpxml --inactive` shows. [`prepare_live`] adds what only a running guest has:
//! aliases, image numbers, socket paths.

pub mod address;
pub mod alias;
pub mod cpu;
pub mod defaults;
pub mod devices;
pub mod disks;
pub mod firmware;
pub mod implicit;
pub mod live;
pub mod machine;
pub mod memory;
pub mod nodes;
pub mod planner;
pub mod ports;
pub mod target;
pub mod types;
pub mod unprepared;
pub mod validate;
pub mod vcpus;

use std::path::Path;
use std::sync::Arc;

use virt_error::{Code, Domain as From, Error, Result};

use crate::emulator::{Emulator, Emulators};
use types::Domain;
use virt_model::domain::defaults as model;

pub use live::{Live, prepare_live};
pub use planner::DocumentPlanner;

/// Makes a configuration whole and checks it; returns the facts about its emulator.
///
/// # Errors
/// libvirt's own codes: 67 for what cannot be done, 27 for a document that contradicts itself, 38 for an emulator that
/// cannot be run.
pub fn complete(def: &mut Domain, emulators: &Emulators) -> Result<Arc<Emulator>> {
    let emulator = defaults::choose_emulator(def, emulators)?;
    complete_with(def, &emulator)?;
    Ok(emulator)
}

/// The same for an emulator whose facts are at hand.
///
/// # Errors
/// As [`complete`], but for those of running the emulator.
pub fn complete_with(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let mut fresh = defaults::Host;
    let unfit = defaults::choose_machine(def, emulator)?;
    let foreign;
    let emulator = match unfit {
        None => emulator,
        Some(_) => {
            foreign = defaults::stand_in(def, emulator);
            &foreign
        }
    };
    validate::own_sockets(def)?;
    model::guest(def, &mut fresh)?;
    firmware::choose(def, emulator, Path::new("/"))?;
    model::number_controllers(def);
    implicit::place_scsi_hostdevs(def);
    defaults::default_devices(def, emulator)?;
    cpu::complete(def, emulator)?;
    memory::complete(def)?;
    devices::before(def, emulator)?;
    model::devices(def, &mut fresh)?;
    implicit::inputs(def, &emulator.arch);
    devices::complete(def, emulator)?;
    model::controllers(def)?;
    devices::complete_controllers(def, emulator)?;
    implicit::add(def, emulator)?;
    validate::before_addresses(def, emulator)?;
    address::assign(def, emulator)?;
    ports::twin_address(def);
    match unfit {
        Some(reason) => Err(reason),
        None => validate::check(def, emulator),
    }
}

/// "unsupported configuration: ..."
pub(crate) fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::ConfigUnsupported, From::Qemu, text)
}

/// "XML error: ..."
pub(crate) fn xml_error(text: impl Into<String>) -> Error {
    Error::new(Code::XmlError, From::Domain, text)
}

/// A text of its own with code 35.
pub(crate) fn xml_detail(text: impl Into<String>) -> Error {
    Error::new(Code::XmlDetail, From::Domain, text)
}
