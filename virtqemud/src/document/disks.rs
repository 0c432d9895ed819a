//! What QEMU's driver adds to a disk.

use super::types::{
    Disk, DiskDevice, DiskSource, Domain, EncryptionEngine, HostTransport, ImageFormat, NetworkImage,
    NetworkProtocol, SnapshotLocation,
};

/// Fills in every disk's driver and format.
pub fn complete(def: &mut Domain) {
    for disk in &mut def.devices.disks {
        complete_disk(disk);
    }
}

/// One disk: also used for a disk that is plugged in later.
pub fn complete_disk(disk: &mut Disk) {
    disk.driver.name.get_or_insert_with(|| "qemu".into());
    if matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy)
        && disk.source.is_empty()
        && matches!(disk.source, DiskSource::Network(_))
    {
        disk.source = DiskSource::default();
    }
    if matches!(disk.source, DiskSource::VhostUser(_)) {
        disk.snapshot.get_or_insert(SnapshotLocation::No);
    }
    if let DiskSource::Network(s) = &mut disk.source {
        network(s);
    }
    let inner = disk.source.common_mut().encryption.as_mut();
    for encryption in inner.into_iter().chain(disk.encryption.as_mut()) {
        encryption.engine.get_or_insert(EncryptionEngine::Qemu);
    }
    if disk.driver.format.is_none() {
        disk.driver.format = match &disk.source {
            // A volume's format is its pool's to tell.
            DiskSource::Volume(_) => None,
            _ => Some(ImageFormat::Raw),
        };
    }
}

/// Ports and units that a network image leaves to its protocol.
fn network(s: &mut NetworkImage) {
    let port = match s.protocol {
        NetworkProtocol::Http => Some(80),
        NetworkProtocol::Https => Some(443),
        NetworkProtocol::Ftp => Some(21),
        NetworkProtocol::Ftps => Some(990),
        NetworkProtocol::Tftp => Some(69),
        NetworkProtocol::Ssh => Some(22),
        NetworkProtocol::Nbd => Some(10809),
        NetworkProtocol::Iscsi => Some(3260),
        NetworkProtocol::Gluster => Some(24007),
        NetworkProtocol::Sheepdog => Some(7000),
        NetworkProtocol::Vxhs => Some(9999),
        NetworkProtocol::Rbd | NetworkProtocol::Nfs | NetworkProtocol::None => None,
    };
    for host in s.hosts.iter_mut().filter(|h| h.transport.unwrap_or(HostTransport::Tcp) == HostTransport::Tcp)
    {
        host.port = host.port.or(port);
    }
    if s.protocol == NetworkProtocol::Iscsi
        && let Some(name) = &mut s.name
    {
        first_unit(name);
    }
}

/// An iSCSI target without a unit means its unit 0.
pub(super) fn first_unit(name: &mut String) {
    if !name.contains('/') {
        name.push_str("/0");
    }
}
