//! Putting a device into a configuration.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::controller::Controller;
use virt_model::domain::disk::{Disk, DiskBus};

use super::{Device, disk_order, invalid_state};

/// Adds the device.
///
/// # Errors
/// Code 55 when it clashes with one that is there, code 84 for kinds that cannot be added.
pub fn attach(domain: &mut Domain, device: Device) -> Result<()> {
    let d = &domain.devices;
    let twin = match &device {
        Device::Watchdog(watchdog) => d.watchdogs.iter().any(|w| w.model == watchdog.model),
        Device::Shmem(shmem) => d.shmems.iter().any(|s| s.name == shmem.name),
        _ => false,
    };
    if twin {
        return Err(invalid_state("device is already in the domain configuration"));
    }
    attach_unchecked(domain, device)
}

/// The same where a second one of its kind is welcome: a running guest may have several watchdogs, and ways into one
/// shared memory.
///
/// # Errors
/// As [`attach`].
pub fn attach_unchecked(domain: &mut Domain, device: Device) -> Result<()> {
    let d = &mut domain.devices;
    match device {
        Device::Disk(disk) => return attach_disk(domain, *disk),
        Device::Controller(controller) => return attach_controller(&mut d.controllers, *controller),
        Device::Lease(lease) => {
            if d.leases.iter().any(|l| (&l.lockspace, &l.key) == (&lease.lockspace, &lease.key)) {
                return Err(invalid_state(super::detach::lease_text(&lease, "already exists")));
            }
            d.leases.push(lease);
        }
        Device::Filesystem(fs) => {
            if d.filesystems.iter().any(|f| f.target == fs.target) {
                return Err(invalid_state("Target already exists"));
            }
            d.filesystems.push(*fs);
        }
        Device::Interface(interface) => d.interfaces.push(*interface),
        Device::Serial(serial) => d.serials.push(*serial),
        Device::Parallel(parallel) => d.parallels.push(*parallel),
        Device::Console(console) => d.consoles.push(*console),
        Device::Channel(channel) => {
            if d.channels.iter().any(|c| c.same_target(&channel)) {
                return Err(invalid_state("chardev already exists"));
            }
            d.channels.push(*channel);
        }
        Device::Input(input) => d.inputs.push(input),
        Device::Sound(sound) => d.sounds.push(*sound),
        Device::Hostdev(hostdev) => {
            if d.hostdevs.iter().any(|h| h.source == hostdev.source) {
                return Err(invalid_state("device is already in the domain configuration"));
            }
            d.hostdevs.push(*hostdev);
        }
        Device::Redirdev(redirdev) => d.redirdevs.push(*redirdev),
        Device::Watchdog(watchdog) => d.watchdogs.push(watchdog),
        Device::Rng(rng) => d.rngs.push(*rng),
        Device::Shmem(shmem) => d.shmems.push(*shmem),
        Device::Memory(memory) => d.memories.push(*memory),
        Device::Vsock(vsock) => {
            if d.vsock.is_some() {
                return Err(invalid_state("domain already has a vsock device"));
            }
            d.vsock = Some(vsock);
        }
        Device::Graphics(_) | Device::Fixed(_) => return Err(device.unsupported("attach")),
    }
    Ok(())
}

fn attach_disk(domain: &mut Domain, mut disk: Disk) -> Result<()> {
    let dev = disk.target.dev.clone().unwrap_or_default();
    if domain.devices.disks.iter().any(|d| d.target.dev.as_deref() == Some(&dev)) {
        return Err(invalid_state(format!("target {dev} already exists")));
    }
    let group = disk.iotune.group_name.as_deref();
    if let Some(group) = group
        && domain
            .devices
            .disks
            .iter()
            .any(|d| d.iotune.group_name.as_deref() == Some(group) && d.iotune != disk.iotune)
    {
        let text = format!("different iotune settings for group '{group}'");
        return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
    }
    // The bus decides the place in the list, so it is settled before the document is completed.
    disk.target.bus.get_or_insert(bus_of(&dev));
    disk_order::insert(&mut domain.devices.disks, disk);
    Ok(())
}

/// The bus that a target name stands for when the document names none.
pub fn bus_of(dev: &str) -> DiskBus {
    match dev.get(..2) {
        Some("fd") => DiskBus::Fdc,
        Some("sd") => DiskBus::Scsi,
        Some("vd") => DiskBus::Virtio,
        Some("xv") => DiskBus::Xen,
        Some("ub") => DiskBus::Uml,
        _ => DiskBus::Ide,
    }
}

fn attach_controller(controllers: &mut Vec<Controller>, mut controller: Controller) -> Result<()> {
    let same_kind = |c: &Controller| c.kind == controller.kind;
    let taken = |index: u32| controllers.iter().any(|c| same_kind(c) && c.index == Some(index));
    match controller.index {
        Some(index) if taken(index) => {
            return Err(invalid_state(format!("controller index='{index}' already exists")));
        }
        Some(_) => {}
        // The first that is free, as in the reference.
        None => controller.index = (0..=u32::MAX).find(|n| !taken(*n)),
    }
    let before = |c: &Controller| same_kind(c) && c.index <= controller.index;
    let after_last = controllers.iter().rposition(before).map(|at| at + 1);
    let at = after_last.or_else(|| controllers.iter().position(same_kind)).unwrap_or(controllers.len());
    controllers.insert(at, controller);
    Ok(())
}
