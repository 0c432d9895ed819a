//! What a start would have to prepare outside QEMU and this daemon does not yet. Refused with the device's name, before
//! anything is made: a line with a placeholder in it must never be run.

use virt_error::{Code, Domain as From, Error, Result};

use super::types::{
    Disk, Domain, Filesystem, FsDriverType, FsSource, Graphics, HostdevSource, Interface, LaunchSecurity,
    NetBackendKind, NetSource, Tpm, TpmBackend,
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
    let special = |t: &Tpm| {
        matches!(&t.backend, Some(TpmBackend::Emulator(e))
            if e.encryption.is_some() || e.source.is_some() || e.profile.is_some())
    };
    if devices.tpms.iter().any(special) {
        return refuse("an emulated TPM with an encrypted state, a place or a profile of its own");
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
    let owner = |s: &LaunchSecurity| matches!(s, LaunchSecurity::Sev(s) if s.dh_cert.is_some() || s.session.is_some());
    if live.launch_security.as_ref().is_some_and(owner) {
        return refuse("a guest with a certificate or session of its owner's");
    }
    if devices.disks.iter().any(|d| d.transient.is_some()) {
        return refuse("a guest with a transient disk");
    }
    let helper = |d: &Disk| d.source.common().reservations.as_ref().is_some_and(|r| r.managed);
    if devices.disks.iter().any(helper) {
        return refuse("a disk whose reservations the driver is to manage");
    }
    if !devices.leases.is_empty() {
        return refuse("a guest with a lease, which needs a lock manager,");
    }
    if !live.cputune.cachetunes.is_empty() || !live.cputune.memorytunes.is_empty() {
        return refuse("a guest with cache or memory bandwidth allocation");
    }
    Ok(())
}
