//! Which device of a running guest a document means, and whether it can be plugged in or out, in the reference's words.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::address::Address;
use virt_model::domain::controller::{Controller, ControllerKind};
use virt_model::domain::disk::{Disk, DiskBus, DiskDevice};
use virt_model::domain::filesystem::FsDriverType;
use virt_model::domain::hostdev::HostdevSource;
use virt_model::domain::input::InputBus;
use virt_model::domain::misc::{RngModel, WatchdogModel};

use crate::config::devices::{self, Device};
use crate::document;

fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::OperationUnsupported, From::Qemu, text)
}

/// Refuses what no running guest can get.
///
/// # Errors
/// Code 84; code 9 for a controller that is there; code 27 for a second disk of a target; code 3 for kinds that this driver
/// cannot plug in yet.
pub(super) fn may_attach(live: &Domain, device: &Device) -> Result<()> {
    if on_usb(device) && !has_usb(live) {
        let text = "Device configuration is not compatible: Domain has no USB bus support";
        return Err(document::unsupported(text));
    }
    match device {
        Device::Disk(disk) => {
            let dev = disk.target.dev.as_deref();
            let twin = live.devices.disks.iter().find(|d| d.target.dev.as_deref() == dev);
            if let Some(twin) = twin {
                let path = |d: &Disk| d.source.path().unwrap_or("(null)").to_string();
                let text = format!(
                    "target '{}' duplicated for disk sources '{}' and '{}'",
                    dev.unwrap_or_default(),
                    path(twin),
                    path(disk)
                );
                return Err(Error::new(Code::XmlError, From::Domain, text));
            }
            if disk.device == DiskDevice::Floppy {
                return Err(unsupported("floppy device hotplug isn't supported"));
            }
            match disk.target.bus.or_else(|| dev.map(devices::bus_of)) {
                Some(DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb) | None => Ok(()),
                Some(bus) => Err(unsupported(format!("disk bus '{bus}' cannot be hotplugged."))),
            }
        }
        Device::Controller(c) => match c.kind {
            ControllerKind::Scsi | ControllerKind::VirtioSerial => {
                let index = c.index;
                let twin = |o: &Controller| {
                    index.is_some() && o.kind == c.kind && o.index.unwrap_or(0) == index.unwrap_or(0)
                };
                if live.devices.controllers.iter().any(twin) {
                    let text = format!("target {}:{} already exists", c.kind, index.unwrap_or(0));
                    return Err(Error::new(Code::OperationFailed, From::Qemu, text));
                }
                Ok(())
            }
            kind => Err(unsupported(format!("'{kind}' controller cannot be hot plugged."))),
        },
        Device::Input(i) => match i.bus {
            Some(bus @ (InputBus::Ps2 | InputBus::Xen | InputBus::Parallels)) => {
                Err(unsupported(format!("input device on bus '{bus}' cannot be hot plugged.")))
            }
            _ => Ok(()),
        },
        Device::Filesystem(fs) if fs.driver.kind != Some(FsDriverType::Virtiofs) => {
            Err(unsupported("only virtiofs filesystems can be hotplugged"))
        }
        Device::Watchdog(w) if w.model != WatchdogModel::I6300esb => {
            Err(unsupported(format!("hotplug of watchdog model '{}' is not supported", w.model)))
        }
        Device::Hostdev(_) | Device::Lease(_) | Device::Vsock(_) => {
            Err(Error::no_support(From::Qemu, "virDomainAttachDeviceFlags"))
        }
        Device::Sound(_) | Device::Graphics(_) | Device::Fixed(_) => {
            Err(unsupported(format!("live attach of device '{}' is not supported", device.kind())))
        }
        Device::Filesystem(_)
        | Device::Interface(_)
        | Device::Serial(_)
        | Device::Parallel(_)
        | Device::Console(_)
        | Device::Channel(_)
        | Device::Redirdev(_)
        | Device::Watchdog(_)
        | Device::Rng(_)
        | Device::Shmem(_) => Ok(()),
        Device::Memory(_) => {
            let nodes = live.cpu.as_ref().and_then(|c| c.numa.as_ref()).is_some_and(|n| !n.cells.is_empty());
            let text = "can't add memory backend as guest has no NUMA nodes configured";
            if nodes { Ok(()) } else { Err(document::xml_detail(text)) }
        }
    }
}

fn on_usb(device: &Device) -> bool {
    match device {
        Device::Disk(disk) => disk.target.bus == Some(DiskBus::Usb),
        Device::Input(input) => input.bus == Some(InputBus::Usb),
        Device::Redirdev(_) => true,
        _ => false,
    }
}

fn has_usb(live: &Domain) -> bool {
    let mut usb = live.devices.controllers.iter().filter(|c| c.kind == ControllerKind::Usb);
    usb.any(|c| c.model.as_deref() != Some("none"))
}

/// The alias of the device that a document describes, if it may be unplugged.
///
/// # Errors
/// Code 99 (for some kinds 55) when there is none, code 9 when several fit or it is in use, code 84 for kinds that stay.
pub(super) fn by_document(live: &Domain, device: &Device) -> Result<String> {
    match device {
        Device::Input(i) if i.bus == Some(InputBus::Ps2) => {
            return Err(unsupported("input device on bus 'ps2' cannot be detached"));
        }
        Device::Controller(c) if c.kind != ControllerKind::Scsi => return Err(controller_stays(c.kind)),
        Device::Sound(_) | Device::Graphics(_) | Device::Fixed(_) => {
            return Err(unsupported(format!("live detach of device '{}' is not supported", device.kind())));
        }
        Device::Lease(_) => return Err(Error::no_support(From::Qemu, "virDomainDetachDeviceFlags")),
        _ => {}
    }
    let mut rest = live.clone();
    devices::detach(&mut rest, device).map_err(|e| absent(device, e))?;
    let stays = |alias: &Option<String>| devices::infos(&rest.devices).any(|i| i.alias == *alias);
    let gone = devices::infos(&live.devices).find(|i| i.alias.is_some() && !stays(&i.alias));
    let alias = gone.and_then(|i| i.alias.clone());
    let alias =
        alias.ok_or_else(|| Error::fault(From::Qemu, "a device without a name in a running guest"))?;
    may_detach(live, &alias)?;
    Ok(alias)
}

/// Refuses to unplug what stays, or what others use.
///
/// # Errors
/// Code 1 when there is no such device, code 9 for a controller in use, code 84 for kinds that stay.
pub(super) fn may_detach(live: &Domain, alias: &str) -> Result<()> {
    let d = &live.devices;
    let is = |info: &virt_model::domain::info::DeviceInfo| info.alias.as_deref() == Some(alias);
    if let Some(disk) = d.disks.iter().find(|x| is(&x.info)) {
        let pluggable = matches!(disk.target.bus, Some(DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb));
        return match disk.device {
            DiskDevice::Disk | DiskDevice::Lun if pluggable => Ok(()),
            DiskDevice::Disk | DiskDevice::Lun => {
                Err(unsupported("This type of disk cannot be hot unplugged"))
            }
            DiskDevice::Cdrom if matches!(disk.target.bus, Some(DiskBus::Scsi | DiskBus::Usb)) => Ok(()),
            device => Err(unsupported(format!("disk device type '{device}' cannot be detached"))),
        };
    }
    if let Some(c) = d.controllers.iter().find(|x| is(&x.info)) {
        if c.kind != ControllerKind::Scsi {
            return Err(controller_stays(c.kind));
        }
        let index = c.index.unwrap_or(0);
        let on = |a: &Option<Address>| matches!(a, Some(Address::Drive(a)) if a.controller == index);
        let disk = d.disks.iter().any(|x| x.target.bus == Some(DiskBus::Scsi) && on(&x.info.address));
        let hostdev = |source: &HostdevSource| matches!(source, HostdevSource::Scsi(_));
        if disk || d.hostdevs.iter().any(|x| hostdev(&x.source) && on(&x.info.address)) {
            let text = "device cannot be detached: device is busy";
            return Err(Error::new(Code::OperationFailed, From::Qemu, text));
        }
        return Ok(());
    }
    if let Some(input) = d.inputs.iter().find(|x| is(&x.info)) {
        return match input.bus {
            Some(bus @ (InputBus::Ps2 | InputBus::Xen)) => {
                Err(unsupported(format!("input device on bus '{bus}' cannot be detached")))
            }
            _ => Ok(()),
        };
    }
    if d.hostdevs.iter().any(|x| is(&x.info)) || d.vsock.iter().any(|x| is(&x.info)) {
        return Err(Error::no_support(From::Qemu, "virDomainDetachDeviceFlags"));
    }
    let fixed = [
        ("sound", d.sounds.iter().any(|x| is(&x.info))),
        ("memballoon", d.memballoon.iter().any(|x| is(&x.info))),
        ("video", d.videos.iter().any(|x| is(&x.info))),
        ("tpm", d.tpms.iter().any(|x| is(&x.info))),
        ("hub", d.hubs.iter().any(|x| is(&x.info))),
        ("smartcard", d.smartcards.iter().any(|x| is(&x.info))),
        ("panic", d.panics.iter().any(|x| is(&x.info))),
        ("iommu", d.iommus.iter().any(|x| is(&x.info))),
    ];
    if let Some((kind, _)) = fixed.iter().find(|(_, found)| *found) {
        return Err(unsupported(format!("live detach of device '{kind}' is not supported")));
    }
    if devices::infos(d).any(is) {
        return Ok(());
    }
    Err(Error::internal(From::Domain, format!("no device found with alias {alias}")))
}

fn controller_stays(kind: ControllerKind) -> Error {
    unsupported(format!("'{kind}' controller cannot be hot unplugged."))
}

/// The reference has words of its own for a device that a running guest does not have.
fn absent(device: &Device, error: Error) -> Error {
    if !matches!(error.code(), Code::DeviceMissing | Code::InvalidArg) {
        return error;
    }
    let missing = |text: String| Error::new(Code::DeviceMissing, From::Qemu, text);
    let state = |text: &str| Error::new(Code::OperationInvalid, From::Qemu, text);
    match device {
        Device::Disk(d) => missing(format!("disk {} not found", d.target.dev.as_deref().unwrap_or_default())),
        Device::Controller(c) => missing(format!("controller {}:{} not found", c.kind, c.index.unwrap_or(0))),
        Device::Filesystem(_) => missing("matching filesystem not found".into()),
        Device::Serial(_) => no_port("serial"),
        Device::Parallel(_) => no_port("parallel"),
        Device::Console(_) => no_port("console"),
        Device::Channel(_) => no_port("channel"),
        Device::Redirdev(_) => state("no matching redirdev was not found"),
        Device::Watchdog(_) => state("no matching watchdog was found"),
        Device::Rng(r) => {
            // The reference's slip: it takes the number of the model for that of the backend.
            let backend = match r.model {
                RngModel::Virtio => "random",
                RngModel::Transitional => "egd",
                RngModel::NonTransitional => "builtin",
            };
            missing(format!("model '{backend}' RNG device not present in domain configuration"))
        }
        Device::Shmem(s) => {
            let model = s.model.map_or("ivshmem-plain", |m| m.as_str());
            missing(format!("model '{model}' shmem device not present in domain configuration"))
        }
        Device::Memory(m) => {
            missing(format!("model '{}' memory device not present in the domain configuration", m.model))
        }
        Device::Vsock(_) => missing("matching vsock device not found".into()),
        _ => error,
    }
}

fn no_port(kind: &str) -> Error {
    let text = format!("chr type '{kind}' device not present in domain configuration");
    Error::new(Code::DeviceMissing, From::Qemu, text)
}
