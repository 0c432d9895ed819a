//! Changing a device of a configuration.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::graphics::Graphics;

use super::attach::bus_of;
use super::{Device, missing};

/// Replaces the device that the document describes by the document. Places and names that it leaves out stay.
///
/// # Errors
/// Code 8 or 99 when there is no such device, code 84 for kinds that cannot be changed.
pub fn update(domain: &mut Domain, device: Device) -> Result<()> {
    let d = &mut domain.devices;
    match device {
        Device::Disk(mut disk) => {
            let dev = disk.target.dev.clone().unwrap_or_default();
            let old =
                d.disks.iter_mut().find(|o| o.target.dev.as_deref() == Some(&dev)).ok_or_else(|| {
                    Error::new(Code::InvalidArg, From::Qemu, format!("target {dev} doesn't exist."))
                })?;
            disk.target.bus.get_or_insert(bus_of(&dev));
            if disk.info.address.is_none() && disk.target.bus == old.target.bus {
                disk.info.address.clone_from(&old.info.address);
            }
            *old = *disk;
        }
        Device::Graphics(graphics) => {
            let kind = graphics.kind();
            let same = |o: &&mut Graphics| std::mem::discriminant(&**o) == std::mem::discriminant(&*graphics);
            let old = d.graphics.iter_mut().find(same).ok_or_else(|| {
                let text = format!("cannot find existing graphics type '{kind}' device to modify");
                Error::new(Code::InvalidArg, From::Qemu, text)
            })?;
            *old = *graphics;
        }
        Device::Interface(mut interface) => {
            let at = super::detach::find_interface(d, &interface)?;
            let old = &mut d.interfaces[at];
            if interface.mac.is_none() {
                interface.mac.clone_from(&old.mac);
            }
            if interface.info.address.is_none() {
                interface.info.address.clone_from(&old.info.address);
            }
            *old = *interface;
        }
        Device::Memory(memory) => {
            let same = |o: &&mut virt_model::domain::memory::MemoryDevice| {
                o.model == memory.model && super::same_place(&memory.info, &o.info)
            };
            let old = d.memories.iter_mut().find(same);
            *old.ok_or_else(|| missing("no memory device to modify was found"))? = *memory;
        }
        Device::Controller(_)
        | Device::Lease(_)
        | Device::Filesystem(_)
        | Device::Serial(_)
        | Device::Parallel(_)
        | Device::Console(_)
        | Device::Channel(_)
        | Device::Input(_)
        | Device::Sound(_)
        | Device::Hostdev(_)
        | Device::Redirdev(_)
        | Device::Watchdog(_)
        | Device::Rng(_)
        | Device::Shmem(_)
        | Device::Vsock(_)
        | Device::Fixed(_) => return Err(device.unsupported("update")),
    }
    Ok(())
}
