//! Which devices are PCI devices, and what each needs from a bus.

use super::bus::Connect;
use crate::document::machine;
use crate::document::types::{
    BalloonModel, Controller, ControllerKind, DeviceInfo, DiskBus, Domain, FsDriverType, Hostdev,
    HostdevModel, HostdevSource, InputBus, IommuModel, MemoryModel, PanicModel, RngModel, SerialTarget,
    SoundModel, VideoKind, VirtioModel, WatchdogModel,
};

/// What kinds of devices need on this machine.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    /// Conventional devices.
    pub pci: Connect,
    /// Express devices; conventional where there is no Express bus.
    pub pcie: Connect,
    /// virtio devices follow the bus; those with another home have their address before.
    pub virtio: Option<Connect>,
}

impl Needs {
    pub(super) fn of(machine_name: &str, arch: &str) -> Self {
        let pci = Connect::PCI.and(Connect::HOTPLUG);
        let express = machine::has_pcie_root(arch, machine_name);
        let pcie = if express { Connect::PCIE.and(Connect::HOTPLUG) } else { pci };
        Self { pci, pcie, virtio: Some(pcie) }
    }

    /// A device that only the root bus of an Express machine can carry.
    fn integrated(self) -> Connect {
        let cold = Connect(self.pcie.0 & !Connect::HOTPLUG.0);
        if self.pcie.any(Connect::PCIE) { cold.and(Connect::INTEGRATED) } else { cold }
    }

    fn variant(self, model: Option<VirtioModel>) -> Option<Connect> {
        match model {
            Some(VirtioModel::Transitional) => Some(self.pci),
            _ => self.virtio,
        }
    }
}

/// A device's own needs; `None` when it is no PCI device.
type Found<'a> = (&'a mut DeviceInfo, Connect);

fn card(model: Option<&str>, n: Needs) -> Option<Connect> {
    match model.unwrap_or("virtio") {
        "virtio" | "virtio-non-transitional" => n.virtio,
        "virtio-transitional" => Some(n.pci),
        "usb-net" | "spapr-vlan" | "lan9118" | "smc91c111" | "ne2k_isa" => None,
        "netfront" | "rtl8139" | "e1000" | "scm91c111" | "vlance" | "vmxnet" | "vmxnet2" | "vmxnet3"
        | "Am79C970A" | "Am79C973" | "82540EM" | "82545EM" | "82543GC" => Some(n.pci),
        // e1000e, igb, and what only QEMU knows.
        _ => Some(n.pcie),
    }
}

fn hostdev(dev: &Hostdev, n: Needs) -> Option<Connect> {
    match &dev.source {
        HostdevSource::Pci(s) => {
            let a = &s.address;
            let file = format!(
                "/sys/bus/pci/devices/{:04x}:{:02x}:{:02x}.{:x}/config",
                a.domain, a.bus, a.slot, a.function
            );
            // Express devices have 4 KiB of configuration; one that is not there counts as such.
            let conventional = std::fs::metadata(file).is_ok_and(|m| m.len() <= 256);
            Some(if conventional { n.pci } else { n.pcie })
        }
        HostdevSource::ScsiHost(_) => match dev.model {
            Some(HostdevModel::VirtioTransitional) => Some(n.pci),
            _ => n.virtio,
        },
        HostdevSource::Mdev(_) => match dev.model {
            Some(HostdevModel::VfioCcw | HostdevModel::VfioAp) => None,
            _ => Some(n.pcie),
        },
        _ => None,
    }
}

/// What a video card needs.
pub(super) fn video(kind: VideoKind, n: Needs) -> Option<Connect> {
    match kind {
        VideoKind::Virtio => n.virtio,
        VideoKind::Bochs => Some(n.pcie),
        VideoKind::None | VideoKind::Ramfb | VideoKind::Default => None,
        VideoKind::Gop => Some(Connect::default()),
        _ => Some(n.pci),
    }
}

/// What a controller that is no PCI controller needs.
pub(super) fn controller(c: &Controller, n: Needs) -> Option<Connect> {
    match c.kind {
        ControllerKind::Usb => match c.model.as_deref() {
            Some("none" | "qusb1" | "qusb2") => None,
            Some("nec-xhci" | "qemu-xhci") => Some(n.pcie),
            _ => Some(n.pci),
        },
        ControllerKind::Scsi => match c.model.as_deref() {
            Some("virtio-scsi" | "virtio-non-transitional") => n.virtio,
            Some("virtio-transitional") => Some(n.pci),
            Some("ibmvscsi" | "ncr53c90") => None,
            _ => Some(n.pci),
        },
        ControllerKind::VirtioSerial => match c.model.as_deref() {
            Some("virtio-transitional") => Some(n.pci),
            _ => n.virtio,
        },
        ControllerKind::Sata | ControllerKind::Ide => Some(n.pci),
        ControllerKind::Xenbus | ControllerKind::Isa => Some(Connect::default()),
        _ => None,
    }
}

/// Visits all PCI devices but PCI controllers, in the order in which the reference gives them addresses.
pub(super) fn visit<E>(
    def: &mut Domain,
    n: Needs,
    act: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
    controllers: &mut dyn FnMut(&mut Vec<Controller>) -> Result<(), E>,
) -> Result<(), E> {
    let d = &mut def.devices;
    for fs in &mut d.filesystems {
        let needs = if fs.driver.kind == Some(FsDriverType::Mtp) { None } else { n.variant(fs.model) };
        if let Some(needs) = needs {
            act((&mut fs.info, needs))?;
        }
    }
    for net in &mut d.interfaces {
        if let Some(needs) = card(net.model.as_deref(), n) {
            act((&mut net.info, needs))?;
        }
    }
    for sound in &mut d.sounds {
        let needs = match sound.model {
            SoundModel::Virtio => n.virtio,
            SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb => None,
            // A card of other hypervisors.
            SoundModel::Ich7 => Some(Connect::default()),
            _ => Some(n.pci),
        };
        if let Some(needs) = needs {
            act((&mut sound.info, needs))?;
        }
    }
    controllers(&mut d.controllers)?;
    for disk in d.disks.iter_mut().filter(|x| x.target.bus == Some(DiskBus::Virtio)) {
        if let Some(needs) = n.variant(disk.model) {
            act((&mut disk.info, needs))?;
        }
    }
    for dev in &mut d.hostdevs {
        if let Some(needs) = hostdev(dev, n) {
            act((&mut dev.info, needs))?;
        }
    }
    if let Some(balloon) = &mut d.memballoon {
        let needs = match balloon.model {
            BalloonModel::Virtio | BalloonModel::NonTransitional => n.virtio,
            BalloonModel::Transitional => Some(n.pci),
            BalloonModel::None => None,
            // Not of QEMU's, and no bus takes it.
            BalloonModel::Xen => Some(Connect::default()),
        };
        if let Some(needs) = needs {
            act((&mut balloon.info, needs))?;
        }
    }
    for rng in &mut d.rngs {
        let needs = if rng.model == RngModel::Transitional { Some(n.pci) } else { n.virtio };
        if let Some(needs) = needs {
            act((&mut rng.info, needs))?;
        }
    }
    for watchdog in d.watchdogs.iter_mut().filter(|w| w.model == WatchdogModel::I6300esb) {
        act((&mut watchdog.info, n.pci))?;
    }
    for video in &mut d.videos {
        let needs = self::video(video.model.kind, n);
        if let Some(needs) = needs {
            act((&mut video.info, needs))?;
        }
    }
    for shmem in &mut d.shmems {
        act((&mut shmem.info, n.pci))?;
    }
    for input in d.inputs.iter_mut().filter(|i| i.bus == Some(InputBus::Virtio)) {
        if let Some(needs) = n.variant(input.model) {
            act((&mut input.info, needs))?;
        }
    }
    for serial in d.serials.iter_mut().filter(|s| s.target.kind == Some(SerialTarget::Pci)) {
        act((&mut serial.info, n.pci))?;
    }
    if let Some(vsock) = &mut d.vsock
        && let Some(needs) = n.variant(vsock.model)
    {
        act((&mut vsock.info, needs))?;
    }
    for iommu in d.iommus.iter_mut().filter(|i| i.model == IommuModel::Virtio) {
        act((&mut iommu.info, n.integrated()))?;
    }
    for panic in d.panics.iter_mut().filter(|p| p.model == Some(PanicModel::Pvpanic)) {
        act((&mut panic.info, n.integrated()))?;
    }
    for memory in
        d.memories.iter_mut().filter(|m| matches!(m.model, MemoryModel::VirtioMem | MemoryModel::VirtioPmem))
    {
        if let Some(needs) = n.virtio {
            act((&mut memory.info, needs))?;
        }
    }
    for crypto in &mut d.cryptos {
        act((&mut crypto.info, n.pci))?;
    }
    if let Some(pstore) = &mut d.pstore {
        act((&mut pstore.info, n.pci))?;
    }
    Ok(())
}
