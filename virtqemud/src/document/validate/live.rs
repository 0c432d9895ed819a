//! What matters only when a guest is to run: a definition may still say it.

use std::path::Path;

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::info::each;
use virt_xml::At;

use super::{displays, ports, unsupported};
use crate::document::types::{
    Address, BalloonModel, ChannelTarget, CharBackend, Controller, ControllerKind, DeviceInfo, Devices,
    DiskBus, DiskSource, Domain, HostTransport, HostdevSource, NetSource, NetworkImage, NetworkProtocol,
    Placement, SerialTarget, SmbiosMode, Sysinfo,
};
use crate::document::{machine, xml_error};
use crate::emulator::Emulator;

/// Checks what a start needs of the emulator and of the host.
///
/// # Errors
/// Those of the reference: mostly 67, 27 for tables that are asked for and not given, 1 and 38 where the host lacks what
/// is needed.
pub fn check_live(def: &Domain, emulator: &Emulator) -> Result<()> {
    guest(def)?;
    devices(def, emulator)?;
    displays::check_live(def)
}

fn guest(def: &Domain) -> Result<()> {
    let auto = |p: Option<Placement>| p == Some(Placement::Auto);
    let advice = auto(def.vcpu.as_ref().and_then(|v| v.placement))
        || auto(def.numatune.memory.as_ref().and_then(|m| m.placement));
    if advice {
        // Nobody is asked yet where the host has room.
        let text = "Advice from numad is needed in case of automatic numa placement";
        return Err(Error::internal(From::Qemu, text)).within("/domain/vcpu");
    }
    let listed = def.sysinfo.iter().any(|s| matches!(s, Sysinfo::Smbios(_)));
    if def.os.smbios == Some(SmbiosMode::Sysinfo) && !listed {
        let name = def.name.as_deref().unwrap_or_default();
        return Err(xml_error(format!("Domain '{name}' sysinfo are not available")))
            .within("/domain/os/smbios");
    }
    let arch = def.os.kind.arch.as_deref().unwrap_or_default();
    if !def.keywrap.ciphers.is_empty() && arch != "s390x" {
        let text = "'aes-key-wrap'/'dea-key-wrap' is not available on this architecture";
        return Err(unsupported(text)).within("/domain/keywrap");
    }
    Ok(())
}

fn devices(def: &Domain, emulator: &Emulator) -> Result<()> {
    let d = &def.devices;
    each(&d.controllers, |c| {
        let old = c.kind == ControllerKind::Usb && c.model.as_deref() == Some("vt82c686b-uhci");
        if old && !emulator.has_type("vt82c686b-usb-uhci") {
            return Err(unsupported(
                "USB controller model 'vt82c686b-uhci' not supported in this QEMU binary",
            ));
        }
        Ok(())
    })?;
    virtio_places(def)?;
    each(&d.shmems, |shmem| {
        if !matches!(shmem.info.address, None | Some(Address::Pci(_))) {
            return Err(unsupported("only 'pci' addresses are supported for the shared memory device"));
        }
        Ok(())
    })?;
    each(&d.interfaces, |net| {
        if matches!(net.source, NetSource::Internal(_) | NetSource::Vds(_)) {
            return Err(unsupported("network device type is not supported by this version of qemu"));
        }
        Ok(())
    })?;
    each(&d.channels, |channel| {
        if matches!(channel.target, Some(ChannelTarget::Xen(_))) {
            return Err(unsupported("channel target type 'xen' is not supported by QEMU"));
        }
        Ok(())
    })?;
    if let Some((place, _)) = ports::backends(def).find(|(_, b)| matches!(b, CharBackend::Nmdm(_))) {
        return Err(unsupported("unsupported chardev 'nmdm'")).at(place);
    }
    let x86 = machine::is_x86(def.os.kind.arch.as_deref().unwrap_or_default());
    each(&d.serials, |serial| {
        if x86 && serial.target.kind == Some(SerialTarget::System) {
            return Err(Error::internal(From::Qemu, "Invalid target model for serial device"));
        }
        Ok(())
    })?;
    each(&d.disks, |disk| {
        if let Some(bus @ (DiskBus::Xen | DiskBus::Uml)) = disk.target.bus {
            let text = format!("unsupported disk bus '{bus}' with device setup");
            return Err(Error::internal(From::Qemu, text));
        }
        if let (Some(DiskBus::Scsi), Some(Address::Drive(at))) = (disk.target.bus, &disk.info.address)
            && at.unit > 7
            && is_lsilogic(d, at.controller)
        {
            return Err(unsupported("This QEMU doesn't support more than 8 units on 'lsilogic'"));
        }
        let DiskSource::Network(s) = &disk.source else { return Ok(()) };
        match s.protocol {
            NetworkProtocol::Vxhs => Err(unsupported("VxHS protocol is not supported with this QEMU binary")),
            _ => hosts(s),
        }
    })?;
    each(&d.hostdevs, |host| match &host.source {
        HostdevSource::ScsiHost(_) if !Path::new(VHOST_SCSI).exists() => {
            Err(unsupported(format!("vhost-scsi device file '{VHOST_SCSI}' cannot be found")))
        }
        _ => Ok(()),
    })?;
    each(&d.sounds, |_| {
        if d.audios.is_empty() {
            let text = "unable to find audio backend for sound device";
            return Err(Error::new(Code::InternalError, From::Qemu, text));
        }
        Ok(())
    })
}

/// Virtio devices sit on PCI, on IBM Z's channels or on a board's own bus.
fn virtio_places(def: &Domain) -> Result<()> {
    let d = &def.devices;
    let fits = |info: &DeviceInfo, what: &str| match &info.address {
        None | Some(Address::Pci(_) | Address::Ccw(_) | Address::VirtioMmio | Address::Unassigned) => Ok(()),
        Some(_) => {
            Err(Error::internal(From::Qemu, format!("Unexpected address type for '{what}'"))).at(info.place)
        }
    };
    for c in &d.controllers {
        match c.kind {
            ControllerKind::Scsi if c.model.as_deref().is_some_and(|m| m.starts_with("virtio")) => {
                fits(&c.info, "virtio-scsi")?;
            }
            ControllerKind::VirtioSerial => fits(&c.info, "virtio-serial")?,
            _ => {}
        }
    }
    d.rngs.iter().try_for_each(|r| fits(&r.info, "virtio-rng"))?;
    d.memballoon
        .iter()
        .filter(|b| b.model != BalloonModel::None)
        .try_for_each(|b| fits(&b.info, "virtio-balloon"))
}

/// How many hosts each protocol takes, and how they are reached.
fn hosts(s: &NetworkImage) -> Result<()> {
    use NetworkProtocol as P;
    let refuse = |text: String| Err(Error::internal(From::Qemu, text));
    let plain = s.hosts.iter().all(|h| matches!(h.transport, None | Some(HostTransport::Tcp)));
    let rdma = s.hosts.iter().any(|h| h.transport == Some(HostTransport::Rdma));
    let several = s.hosts.len() != 1;
    match s.protocol {
        P::Iscsi if several => refuse("iSCSI protocol accepts only one host".into()),
        P::Nbd | P::Ssh if several => refuse(format!("{} protocol accepts only one host", s.protocol)),
        P::Http | P::Https | P::Ftp | P::Ftps | P::Tftp if several => {
            refuse(format!("protocol '{}' accepts only one host", s.protocol))
        }
        P::Rbd | P::Ssh if !plain => refuse("only TCP protocol can be converted to InetSocketAddress".into()),
        P::Nbd | P::Gluster if rdma => refuse("transport protocol 'rdma' is not yet supported".into()),
        _ => Ok(()),
    }
}

/// The kernel's side of vhost-scsi.
const VHOST_SCSI: &str = "/dev/vhost-scsi";

fn is_lsilogic(devices: &Devices, index: u32) -> bool {
    let is = |c: &Controller| {
        c.kind == ControllerKind::Scsi && c.index == Some(index) && c.model.as_deref() == Some("lsilogic")
    };
    devices.controllers.iter().any(is)
}
