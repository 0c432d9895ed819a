//! The running document with one more device: completion decides about the new device only, and it gets names that no
//! other has.

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::address::Address;
use virt_model::domain::controller::{Controller, ControllerKind};
use virt_model::domain::info::DeviceInfo;
use virt_model::domain::memory::MemoryModel;

use crate::config::devices::{self, Device};
use crate::document::{alias, nodes};

/// `before` with what `completed` has more of the kind of `like`, and with controllers that it needs.
///
/// # Errors
/// Code 1 when it needs a bus that the guest does not have; code 3 when it needs a controller that cannot come later.
pub(super) fn graft(before: &Domain, completed: Domain, like: &Device) -> Result<Domain> {
    let mut new = before.clone();
    let is_new = |info: &DeviceInfo| {
        info.alias.is_none() || !devices::infos(&before.devices).any(|known| known.alias == info.alias)
    };
    let done = completed.devices;
    let to = &mut new.devices;
    macro_rules! extend {
        ($list:ident) => {
            to.$list.extend(done.$list.into_iter().filter(|x| is_new(&x.info)))
        };
    }
    match like {
        Device::Disk(_) => {
            for (at, disk) in done.disks.into_iter().enumerate().filter(|(_, d)| is_new(&d.info)) {
                to.disks.insert(at.min(to.disks.len()), disk);
            }
        }
        Device::Filesystem(_) => extend!(filesystems),
        Device::Interface(_) => extend!(interfaces),
        Device::Serial(_) => extend!(serials),
        Device::Parallel(_) => extend!(parallels),
        Device::Console(_) => extend!(consoles),
        Device::Channel(_) => extend!(channels),
        Device::Input(_) => extend!(inputs),
        Device::Hostdev(_) => extend!(hostdevs),
        Device::Redirdev(_) => extend!(redirdevs),
        Device::Watchdog(_) => extend!(watchdogs),
        Device::Rng(_) => extend!(rngs),
        Device::Shmem(_) => extend!(shmems),
        Device::Memory(_) => {
            extend!(memories);
            new.memory = completed.memory;
        }
        Device::Controller(_)
        | Device::Vsock(_)
        | Device::Lease(_)
        | Device::Sound(_)
        | Device::Graphics(_)
        | Device::Fixed(_) => {}
    }
    for controller in done.controllers.into_iter().filter(|c| is_new(&c.info)) {
        may_come(&controller, like)?;
        devices::attach(&mut new, Device::Controller(Box::new(controller)))?;
    }
    Ok(new)
}

/// Which controllers a running guest gets: the one that was asked for, and one for a SCSI disk.
fn may_come(controller: &Controller, like: &Device) -> Result<()> {
    let asked = matches!(like, Device::Controller(c) if c.kind == controller.kind);
    match controller.kind {
        _ if asked => Ok(()),
        ControllerKind::Scsi => Ok(()),
        ControllerKind::VirtioSerial => {
            Err(Error::internal(From::Domain, "no virtio-serial controllers are available"))
        }
        ControllerKind::Pci => Err(Error::internal(From::Domain, "No more available PCI slots")),
        _ => {
            let unsupported = Error::no_support(From::Qemu, "virDomainAttachDeviceFlags");
            Err(unsupported.with("controller", controller.kind.to_string()))
        }
    }
}

/// Gives what has no name one that no other has, and new images numbers.
pub(super) fn name_new(new: &mut Domain, before: &Domain) {
    let next_image = nodes::next_index(before);
    let names: Vec<String> = devices::infos(&before.devices).filter_map(|i| i.alias.clone()).collect();
    // One more than the highest in use, as in the reference.
    let next = |prefix: &str| {
        let numbers = names.iter().filter_map(|n| n.strip_prefix(prefix)?.parse::<u32>().ok());
        format!("{prefix}{}", numbers.max().map_or(0, |n| n.saturating_add(1)))
    };
    let d = &mut new.devices;
    for controller in d.controllers.iter_mut().filter(|c| c.info.alias.is_none()) {
        controller.info.alias = Some(format!("{}{}", controller.kind, controller.index.unwrap_or(0)));
    }
    let models: Vec<(u32, String)> = d
        .controllers
        .iter()
        .filter(|c| c.kind == ControllerKind::Scsi)
        .map(|c| (c.index.unwrap_or(0), c.model.clone().unwrap_or_default()))
        .collect();
    let known = |alias: &Option<String>| alias.as_ref().is_some_and(|a| names.contains(a));
    for disk in d.disks.iter_mut().filter(|d| !known(&d.info.alias)) {
        if disk.info.alias.is_none() {
            disk.info.alias = Some(alias::disk_alias(disk, &models));
        }
        if !disk.source.is_empty() {
            disk.source.common_mut().index = Some(next_image);
        }
    }
    macro_rules! name {
        ($($list:ident: $prefix:literal),*) => {$(
            for x in d.$list.iter_mut().filter(|x| x.info.alias.is_none()) {
                x.info.alias = Some(next($prefix));
            }
        )*};
    }
    name!(
        filesystems: "fs",
        interfaces: "net",
        serials: "serial",
        parallels: "parallel",
        consoles: "console",
        channels: "channel",
        inputs: "input",
        hostdevs: "hostdev",
        redirdevs: "redir",
        watchdogs: "watchdog",
        rngs: "rng",
        shmems: "shmem"
    );
    for memory in d.memories.iter_mut().filter(|m| m.info.alias.is_none()) {
        let prefix = match memory.model {
            MemoryModel::Dimm => "dimm",
            MemoryModel::Nvdimm => "nvdimm",
            MemoryModel::VirtioPmem => "virtiopmem",
            MemoryModel::VirtioMem => "virtiomem",
            MemoryModel::SgxEpc => "epc",
        };
        memory.info.alias = Some(match &memory.info.address {
            Some(Address::Dimm(a)) => format!("{prefix}{}", a.slot),
            _ => next(prefix),
        });
    }
}
