//! Defaults of disks: bus, address, format.

use virt_error::Result;

use super::target;
use super::types::{Address, Disk, DiskBus, DiskDevice, DiskSource, Domain, DriveAddress, ImageFormat};
use super::{unsupported, xml_error};

/// Fills in every disk's defaults and sorts the disks as the reference keeps them: by bus in order of appearance, then
/// by target.
pub fn complete(def: &mut Domain) -> Result<()> {
    for disk in &mut def.devices.disks {
        complete_disk(disk)?;
    }
    let mut buses: Vec<DiskBus> = Vec::new();
    for disk in &def.devices.disks {
        let bus = disk.target.bus.unwrap_or_default();
        if !buses.contains(&bus) {
            buses.push(bus);
        }
    }
    let rank = |d: &Disk| {
        let bus = d.target.bus.unwrap_or_default();
        let number = target::index(d.target.dev.as_deref().unwrap_or_default()).unwrap_or(u32::MAX);
        (buses.iter().position(|b| *b == bus), number)
    };
    def.devices.disks.sort_by_cached_key(rank);
    Ok(())
}

/// One disk: also used for a disk that is plugged in later.
pub fn complete_disk(disk: &mut Disk) -> Result<()> {
    let name = disk.target.dev.clone().unwrap_or_default();
    let bus = match disk.target.bus {
        Some(bus) => bus,
        None => default_bus(disk.device, &name),
    };
    disk.target.bus = Some(bus);
    if disk.device == DiskDevice::Cdrom {
        disk.readonly = true;
    }
    let known = target::index(&name).is_some();
    if !known && disk.info.address.is_none() {
        return Err(xml_error(format!("Unknown disk name '{name}' and no address specified")));
    }
    disk.driver.name.get_or_insert_with(|| "qemu".into());
    if disk.driver.format.is_none() {
        match &disk.source {
            DiskSource::Dir(_) => disk.driver.format = Some(ImageFormat::Fat),
            DiskSource::Volume(_) => {}
            _ => disk.driver.format = Some(ImageFormat::Raw),
        }
    }
    if disk.info.address.is_none() {
        disk.info.address = default_address(bus, &name);
    }
    move_common(disk)
}

/// Credentials and encryption belong to the image; older documents have them beside it.
fn move_common(disk: &mut Disk) -> Result<()> {
    if disk.encryption.is_some() && disk.source.common().encryption.is_some() {
        return Err(unsupported("an <encryption> definition already found for disk source"));
    }
    if disk.auth.is_some() && disk.source.common().auth.is_some() {
        return Err(xml_error("an <auth> definition already found for disk source"));
    }
    Ok(())
}

fn default_bus(device: DiskDevice, name: &str) -> DiskBus {
    if device == DiskDevice::Floppy {
        return DiskBus::Fdc;
    }
    match name.get(..2) {
        Some("hd") => DiskBus::Ide,
        Some("sd") => DiskBus::Scsi,
        Some("vd") => DiskBus::Virtio,
        Some("fd") => DiskBus::Fdc,
        _ if name.starts_with("xvd") => DiskBus::Xen,
        _ if name.starts_with("ubd") => DiskBus::Uml,
        _ => DiskBus::Ide,
    }
}

/// The place a target's number means on its bus.
pub fn default_address(bus: DiskBus, name: &str) -> Option<Address> {
    let n = target::index(name)?;
    let drive = match bus {
        // Unit 7 of a narrow bus is the controller itself.
        DiskBus::Scsi => DriveAddress { controller: n / 7, unit: n % 7, ..DriveAddress::default() },
        DiskBus::Ide => {
            DriveAddress { controller: n / 4, bus: n % 4 / 2, unit: n % 2, ..DriveAddress::default() }
        }
        DiskBus::Sata => DriveAddress { controller: n / 6, unit: n % 6, ..DriveAddress::default() },
        DiskBus::Fdc => DriveAddress { controller: n / 2, unit: n % 2, ..DriveAddress::default() },
        _ => return None,
    };
    Some(Address::Drive(drive))
}
