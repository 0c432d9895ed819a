//! What QEMU's driver adds to a disk.

use super::types::{Disk, DiskSource, Domain, ImageFormat};

/// Fills in every disk's driver and format.
pub fn complete(def: &mut Domain) {
    for disk in &mut def.devices.disks {
        complete_disk(disk);
    }
}

/// One disk: also used for a disk that is plugged in later.
pub fn complete_disk(disk: &mut Disk) {
    disk.driver.name.get_or_insert_with(|| "qemu".into());
    if disk.driver.format.is_none() {
        disk.driver.format = match &disk.source {
            DiskSource::Dir(_) => Some(ImageFormat::Fat),
            // A volume's format is its pool's to tell.
            DiskSource::Volume(_) => None,
            _ => Some(ImageFormat::Raw),
        };
    }
}
