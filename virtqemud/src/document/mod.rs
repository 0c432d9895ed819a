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
pub mod modules;
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
use virt_model::Mode;
use virt_model::domain::defaults as model;
use virt_xml::{At, locate, unlocated};

pub use live::{Live, prepare_live};
pub use planner::DocumentPlanner;

/// Reads a document, makes it whole and checks it; returns the facts about its emulator too.
///
/// # Errors
/// libvirt's own codes and texts. The context tells what only a log or a gRPC caller sees: the element's path, its line
/// in `text`, what stands there and, of a closed set, what may.
pub fn read(text: &str, emulators: &Emulators) -> Result<(Domain, Arc<Emulator>)> {
    let mut def = Domain::parse(text, Mode::CONFIG)?;
    match made_whole(&mut def, emulators) {
        Ok(emulator) => Ok((def, emulator)),
        Err(error) => Err(locate(error, text)),
    }
}

/// Makes a configuration whole and checks it; returns the facts about its emulator.
///
/// # Errors
/// libvirt's own codes: 67 for what cannot be done, 27 for a document that contradicts itself, 38 for an emulator that
/// cannot be run.
pub fn complete(def: &mut Domain, emulators: &Emulators) -> Result<Arc<Emulator>> {
    made_whole(def, emulators).map_err(unlocated)
}

fn made_whole(def: &mut Domain, emulators: &Emulators) -> Result<Arc<Emulator>> {
    let emulator = defaults::choose_emulator(def, emulators).within("/domain/devices/emulator")?;
    complete_with(def, &emulator, emulators.nvram())?;
    Ok(emulator)
}

/// The same for an emulator whose facts are at hand; `nvram` is where variables of firmware are kept. Errors may hold places in the text that was read.
///
/// # Errors
/// As [`complete`], but for those of running the emulator.
pub fn complete_with(def: &mut Domain, emulator: &Emulator, nvram: &Path) -> Result<()> {
    let mut fresh = defaults::Host;
    let unfit = defaults::choose_machine(def, emulator).within(TYPE)?;
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
    firmware::choose(def, emulator, Path::new("/"), nvram).within("/domain/os")?;
    model::number_controllers(def);
    implicit::place_scsi_hostdevs(def);
    defaults::default_devices(def, emulator)?;
    cpu::complete(def, emulator).within("/domain/cpu")?;
    memory::complete(def).within("/domain/memory")?;
    devices::before(def, emulator)?;
    model::devices(def, &mut fresh).within(DEVICES)?;
    implicit::inputs(def, &emulator.arch);
    devices::complete(def, emulator).within(DEVICES)?;
    if let Some(store) = &mut def.devices.pstore {
        let name = def.name.as_deref().unwrap_or_default();
        store.path.get_or_insert_with(|| nvram.join(format!("{name}_PSTORE.raw")).display().to_string());
    }
    model::controllers(def).within(DEVICES)?;
    devices::complete_controllers(def, emulator).within(DEVICES)?;
    implicit::add(def, emulator).within(DEVICES)?;
    validate::before_addresses(def, emulator).within(DEVICES)?;
    address::assign(def, emulator).within(DEVICES)?;
    ports::twin_address(def);
    match unfit {
        Some(reason) => Err(reason).within(TYPE),
        None => {
            let name = def.name.as_deref().unwrap_or_default();
            virt_object::names::DOMAIN.check(name).within("/domain/name")?;
            validate::check(def, emulator)
        }
    }
}

/// Where errors stand that know no nearer place.
const DEVICES: &str = "/domain/devices";
const TYPE: &str = "/domain/os/type";

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
