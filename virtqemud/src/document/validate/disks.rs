//! Disks that QEMU cannot have.

use std::collections::BTreeSet;

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::info::each;

use super::{Checker, unsupported};
use crate::document::machine;
use crate::document::types::{
    Address, ControllerKind, Disk, DiskBus, DiskCache, DiskDevice, DiskIo, DiskSource, EncryptionEngine,
    GeometryTrans, HostTransport, ImageFormat, NetworkProtocol, QueueMapping,
};

impl Checker<'_> {
    /// USB disks sit on USB ports.
    pub(super) fn usb_disks(&self) -> Result<()> {
        each(self.def.devices.disks.iter().filter(|d| d.target.bus == Some(DiskBus::Usb)), |disk| {
            if !matches!(disk.info.address, None | Some(Address::Usb(_))) {
                return Err(Error::internal(From::Qemu, "unexpected address type for usb disk"));
            }
            Ok(())
        })?;
        Ok(())
    }

    pub(super) fn disks(&self) -> Result<()> {
        each(&self.def.devices.disks, |disk| {
            self.disk(disk)?;
            Ok(())
        })?;
        Ok(())
    }

    fn scsi_is_lsi(&self, index: u32) -> bool {
        self.def.devices.controllers.iter().any(|c| {
            c.kind == ControllerKind::Scsi && c.index == Some(index) && c.model.as_deref() == Some("lsilogic")
        })
    }

    fn disk(&self, disk: &Disk) -> Result<()> {
        let name = disk.target.dev.as_deref().unwrap_or_default();
        let bus = disk.target.bus.unwrap_or_default();
        if virt_model::domain::defaults::disk_index(name).is_none() {
            return Err(unsupported(format!("invalid disk target '{name}'")));
        }
        if is_partition(name) {
            return Err(unsupported(format!(
                "invalid disk target '{name}', partitions can't appear in disk targets"
            )));
        }
        let drive = matches!(bus, DiskBus::Ide | DiskBus::Sata) && disk.device == DiskDevice::Disk;
        if drive && disk.readonly {
            return Err(unsupported(format!("readonly {bus} disks are not supported")));
        }
        if let Some(Address::Drive(a)) = &disk.info.address {
            if bus == DiskBus::Ide && a.controller > 0 && machine::has_builtin_ide(self.machine) {
                return Err(Error::internal(From::Qemu, "Only 1 IDE controller is supported"));
            }
            if bus == DiskBus::Scsi && a.bus == 0 && a.target != 0 && self.scsi_is_lsi(a.controller) {
                return Err(unsupported("target must be 0 for controller model 'lsilogic'"));
            }
        }
        if let DiskSource::Network(s) = &disk.source {
            match s.protocol {
                NetworkProtocol::Tftp => {
                    return Err(unsupported("'tftp' protocol is not supported with this QEMU binary"));
                }
                NetworkProtocol::Nfs => {
                    let [host] = &s.hosts[..] else {
                        return Err(unsupported("'nfs' protocol requires the usage of exactly one host"));
                    };
                    if host.transport.is_some_and(|t| t != HostTransport::Tcp) {
                        return Err(unsupported("'nfs' host must use TCP protocol"));
                    }
                    if host.port.is_some_and(|p| p != 0) {
                        return Err(unsupported("port cannot be specified in 'nfs' protocol host"));
                    }
                }
                _ => {}
            }
        }
        let encryption = disk.encryption.as_ref().or(disk.source.common().encryption.as_ref());
        if encryption.is_some_and(|e| e.engine != Some(EncryptionEngine::Librbd) && e.secrets.len() > 1) {
            return Err(unsupported("qemu encryption engine expects only a single secret"));
        }
        self.disk_bus(disk, bus, name)?;
        image_format(disk)?;
        let d = &disk.driver;
        if d.name.as_deref().is_some_and(|n| n != "qemu") {
            let driver = d.name.clone().unwrap_or_default();
            return Err(unsupported(format!("unsupported driver name '{driver}' for disk '{name}'")));
        }
        if disk.shareable && !disk.readonly && d.format != Some(ImageFormat::Raw) && !disk.source.is_empty() {
            return Err(unsupported(format!(
                "shared access for disk '{name}' requires use of supported storage format"
            )));
        }
        if d.io == Some(DiskIo::Native)
            && !matches!(d.cache.unwrap_or_default(), DiskCache::None | DiskCache::Directsync)
        {
            return Err(unsupported("io='native' needs either no disk cache or directsync cache mode"));
        }
        if d.discard_no_unref == Some(true) && d.format != Some(ImageFormat::Qcow2) {
            return Err(unsupported("'discard_no_unref' only works with qcow2 disk format"));
        }
        if d.metadata_cache.max_size.is_some() && d.format != Some(ImageFormat::Qcow2) {
            return Err(unsupported("metadata cache max size control is supported only with qcow2 images"));
        }
        if d.copy_on_read == Some(true) && disk.device == DiskDevice::Floppy {
            return Err(unsupported(format!("copy_on_read is not supported with removable disk '{name}'")));
        }
        if d.copy_on_read == Some(true) && disk.readonly {
            return Err(unsupported(format!("copy_on_read is not compatible with read-only disk '{name}'")));
        }
        if let Some(id) = d.iothread {
            if bus != DiskBus::Virtio {
                return Err(unsupported(format!("IOThreads not available for bus {bus} target {name}")));
            }
            self.iothread(id, "Disk")?;
        }
        if !d.iothreads.iothreads.is_empty() && bus != DiskBus::Virtio {
            return Err(unsupported(format!("IOThreads not available for bus {bus} target {name}")));
        }
        self.mapping(&d.iothreads, d.queues)?;
        if matches!(disk.source, DiskSource::VhostUser(_)) {
            self.vhost_user_disk(disk, bus, name)?;
        }
        if disk.device == DiskDevice::Cdrom && matches!(bus, DiskBus::Virtio | DiskBus::Sd) {
            return Err(unsupported(format!("disk type of '{name}' does not support ejectable media")));
        }
        if disk.device == DiskDevice::Floppy && bus != DiskBus::Fdc {
            return Err(unsupported(format!("unexpected bus type '{bus}' for floppy disk '{name}'")));
        }
        if bus == DiskBus::Usb && disk.source.is_empty() {
            return Err(unsupported("'usb' disk must not be empty"));
        }
        self.identity(disk, bus)?;
        drive_address(disk, bus)?;
        if let (DiskBus::Scsi, Some(Address::Drive(a))) = (bus, &disk.info.address) {
            self.scsi_place(a)?;
        }
        if disk.throttlefilters.filters.iter().any(|f| !self.has_group(&f.group)) {
            return Err(unsupported(format!("throttle group for disk '{name}' was not defined")));
        }
        Ok(())
    }

    /// The old parallel controller has one bus of single-unit targets.
    pub(super) fn scsi_place(&self, a: &crate::document::types::DriveAddress) -> Result<()> {
        if a.bus != 0 {
            return Err(Error::internal(From::Qemu, "SCSI controller only supports 1 bus"));
        }
        let controllers = &self.def.devices.controllers;
        let model = controllers
            .iter()
            .find(|c| c.kind == ControllerKind::Scsi && c.index == Some(a.controller))
            .and_then(|c| c.model.as_deref())
            .unwrap_or_default();
        if model == "lsilogic" && a.target != 0 {
            return Err(unsupported("target must be 0 for controller model 'lsilogic'"));
        }
        Ok(())
    }

    fn has_group(&self, name: &str) -> bool {
        self.def.throttlegroups.groups.iter().any(|g| g.group_name.as_deref() == Some(name))
    }

    pub(super) fn iothread(&self, id: u32, what: &str) -> Result<()> {
        if self.def.iothread_ids().contains(&id) {
            return Ok(());
        }
        Err(unsupported(format!("{what} iothread '{id}' not defined in iothreadid")))
    }

    /// Each I/O thread once and each queue once; either all threads name their queues or none does.
    pub(super) fn mapping(&self, map: &QueueMapping, count: Option<u32>) -> Result<()> {
        if map.iothreads.iter().any(|t| !t.queues.is_empty()) && count.is_none() {
            return Err(unsupported(
                "'queue' count must be configured for explicit iothread to queue mapping",
            ));
        }
        let mut queues = BTreeSet::new();
        for (i, thread) in map.iothreads.iter().enumerate() {
            let id = thread.id;
            if !self.def.iothread_ids().contains(&id) {
                return Err(unsupported(format!("iothread '{id}' not defined in iothreadid")));
            }
            if map.iothreads[..i].iter().any(|t| t.id == id) {
                return Err(unsupported(format!("duplicate mapping for iothread '{id}'")));
            }
            if thread.queues.is_empty() != map.iothreads[0].queues.is_empty() {
                return Err(unsupported(
                    "iothread to queue mapping must be provided for all iothreads or for none",
                ));
            }
            if let Some(queue) = thread.queues.iter().find(|q| count.is_some_and(|c| q.id >= c)) {
                return Err(unsupported(format!("iothread queue '{}' mapping out of range", queue.id)));
            }
            if let Some(queue) = thread.queues.iter().find(|q| !queues.insert(q.id)) {
                return Err(unsupported(format!("iothread queue '{}' is already assigned", queue.id)));
            }
        }
        let missing = (0..count.unwrap_or(0)).find(|q| !queues.is_empty() && !queues.contains(q));
        if let Some(queue) = missing {
            return Err(unsupported(format!("missing iothread mapping for queue '{queue}'")));
        }
        Ok(())
    }

    fn disk_bus(&self, disk: &Disk, bus: DiskBus, name: &str) -> Result<()> {
        match bus {
            DiskBus::None => {
                Err(unsupported(format!("unsupported disk bus '{bus}' with device setup for disk '{name}'")))
            }
            DiskBus::Ide if !machine::has_builtin_ide(self.machine) => {
                Err(unsupported("IDE controllers are unsupported for this QEMU binary or machine type"))
            }
            DiskBus::Scsi | DiskBus::Sata | DiskBus::Ide => {
                let kind = match bus {
                    DiskBus::Scsi => ControllerKind::Scsi,
                    DiskBus::Sata => ControllerKind::Sata,
                    _ => ControllerKind::Ide,
                };
                if let Some(Address::Drive(a)) = &disk.info.address
                    && kind == ControllerKind::Ide
                    && a.controller > 0
                {
                    return Err(unsupported(
                        "Only a single IDE controller is supported for this machine type",
                    ));
                }
                Ok(())
            }
            DiskBus::Fdc => match &disk.info.address {
                Some(Address::Drive(a)) if a.controller > 0 => {
                    Err(unsupported("Only a single fdc controller is supported"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn vhost_user_disk(&self, disk: &Disk, bus: DiskBus, name: &str) -> Result<()> {
        if disk.device != DiskDevice::Disk || bus != DiskBus::Virtio {
            return Err(unsupported("vhostuser disk supports only virtio bus"));
        }
        if disk.readonly || disk.shareable || disk.driver.cache.is_some_and(|c| c != DiskCache::Default) {
            let what = if disk.readonly { "readonly" } else { "shareable" };
            return Err(unsupported(format!("{what} is not supported with vhostuser disk '{name}'")));
        }
        if !self.shares_memory() {
            return Err(unsupported("'vhostuser' requires shared memory"));
        }
        Ok(())
    }

    fn identity(&self, disk: &Disk, bus: DiskBus) -> Result<()> {
        if disk.wwn.is_some() && !matches!(bus, DiskBus::Ide | DiskBus::Scsi) {
            return Err(unsupported("Only ide and scsi disk support wwn"));
        }
        if disk.vendor.is_some() && bus != DiskBus::Scsi {
            return Err(unsupported("Only scsi disk supports 'vendor'"));
        }
        if disk.product.is_some() && !matches!(bus, DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi) {
            return Err(unsupported("Only ide, sata and scsi disk supports 'product'"));
        }
        if disk.target.rotation_rate.is_some() && !matches!(bus, DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi)
        {
            return Err(Error::internal(From::Qemu, "rotation rate is only valid for SCSI/IDE/SATA bus"));
        }
        if disk.geometry.cyls.is_some_and(|c| c > 0)
            && matches!(bus, DiskBus::Usb | DiskBus::Fdc | DiskBus::Sd)
        {
            return Err(unsupported(format!("CHS geometry can not be set for '{bus}' bus")));
        }
        if disk.geometry.trans.is_some_and(|t| t != GeometryTrans::Default) && bus != DiskBus::Ide {
            return Err(unsupported(format!(
                "CHS translation mode can only be set for 'ide' bus not '{bus}'"
            )));
        }
        if disk.target.rotation_rate.is_some() && disk.device != DiskDevice::Disk {
            return Err(Error::internal(From::Qemu, "rotation rate is only valid for disk device"));
        }
        if let Some(serial) = disk.serial.as_deref().filter(|s| !s.chars().all(is_safe)) {
            let text = format!("driver serial '{serial}' contains unsafe characters");
            return Err(Error::internal(From::Qemu, text));
        }
        if disk.serial.is_some() && bus == DiskBus::Sd {
            return Err(Error::internal(From::Qemu, "Serial property not supported for drive bus 'sd'"));
        }
        if let Some(transient) = &disk.transient {
            if !matches!(disk.source, DiskSource::File(_)) {
                let name = disk.target.dev.as_deref().unwrap_or_default();
                return Err(unsupported(format!("transient disk supported only with 'file' type ({name})")));
            }
            let shared = [DiskBus::Virtio, DiskBus::Scsi, DiskBus::Usb];
            if transient.share_backing == Some(true) && !shared.contains(&bus) {
                return Err(unsupported(format!(
                    "disk bus '{bus}' doesn't support transiend disk backing image sharing"
                )));
            }
        }
        if matches!(disk.source, DiskSource::Dir(_)) && disk.driver.format != Some(ImageFormat::Fat) {
            return Err(unsupported("storage type 'dir' requires use of storage format 'fat'"));
        }
        if let DiskSource::Dir(_) = &disk.source
            && !disk.readonly
            && disk.driver.format == Some(ImageFormat::Fat)
        {
            return Err(unsupported("virtual FAT storage can't be accessed in read-write mode"));
        }
        if disk.device == DiskDevice::Lun && disk.driver.format.is_some_and(|f| f != ImageFormat::Raw) {
            return Err(unsupported("disk device 'lun' must use 'raw' format"));
        }
        if disk.device == DiskDevice::Lun && !matches!(bus, DiskBus::Scsi) {
            return Err(unsupported(format!("disk device='lun' is not supported for bus='{bus}'")));
        }
        Ok(())
    }
}

/// What a serial number may hold.
fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_+ .".contains(c)
}

/// `vda1`: a known prefix, letters, digits.
fn is_partition(name: &str) -> bool {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let letters = ["xvd", "ubd", "hd", "sd", "vd", "fd"].iter().find_map(|p| bare.strip_prefix(p));
    bare.len() < name.len()
        && letters.is_some_and(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_lowercase()))
}

/// Formats QEMU does not open, and what goes with encryption.
fn image_format(disk: &Disk) -> Result<()> {
    let format = disk.driver.format.unwrap_or(ImageFormat::Raw);
    let inner = disk.source.common().encryption.as_ref();
    // Ceph's own library decrypts below any format.
    let encrypted =
        disk.encryption.as_ref().or(inner).is_some_and(|e| e.engine != Some(EncryptionEngine::Librbd));
    match format {
        ImageFormat::Iso => Err(unsupported(format!(
            "storage format '{format}' is not directly supported by QEMU, use 'raw' instead"
        ))),
        ImageFormat::Dir => Err(unsupported(
            "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead",
        )),
        ImageFormat::Cow => Err(unsupported("'cow' storage format is not supported")),
        ImageFormat::Fat if !matches!(disk.source, DiskSource::Dir(_)) => {
            Err(unsupported("storage format 'fat' is supported only with 'dir' storage type"))
        }
        _ if encrypted && !matches!(format, ImageFormat::Raw | ImageFormat::Qcow2) => {
            Err(unsupported("encryption is supported only with 'raw' and 'qcow2' image format"))
        }
        _ if disk.source.common().data_store.is_some() && format != ImageFormat::Qcow2 => {
            Err(unsupported("<dataStore> feature available only with qcow2 format"))
        }
        _ => Ok(()),
    }
}

/// Each bus numbers its drives its own way.
fn drive_address(disk: &Disk, bus: DiskBus) -> Result<()> {
    let Some(Address::Drive(a)) = &disk.info.address else { return Ok(()) };
    match bus {
        DiskBus::Ide if a.target != 0 => Err(unsupported("target must be 0 for ide controller")),
        DiskBus::Sata if a.bus != 0 => Err(unsupported("bus must be 0 for sata controller")),
        DiskBus::Sata if a.target != 0 => Err(unsupported("target must be 0 for sata controller")),
        DiskBus::Fdc if a.bus != 0 => Err(unsupported("Only one fdc bus is supported")),
        DiskBus::Fdc if a.target != 0 => Err(unsupported("target must be 0 for controller fdc")),
        _ => Ok(()),
    }
}
