//! Disks: their block nodes and the device the guest sees.

use crate::document::types::{
    Address, ControllerKind, Disk, DiskBus, DiskCache, DiskDevice, DiskSource, DriveAddress, ErrorPolicy,
    GeometryTrans, IoTune, QueueMapping, VirtioModel,
};
use serde_json::{Value, json};
use virt_error::Result;
use zeroize::Zeroizing;

use super::Builder;
use super::address::virtio;
use super::blockdev::{Access, cache_flags};
use super::chardev::socket_role;
use super::props::{Opts, Props, on_off};

impl Builder<'_> {
    /// Throttle groups, before the disks that go through them.
    pub(super) fn throttle_groups(&mut self) {
        for group in self.def.throttlegroups.groups.iter().filter(|g| limited(g)) {
            let name = group.group_name.clone().unwrap_or_default();
            self.line.object(
                Props::object("throttle-group", &format!("throttle-{name}")).with("limits", limits(group)),
            );
        }
    }

    /// All disks with their nodes.
    pub(super) fn disks(&mut self) -> Result<()> {
        let def = self.def;
        self.floppy_boot(def.devices.disks.iter());
        for disk in &def.devices.disks {
            let skipped = disk.transient.as_ref().is_some_and(|t| t.share_backing == Some(true));
            if !skipped {
                self.disk(disk)?;
            }
        }
        Ok(())
    }

    /// The floppy controller takes the boot places of its drives.
    fn floppy_boot<'d>(&mut self, disks: impl Iterator<Item = &'d Disk>) {
        let mut places = [None, None];
        let mut any = false;
        for disk in disks.filter(|d| d.target.bus == Some(DiskBus::Fdc)) {
            any = true;
            if let Some(Address::Drive(a)) = &disk.info.address
                && let Some(place) = places.get_mut(a.unit as usize)
            {
                *place = self.boot.of_disk(disk);
            }
        }
        if !any {
            return;
        }
        let names = ["bootindexA", "bootindexB"];
        if self.q35_floppy() {
            let mut props = Props::driver("isa-fdc");
            for (name, place) in names.iter().zip(places) {
                props = props.opt(name, place);
            }
            self.line.device(props);
        } else {
            for (name, place) in names.iter().zip(places) {
                if let Some(place) = place {
                    self.line.arg("-global", format!("isa-fdc.{name}={place}"));
                }
            }
        }
    }

    /// Newer Q35 machines have no built-in floppy controller.
    fn q35_floppy(&self) -> bool {
        crate::document::machine::is_q35(self.machine())
    }

    fn disk(&mut self, disk: &Disk) -> Result<()> {
        let pseries = crate::document::machine::is_pseries(self.machine());
        if disk.target.bus == Some(DiskBus::Fdc) && pseries {
            return Err(crate::document::unsupported(
                "PowerPC pseries machines do not support floppy device",
            ));
        }
        if disk.target.bus == Some(DiskBus::Sd) {
            let mut file = Opts::new("").opt("file", disk.source.path());
            if let DiskSource::Network(s) = &disk.source {
                let node = self.network_node(s, "libvirt-1-storage").into_value();
                flat(&mut file, "file", &node);
            }
            let opts = file.opt("format", disk.driver.format.map(|f| f.as_str())).with("if", "sd").with(
                "index",
                crate::document::target::index(disk.target.dev.as_deref().unwrap_or_default()).unwrap_or(0),
            );
            let cache = disk.driver.cache.filter(|c| *c != DiskCache::Default);
            let opts = opts.opt("cache", cache.map(DiskCache::as_str));
            self.line.opts("-drive", opts);
            return Ok(());
        }
        let drive = if let DiskSource::VhostUser(s) = &disk.source {
            let id = format!("chr-vu-{}", alias(disk));
            let mut opts = Opts::new("socket").with("id", &id).opt("path", s.path.as_deref());
            socket_role(&mut opts, false, s.reconnect.as_ref(), self.emulator.at_least(9, 2));
            self.line.opts("-chardev", opts);
            Drive::Chardev(id)
        } else if disk.source.is_empty() {
            Drive::Empty
        } else {
            Drive::Node(self.disk_nodes(disk)?)
        };
        let props = self.disk_device(disk, &drive)?;
        self.line.device(props);
        Ok(())
    }

    /// `-blockdev` for the whole chain and the filters above it; returns the topmost node.
    fn disk_nodes(&mut self, disk: &Disk) -> Result<String> {
        let access = access_of(disk);
        let prefix = format!("libvirt-{}", disk.source.common().index.unwrap_or(0));
        self.image_secrets(disk)?;
        let nodes = self.image_nodes(
            &disk.source,
            disk.driver.format.map(|f| f.as_str()),
            disk.backing.as_deref(),
            &prefix,
            access,
        );
        for props in nodes.props {
            self.line.arg("-blockdev", props.to_string());
        }
        let mut top = nodes.top;
        if disk.driver.copy_on_read == Some(true) {
            let name = format!("libvirt-CoR-{}", disk.target.dev.clone().unwrap_or_default());
            let props = Props::driver("copy-on-read")
                .with("node-name", name.as_str())
                .with("file", top)
                .with("discard", "unmap");
            self.line.arg("-blockdev", props.to_string());
            top = name;
        }
        let mut number = crate::document::nodes::last_index(disk);
        for filter in &disk.throttlefilters.filters {
            number += 1;
            let name = format!("libvirt-{number}-filter");
            let props = Props::driver("throttle")
                .with("node-name", name.as_str())
                .with("throttle-group", format!("throttle-{}", filter.group))
                .with("file", top);
            self.line.arg("-blockdev", props.to_string());
            top = name;
        }
        Ok(top)
    }

    fn disk_device(&self, disk: &Disk, drive: &Drive) -> Result<Props> {
        let none = DriveAddress::default();
        let at = match &disk.info.address {
            Some(Address::Drive(a)) => a,
            _ => &none,
        };
        let cdrom = disk.device == DiskDevice::Cdrom;
        let props = match disk.target.bus.unwrap_or_default() {
            DiskBus::Ide => Props::driver(if cdrom { "ide-cd" } else { "ide-hd" })
                .with(
                    "bus",
                    format!("{}.{}", self.buses.controller(ControllerKind::Ide, at.controller), at.bus),
                )
                .with("unit", at.unit),
            DiskBus::Sata => Props::driver(if cdrom { "ide-cd" } else { "ide-hd" }).with(
                "bus",
                format!("{}.{}", self.buses.controller(ControllerKind::Sata, at.controller), at.unit),
            ),
            DiskBus::Scsi => self.scsi_disk(disk, at),
            DiskBus::Fdc => Props::driver("floppy").with("unit", at.unit),
            DiskBus::Usb => self.place(Props::driver("usb-storage"), &disk.info),
            _ => self.virtio_disk(disk),
        };
        Ok(self.disk_common(props, disk, drive))
    }

    fn scsi_disk(&self, disk: &Disk, at: &DriveAddress) -> Props {
        let driver = match disk.device {
            DiskDevice::Cdrom => "scsi-cd",
            DiskDevice::Lun => "scsi-block",
            _ => "scsi-hd",
        };
        let bus = format!("{}.0", self.buses.controller(ControllerKind::Scsi, at.controller));
        let props = Props::driver(driver).with("bus", bus);
        let parallel = matches!(
            self.buses.scsi_model(at.controller),
            Some("lsilogic" | "ncr53c90" | "dc390" | "am53c974" | "buslogic" | "auto")
        );
        let props = if parallel {
            props.with("scsi-id", at.unit)
        } else {
            props.with("channel", at.bus).with("scsi-id", at.target).with("lun", at.unit)
        };
        if disk.device == DiskDevice::Lun {
            return props;
        }
        let id = disk.serial.clone().unwrap_or_else(|| format!("drive-{}", alias(disk)));
        props.with("device_id", id)
    }

    fn virtio_disk(&self, disk: &Disk) -> Props {
        let base = match disk.source {
            DiskSource::VhostUser(_) => "vhost-user-blk",
            _ => "virtio-blk",
        };
        let driver = &disk.driver;
        let props = virtio(base, disk.model.or(Some(VirtioModel::Default)), &disk.info, &driver.virtio)
            .opt("iothread", driver.iothread.map(|n| format!("iothread{n}")))
            .opt("iothread-vq-mapping", queue_mapping(&driver.iothreads))
            .opt("ioeventfd", driver.ioeventfd)
            .opt("event_idx", driver.event_idx)
            .opt("num-queues", driver.queues)
            .opt("queue-size", driver.queue_size);
        self.place(props, &disk.info)
    }

    fn disk_common(&self, props: Props, disk: &Disk, drive: &Drive) -> Props {
        let bus = disk.target.bus.unwrap_or_default();
        let usb = bus == DiskBus::Usb;
        let removable =
            disk.target.removable.or(usb.then_some(false)).filter(|_| usb || bus == DiskBus::Scsi);
        let boot = if bus == DiskBus::Fdc { None } else { self.boot.of_disk(disk) };
        let write_cache = cache_flags(effective_cache(disk)).map(|(_, _, wb)| on_off(wb));
        let write_cache = write_cache.filter(|_| disk.device != DiskDevice::Lun);
        let (write_error, read_error) = errors(disk);
        let geometry = &disk.geometry;
        let sized = geometry.cyls.is_some_and(|c| c > 0);
        let translation = geometry.trans.filter(|t| *t != GeometryTrans::Default);
        let wwn = disk.wwn.as_deref().and_then(|w| u64::from_str_radix(w.trim_start_matches("0x"), 16).ok());
        let props = props.when(disk.shareable, "share-rw", true);
        let props = match drive {
            Drive::Node(node) => props.with("drive", node.as_str()),
            Drive::Chardev(id) => props.with("chardev", id.as_str()),
            Drive::Empty => props,
        };
        // SCSI has a product, ATA a model.
        let scsi = disk.target.bus == Some(DiskBus::Scsi);
        let product_key = if scsi { "product" } else { "model" };
        props
            .with("id", alias(disk))
            .opt("bootindex", boot)
            .opt("loadparm", disk.info.boot.as_ref().and_then(|b| b.loadparm.clone()))
            .opt("logical_block_size", disk.blockio.logical_block_size)
            .opt("physical_block_size", disk.blockio.physical_block_size)
            .opt("discard_granularity", disk.blockio.discard_granularity)
            .opt("wwn", wwn)
            .opt("rotation_rate", disk.target.rotation_rate)
            .opt("vendor", disk.vendor.as_deref())
            .opt(product_key, disk.product.as_deref())
            .opt("removable", removable)
            .opt("write-cache", write_cache)
            .when(sized, "cyls", geometry.cyls)
            .when(sized, "heads", geometry.heads)
            .when(sized, "secs", geometry.secs)
            .opt("bios-chs-trans", translation.map(GeometryTrans::as_str))
            // The reference escapes blanks; guests see them as they were.
            .opt("serial", disk.serial.as_ref().map(|s| s.replace(' ', "\\ ")))
            .opt("werror", write_error)
            .opt("rerror", read_error)
    }

    /// Limits that QEMU applies by command after the start are not on the line; secrets of images are.
    fn image_secrets(&mut self, disk: &Disk) -> Result<()> {
        let node = format!("libvirt-{}", disk.source.common().index.unwrap_or(0));
        let common = disk.source.common();
        if let Some(auth) = &common.auth {
            let data = Zeroizing::new((self.launch.secrets)(&auth.secret)?);
            let encoded = matches!(&disk.source, DiskSource::Network(n) if n.protocol.as_str() == "rbd");
            let data = if encoded { Zeroizing::new(super::secret::base64(&data).into_bytes()) } else { data };
            self.secret_object(&format!("{node}-storage-auth-secret0"), &data);
        }
        if let Some(encryption) = &common.encryption {
            for (i, secret) in encryption.secrets.iter().enumerate() {
                let data = Zeroizing::new((self.launch.secrets)(secret)?);
                self.secret_object(&format!("{node}-format-encryption-secret{i}"), &data);
            }
        }
        Ok(())
    }
}

enum Drive {
    Empty,
    Node(String),
    Chardev(String),
}

/// The device's alias; [`crate::document::prepare_live`] gave it one.
fn alias(disk: &Disk) -> &str {
    disk.info.alias.as_deref().unwrap_or_default()
}

/// A disk that several guests write must not be cached by any of them.
fn effective_cache(disk: &Disk) -> DiskCache {
    match disk.driver.cache.unwrap_or_default() {
        DiskCache::Default if disk.shareable && !disk.readonly => DiskCache::None,
        cache => cache,
    }
}

pub(super) fn access_of(disk: &Disk) -> Access {
    Access {
        readonly: disk.readonly || disk.device == DiskDevice::Cdrom,
        cache: effective_cache(disk),
        io: disk.driver.io.unwrap_or_default(),
        discard: disk.driver.discard.unwrap_or_default(),
        detect_zeroes: disk.driver.detect_zeroes.unwrap_or_default(),
        discard_no_unref: disk.driver.discard_no_unref,
        metadata_cache: disk.driver.metadata_cache.max_size.as_ref().map(|s| s.bytes),
        floppy: disk.device == DiskDevice::Floppy,
    }
}

fn errors(disk: &Disk) -> (Option<&'static str>, Option<&'static str>) {
    let name = |p: ErrorPolicy| match p {
        ErrorPolicy::Default => None,
        ErrorPolicy::Enospace => Some("enospc"),
        other => Some(other.as_str()),
    };
    let write = disk.driver.error_policy.unwrap_or_default();
    let read = match disk.driver.rerror_policy {
        Some(policy) if policy != ErrorPolicy::Default => policy,
        _ if write == ErrorPolicy::Enospace => ErrorPolicy::Default,
        _ => write,
    };
    (name(write), name(read))
}

/// `iothread-vq-mapping` of a disk or controller.
pub(super) fn queue_mapping(mapping: &QueueMapping) -> Option<Value> {
    if mapping.iothreads.is_empty() {
        return None;
    }
    let entries = mapping.iothreads.iter().map(|thread| {
        let mut entry = json!({"iothread": format!("iothread{}", thread.id)});
        if !thread.queues.is_empty() {
            entry["vqs"] = thread.queues.iter().map(|q| q.id).collect::<Vec<_>>().into();
        }
        entry
    });
    Some(entries.collect())
}

/// Whether a group limits anything.
fn limited(t: &IoTune) -> bool {
    let unnamed = IoTune { group_name: None, ..t.clone() };
    unnamed != IoTune::default()
}

fn limits(t: &IoTune) -> Value {
    let mut limits = json!({
        "bps-total": t.total_bytes_sec, "bps-read": t.read_bytes_sec, "bps-write": t.write_bytes_sec,
        "iops-total": t.total_iops_sec, "iops-read": t.read_iops_sec, "iops-write": t.write_iops_sec,
        "bps-total-max": t.total_bytes_sec_max, "bps-read-max": t.read_bytes_sec_max,
        "bps-write-max": t.write_bytes_sec_max, "iops-total-max": t.total_iops_sec_max,
        "iops-read-max": t.read_iops_sec_max, "iops-write-max": t.write_iops_sec_max, "iops-size": t.size_iops_sec,
    });
    let lengths = [
        ("bps-total-max-length", t.total_bytes_sec_max_length),
        ("bps-read-max-length", t.read_bytes_sec_max_length),
        ("bps-write-max-length", t.write_bytes_sec_max_length),
        ("iops-total-max-length", t.total_iops_sec_max_length),
        ("iops-read-max-length", t.read_iops_sec_max_length),
        ("iops-write-max-length", t.write_iops_sec_max_length),
    ];
    for (name, length) in lengths.into_iter().filter(|(_, length)| *length > 0) {
        limits[name] = length.into();
    }
    limits
}

/// A block node in the words of `-drive`, which boards with built-in card slots still need: `file.server.0.host=...`.
fn flat(opts: &mut Opts, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| flat(opts, &format!("{path}.{k}"), v)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| flat(opts, &format!("{path}.{i}"), v));
        }
        Value::String(text) => {
            let text = if path == "file.path" { text.trim_start_matches('/') } else { text };
            opts.put(path, text);
        }
        other => opts.put(path, other),
    }
}
