//! One device given as a document of its own: put into, taken out of, or changed in a configuration.
//!
//! After a change the driver completes the document (addresses, controllers, defaults) and checks it as a whole.

/// Hands the lists of devices that can come and go one by one to another macro.
macro_rules! each_list {
    ($what:ident) => {
        $what!(
            disks,
            controllers,
            filesystems,
            interfaces,
            serials,
            parallels,
            consoles,
            channels,
            inputs,
            sounds,
            hostdevs,
            redirdevs,
            watchdogs,
            rngs,
            shmems,
            memories
        )
    };
}

mod attach;
mod detach;
mod disk_order;
mod update;

pub use attach::{attach, attach_unchecked, bus_of};
pub use detach::{detach, detach_alias, find_interface};
pub use update::update;

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::chardev::{Channel, Console, Parallel, Serial};
use virt_model::domain::controller::Controller;
use virt_model::domain::devices::Devices;
use virt_model::domain::disk::Disk;
use virt_model::domain::filesystem::Filesystem;
use virt_model::domain::graphics::Graphics;
use virt_model::domain::hostdev::Hostdev;
use virt_model::domain::info::DeviceInfo;
use virt_model::domain::input::Input;
use virt_model::domain::interface::Interface;
use virt_model::domain::memory::MemoryDevice;
use virt_model::domain::misc::{Lease, Redirdev, Rng, Shmem, Vsock, Watchdog};
use virt_model::domain::sound::Sound;
use virt_xml::{Document, Xml};

/// A device on its own.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Device {
    Disk(Box<Disk>),
    Controller(Box<Controller>),
    Lease(Lease),
    Filesystem(Box<Filesystem>),
    Interface(Box<Interface>),
    Serial(Box<Serial>),
    Parallel(Box<Parallel>),
    Console(Box<Console>),
    Channel(Box<Channel>),
    Input(Input),
    Graphics(Box<Graphics>),
    Sound(Box<Sound>),
    Hostdev(Box<Hostdev>),
    Redirdev(Box<Redirdev>),
    Watchdog(Watchdog),
    Rng(Box<Rng>),
    Shmem(Box<Shmem>),
    Memory(Box<MemoryDevice>),
    Vsock(Vsock),
    /// A kind that cannot be changed one by one.
    Fixed(&'static str),
}

/// Kinds of devices that only a whole document sets.
const FIXED: &[&str] = &[
    "video",
    "hub",
    "smartcard",
    "memballoon",
    "nvram",
    "tpm",
    "panic",
    "iommu",
    "audio",
    "crypto",
    "pstore",
];

/// Reads a device document.
///
/// # Errors
/// Code 35 for a text that is no XML, code 67 for an unknown kind, and what the device's own type refuses.
pub fn read(xml: &str, mode: Mode) -> Result<Device> {
    let document = Document::parse(xml, mode, From::Domain)?;
    let e = document.root();
    Ok(match e.name() {
        "disk" => Device::Disk(Box::new(Disk::read(e)?)),
        "controller" => Device::Controller(Box::new(Controller::read(e)?)),
        "lease" => Device::Lease(Lease::read(e)?),
        "filesystem" => Device::Filesystem(Box::new(Filesystem::read(e)?)),
        "interface" => Device::Interface(Box::new(Interface::read(e)?)),
        "serial" => Device::Serial(Box::new(Serial::read(e)?)),
        "parallel" => Device::Parallel(Box::new(Parallel::read(e)?)),
        "console" => Device::Console(Box::new(Console::read(e)?)),
        "channel" => Device::Channel(Box::new(Channel::read(e)?)),
        "input" => Device::Input(Input::read(e)?),
        "graphics" => Device::Graphics(Box::new(Graphics::read(e)?)),
        "sound" => Device::Sound(Box::new(Sound::read(e)?)),
        "hostdev" => Device::Hostdev(Box::new(Hostdev::read(e)?)),
        "redirdev" => Device::Redirdev(Box::new(Redirdev::read(e)?)),
        "watchdog" => Device::Watchdog(Watchdog::read(e)?),
        "rng" => Device::Rng(Box::new(Rng::read(e)?)),
        "shmem" => Device::Shmem(Box::new(Shmem::read(e)?)),
        "memory" => Device::Memory(Box::new(MemoryDevice::read(e)?)),
        "vsock" => Device::Vsock(Vsock::read(e)?),
        other => match FIXED.iter().find(|f| **f == other) {
            Some(kind) => Device::Fixed(kind),
            None => {
                let text = format!("unknown device type '{other}'");
                return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
            }
        },
    })
}

impl Device {
    /// libvirt's word for the kind, as its refusals use it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Controller(_) => "controller",
            Self::Lease(_) => "lease",
            Self::Filesystem(_) => "filesystem",
            Self::Interface(_) => "interface",
            Self::Serial(_) | Self::Parallel(_) | Self::Console(_) | Self::Channel(_) => "chr",
            Self::Input(_) => "input",
            Self::Graphics(_) => "graphics",
            Self::Sound(_) => "sound",
            Self::Hostdev(_) => "hostdev",
            Self::Redirdev(_) => "redirdev",
            Self::Watchdog(_) => "watchdog",
            Self::Rng(_) => "rng",
            Self::Shmem(_) => "shmem",
            Self::Memory(_) => "memory",
            Self::Vsock(_) => "vsock",
            Self::Fixed(kind) => kind,
        }
    }

    /// Its name and place; `None` for kinds that have none.
    pub fn info_mut(&mut self) -> Option<&mut DeviceInfo> {
        Some(match self {
            Self::Disk(d) => &mut d.info,
            Self::Controller(d) => &mut d.info,
            Self::Filesystem(d) => &mut d.info,
            Self::Interface(d) => &mut d.info,
            Self::Serial(d) => &mut d.info,
            Self::Parallel(d) => &mut d.info,
            Self::Console(d) => &mut d.info,
            Self::Channel(d) => &mut d.info,
            Self::Input(d) => &mut d.info,
            Self::Sound(d) => &mut d.info,
            Self::Hostdev(d) => &mut d.info,
            Self::Redirdev(d) => &mut d.info,
            Self::Watchdog(d) => &mut d.info,
            Self::Rng(d) => &mut d.info,
            Self::Shmem(d) => &mut d.info,
            Self::Memory(d) => &mut d.info,
            Self::Vsock(d) => &mut d.info,
            Self::Lease(_) | Self::Graphics(_) | Self::Fixed(_) => return None,
        })
    }

    fn unsupported(&self, verb: &str) -> Error {
        let text = format!("persistent {verb} of device '{}' is not supported", self.kind());
        Error::new(Code::OperationUnsupported, From::Qemu, text)
    }
}

fn invalid_state(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, text)
}

fn missing(text: impl Into<String>) -> Error {
    Error::new(Code::DeviceMissing, From::Qemu, text)
}

/// Whether address and alias given for a device to find agree with a device's; none given agrees with all.
fn same_place(wanted: &DeviceInfo, other: &DeviceInfo) -> bool {
    (wanted.address.is_none() || wanted.address == other.address)
        && (wanted.alias.is_none() || wanted.alias == other.alias)
}

/// Names and places of all devices that can come and go one by one.
pub fn infos(d: &Devices) -> impl Iterator<Item = &DeviceInfo> {
    macro_rules! chained {
        ($first:ident $(, $list:ident)*) => {
            d.$first.iter().map(|x| &x.info)$(.chain(d.$list.iter().map(|x| &x.info)))*
        };
    }
    each_list!(chained).chain(d.vsock.iter().map(|x| &x.info))
}

#[cfg(test)]
mod tests;
