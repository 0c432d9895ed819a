//! Documents that contradict themselves, whatever the emulator. [`Domain::validate`] is meant for a completed document;
//! the driver's own checks come after.
//!
//! Codes and texts are the reference's, found by asking it.

mod chardev;
mod devices;
mod disk;
mod guest;
mod hostdev;
mod net;
mod reading;
mod tuning;

use virt_error::{Code, Domain as From, Error, Result};
use virt_xml::At;

pub(super) use devices::usb_controllers;
pub(super) use reading::{
    blkio, cells, clock, guest_kind, labels, numa_places, page_sizes, schedulers, smbios, vcpu_list,
};

use super::Domain;

impl Domain {
    /// Checks everything that needs no emulator.
    ///
    /// Errors: 27 and 35 for parts that do not fit together, 67 for what no driver supports, 19 for a missing medium,
    /// 1 and 8 where the reference gives those.
    pub fn validate(&self) -> Result<()> {
        self.validate_devices()?;
        self.validate_whole()
    }

    /// The first half: each device by itself. A driver checks its own limits of the guest as a whole before, those of
    /// devices between the two.
    ///
    /// Errors as [`Domain::validate`].
    pub fn validate_devices(&self) -> Result<()> {
        self.validate_kind(DeviceKind::Disks)?;
        self.validate_kind(DeviceKind::Interfaces)?;
        self.validate_kind(DeviceKind::Hostdevs)?;
        self.validate_kind(DeviceKind::Controllers)?;
        self.validate_kind(DeviceKind::Ports)?;
        self.validate_kind(DeviceKind::Others)
    }

    /// The same for devices of one kind: a driver's own checks of these come before other kinds.
    ///
    /// Errors as [`Domain::validate`].
    pub fn validate_kind(&self, kind: DeviceKind) -> Result<()> {
        match kind {
            DeviceKind::Disks => disk::singly(self),
            DeviceKind::Interfaces => net::check(self),
            DeviceKind::Hostdevs => hostdev::singly(self),
            DeviceKind::Controllers => devices::controllers(self),
            DeviceKind::Ports => chardev::check(self),
            DeviceKind::Others => devices::singly(self),
        }
        .within(DEVICES)
    }

    /// The second half: the guest as a whole, and devices that clash with one another.
    ///
    /// Errors as [`Domain::validate`].
    pub fn validate_whole(&self) -> Result<()> {
        devices::together(self).within(DEVICES)?;
        disk::together(self).within(DEVICES)?;
        hostdev::together(self).within(DEVICES)?;
        guest::check(self)?;
        tuning::check(self).within("/domain/cputune")
    }
}

/// Devices that are checked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Disks,
    Interfaces,
    Hostdevs,
    Controllers,
    /// Serial and parallel ports, consoles, channels.
    Ports,
    Others,
}

/// What is refused before the rest of the document is read: groups of vcpus that share caches and bandwidth.
pub(super) fn resource_shares(tune: &super::vcpu::CpuTune) -> Result<()> {
    tuning::shares(tune).within("/domain/cputune")
}

/// The same for labels, features and the rest that contradicts itself in one element.
pub(super) fn while_reading(d: &Domain) -> Result<()> {
    guest::while_reading(d)?;
    devices::while_reading(d).within(DEVICES)?;
    hostdev::while_reading(d).within(DEVICES)
}

/// Where errors stand that know no nearer place.
const DEVICES: &str = "/domain/devices";

fn fail<T>(code: Code, text: impl Into<String>) -> Result<T> {
    Err(Error::new(code, From::Domain, text))
}

/// 27.
fn xml<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::XmlError, text)
}

/// 35.
fn detail<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::XmlDetail, text)
}

/// 67.
fn unsupported<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::ConfigUnsupported, text)
}

/// 1.
fn internal<T>(text: impl Into<String>) -> Result<T> {
    fail(Code::InternalError, text)
}

/// The first value met twice.
fn twice<T: Ord>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = std::collections::BTreeSet::new();
    for v in values {
        if seen.contains(&v) {
            return Some(v);
        }
        seen.insert(v);
    }
    None
}
