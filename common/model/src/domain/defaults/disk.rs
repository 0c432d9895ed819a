//! What a disk's name says about its bus and its place there.

use virt_error::Error;
use virt_xml::At;

use super::super::address::{Address, DriveAddress};
use super::super::disk::{Disk, DiskBus, DiskDevice, SnapshotLocation, Tray};
use super::super::hostdev::HostdevSource;
use super::super::source::{DiskSource, EncryptionEngine, HostTransport, NetworkHost, NetworkProtocol};
use super::super::{Domain, VirtType};
use super::xml_error;

/// Prefixes of disk names.
const PREFIXES: &[&str] = &["fd", "hd", "vd", "sd", "xvd", "ubd"];

/// `sda` is 0, `sdz` 25, `sdaa` 26. Digits at the end (a partition) are passed over. `None` for other names.
pub fn disk_index(name: &str) -> Option<u32> {
    let rest = PREFIXES.iter().find_map(|p| name.strip_prefix(p))?;
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let mut index: u32 = 0;
    for (i, b) in letters.bytes().enumerate() {
        index = index.checked_add(u32::from(i > 0))?.checked_mul(26)?.checked_add(u32::from(b - b'a'))?;
    }
    Some(index)
}

/// The place on its bus that a disk's number gives, for buses where disks have one. `wide` SCSI buses have 15 units.
pub fn drive_place(bus: DiskBus, index: u32, wide: bool) -> Option<DriveAddress> {
    let at = |controller, bus, unit| Some(DriveAddress { controller, bus, unit, ..DriveAddress::default() });
    match bus {
        DiskBus::Scsi if wide => {
            let unit = index % 15;
            at(index / 15, 0, if unit >= 7 { unit + 1 } else { unit })
        }
        DiskBus::Scsi => at(index / 7, 0, index % 7),
        DiskBus::Ide => at(index / 4, index % 4 / 2, index % 2),
        DiskBus::Sata => at(index / 6, 0, index % 6),
        DiskBus::Fdc => at(index / 2, 0, index % 2),
        _ => None,
    }
}

/// The bus a disk's name stands for.
fn bus_of(disk: &Disk) -> DiskBus {
    if disk.device == DiskDevice::Floppy {
        return DiskBus::Fdc;
    }
    let name = disk.target.dev.as_deref().unwrap_or_default();
    let known = [
        ("hd", DiskBus::Ide),
        ("sd", DiskBus::Scsi),
        ("vd", DiskBus::Virtio),
        ("xvd", DiskBus::Xen),
        ("ubd", DiskBus::Uml),
    ];
    known.iter().find(|(p, _)| name.starts_with(p)).map_or(DiskBus::Ide, |(_, bus)| *bus)
}

pub(super) fn complete(d: &mut Domain) -> Result<(), Error> {
    let taken: Vec<DriveAddress> = d
        .devices
        .hostdevs
        .iter()
        .filter(|h| matches!(h.source, HostdevSource::Scsi(_)))
        .filter_map(|h| match &h.info.address {
            Some(Address::Drive(a)) => Some(a.clone()),
            _ => None,
        })
        .collect();
    let wide = d.virt_type == VirtType::Vmware;
    // Before buses are guessed: disks that name none stand together.
    let disks = std::mem::take(&mut d.devices.disks);
    disks.into_iter().for_each(|disk| add_disk(&mut d.devices.disks, disk));
    for disk in &mut d.devices.disks {
        let bus = match disk.target.bus {
            Some(bus) if bus != DiskBus::None => bus,
            _ => bus_of(disk),
        };
        disk.target.bus = Some(bus);
        if disk.device == DiskDevice::Cdrom {
            disk.readonly = true;
        }
        if disk.readonly && disk.snapshot == Some(SnapshotLocation::No) {
            // As if nothing was said.
            disk.snapshot = None;
        }
        if matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy)
            && disk.source.is_empty()
            && matches!(disk.source, DiskSource::Network(_))
        {
            disk.source = DiskSource::default();
        }
        if matches!(disk.source, DiskSource::VhostUser(_)) {
            disk.snapshot.get_or_insert(SnapshotLocation::No);
        }
        image(disk);
        if disk.target.tray == Some(Tray::Closed) {
            disk.target.tray = None;
        }
        if disk.info.address.is_some() {
            continue;
        }
        let Some(name) = disk.target.dev.as_deref() else { continue };
        let Some(index) = disk_index(name) else {
            let text = format!("Unknown disk name '{name}' and no address specified");
            return Err(xml_error(text)).at(disk.info.place);
        };
        let place = (index..).find_map(|i| {
            let place = drive_place(bus, i, wide);
            let same = |p: &DriveAddress| {
                taken.iter().any(|t| {
                    t.controller == p.controller && t.bus == p.bus && t.target == p.target && t.unit == p.unit
                })
            };
            match place {
                Some(p) if bus == DiskBus::Scsi && same(&p) => None,
                place => Some(place),
            }
        });
        disk.info.address = place.flatten().map(Address::Drive);
    }
    Ok(())
}

/// Who decrypts, and the ports of servers that name none.
fn image(disk: &mut Disk) {
    for encryption in disk.encryption.iter_mut().chain(&mut disk.source.common_mut().encryption) {
        encryption.engine.get_or_insert(EncryptionEngine::Qemu);
    }
    if let DiskSource::Nvme(n) = &mut disk.source {
        n.managed.get_or_insert(true);
    }
    if let DiskSource::Network(n) = &mut disk.source {
        if let (NetworkProtocol::Iscsi, Some(name)) = (n.protocol, &mut n.name)
            && !name.contains('/')
        {
            name.push_str("/0");
        }
        let port = n.protocol.default_port();
        let tcp = |h: &&mut NetworkHost| matches!(h.transport, None | Some(HostTransport::Tcp));
        for host in n.hosts.iter_mut().filter(tcp) {
            host.port = host.port.or(port);
        }
    }
}

/// Adds a disk at its place: disks of one bus stand together, in the order of their names.
pub fn add_disk(disks: &mut Vec<Disk>, disk: Disk) {
    let bus = disk.target.bus;
    let index = |d: &Disk| d.target.dev.as_deref().and_then(disk_index);
    let new = index(&disk);
    let mut at = None;
    for (i, other) in disks.iter().enumerate().rev().filter(|(_, o)| o.target.bus == bus) {
        if index(other) > new {
            at = Some(i);
        } else {
            // Disks of one bus are in order: nothing before this one can be larger.
            at = at.or(Some(i + 1));
            break;
        }
    }
    disks.insert(at.unwrap_or(disks.len()), disk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_as_the_reference_counts() {
        for (name, index) in
            [("sda", 0), ("vdz", 25), ("hdaa", 26), ("sdba", 52), ("xvdaaa", 702), ("vdb1", 1)]
        {
            assert_eq!(disk_index(name), Some(index), "{name}");
        }
        for name in ["foo", "sd", "sdA", "sd1", "hdaxxxxxxxxxx"] {
            assert_eq!(disk_index(name), None, "{name}");
        }
    }

    #[test]
    fn places_follow_the_bus() {
        let place = |bus, i| drive_place(bus, i, false).map(|a| (a.controller, a.bus, a.unit));
        assert_eq!(place(DiskBus::Scsi, 8), Some((1, 0, 1)));
        assert_eq!(place(DiskBus::Ide, 2), Some((0, 1, 0)));
        assert_eq!(place(DiskBus::Sata, 7), Some((1, 0, 1)));
        assert_eq!(place(DiskBus::Virtio, 0), None);
    }
}
