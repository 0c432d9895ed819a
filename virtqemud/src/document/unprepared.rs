//! What a start would have to prepare outside QEMU and this daemon does not yet. Refused with the device's name, before
//! anything is made: a line with a placeholder in it must never be run.

use virt_error::{Code, Domain as From, Error, Result};

use super::types::{
    Domain, Filesystem, FsDriverType, FsSource, Graphics, HostdevSource, Interface, NetBackendKind,
    NetSource, TpmBackend,
};

/// Errors with code 67 for the first device that needs something prepared.
pub fn refuse(live: &Domain) -> Result<()> {
    let devices = &live.devices;
    let refuse = |what: &str| {
        Err(Error::new(
            Code::ConfigUnsupported,
            From::Qemu,
            format!("{what} cannot be started yet by this driver"),
        ))
    };
    if devices.vsock.is_some() {
        return refuse("a guest with a vsock device");
    }
    if devices.hostdevs.iter().any(|d| matches!(d.source, HostdevSource::ScsiHost(_))) {
        return refuse("a guest with a vhost-scsi host device");
    }
    if devices.tpms.iter().any(|t| matches!(t.backend, Some(TpmBackend::Emulator(_)))) {
        return refuse("a guest with an emulated TPM");
    }
    let own_daemon = |fs: &Filesystem| {
        let socket = matches!(&fs.source, FsSource::Mount(m) if m.socket.is_some());
        fs.driver.kind == Some(FsDriverType::Virtiofs) && !socket
    };
    if devices.filesystems.iter().any(own_daemon) {
        return refuse("a virtiofs file system without the socket of a running virtiofsd");
    }
    let passt = |net: &Interface| {
        matches!(net.source, NetSource::User(_)) && net.backend.kind == Some(NetBackendKind::Passt)
    };
    if devices.interfaces.iter().any(passt) {
        return refuse("a network card with the passt backend");
    }
    let own_bus = |g: &Graphics| matches!(g, Graphics::Dbus(g) if g.p2p != Some(true) && g.address.is_none());
    if devices.graphics.iter().any(own_bus) {
        return refuse("a D-Bus display without the address of a bus");
    }
    if live.memory_backing.hugepages.is_some() {
        return refuse("a guest with huge pages");
    }
    if live.launch_security.is_some() {
        return refuse("a guest with launch security");
    }
    if devices.disks.iter().any(|d| d.transient.is_some()) {
        return refuse("a guest with a transient disk");
    }
    if !devices.leases.is_empty() {
        return refuse("a guest with a lease, which needs a lock manager,");
    }
    if !live.cputune.cachetunes.is_empty() || !live.cputune.memorytunes.is_empty() {
        return refuse("a guest with cache or memory bandwidth allocation");
    }
    Ok(())
}
