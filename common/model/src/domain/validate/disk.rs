//! Disks, their images and their limits.

use std::collections::BTreeMap;

use virt_error::{Code, Result};
use virt_xml::At;

use super::super::Domain;
use super::super::address::Address;
use super::super::disk::{Disk, DiskBus, DiskDevice, ErrorPolicy, IoTune, VirtioModel};
use super::super::info::{VirtioOptions, each};
use super::super::source::{DiskSource, NetworkImage, NetworkProtocol, StartupPolicy};
use super::{fail, internal, twice, unsupported, xml};

/// Each disk by itself.
pub(super) fn singly(d: &Domain) -> Result<()> {
    if let Some(group) = twice(d.throttlegroups.groups.iter().filter_map(|g| g.group_name.as_deref())) {
        return xml(format!("duplicate group name '{group}' found"));
    }
    each(&d.devices.disks, |disk| one(d, disk))
}

/// Names, places and numbers that are there twice.
pub(super) fn together(d: &Domain) -> Result<()> {
    let disks = &d.devices.disks;
    if let Some(name) = twice(disks.iter().map(name)) {
        let mut twins =
            disks.iter().filter(|d| self::name(d) == name).map(|d| d.source.path().unwrap_or("(null)"));
        let (a, b) = (twins.next().unwrap_or_default(), twins.next().unwrap_or_default());
        let second = disks.iter().filter(|d| self::name(d) == name).nth(1).map(|d| d.info.place);
        return xml(format!("target '{name}' duplicated for disk sources '{a}' and '{b}'"))
            .at(second.unwrap_or_default());
    }
    let mut places = BTreeMap::new();
    for disk in disks {
        if let (Some(bus), Some(Address::Drive(a))) = (disk.target.bus, &disk.info.address)
            && let Some(first) = places.insert((bus, a.controller, a.bus, a.target, a.unit), name(disk))
        {
            return unsupported(format!(
                "Found duplicate drive address for disk with target name '{first}' controller='{}' bus='{}' target='{}' unit='{}'",
                a.controller, a.bus, a.target, a.unit
            ))
            .at(disk.info.place);
        }
    }
    match twice(disks.iter().filter_map(|d| d.wwn.as_deref())) {
        Some(_) => xml("Disks have identical WWN"),
        None => Ok(()),
    }
}

fn name(disk: &Disk) -> &str {
    disk.target.dev.as_deref().unwrap_or_default()
}

fn one(d: &Domain, disk: &Disk) -> Result<()> {
    let bus = disk.target.bus.unwrap_or_default();
    if disk.target.dev.is_none() {
        return fail(Code::NoTarget, disk.source.path().unwrap_or_default());
    }
    if bus != DiskBus::Virtio {
        virtio_only(disk, bus)?;
    }
    if disk.driver.rerror_policy == Some(ErrorPolicy::Enospace) {
        return unsupported("Invalid disk read error policy: 'enospace'");
    }
    if disk.device == DiskDevice::Lun {
        let scsi = match &disk.source {
            DiskSource::Block(_) | DiskSource::Volume(_) | DiskSource::VhostUser(_) => true,
            DiskSource::Network(n) => n.protocol == NetworkProtocol::Iscsi,
            _ => false,
        };
        if !scsi {
            return unsupported("disk device='lun' is only valid for block type disk source");
        }
    } else {
        if disk.rawio.is_some() {
            return unsupported("rawio can be used only with device='lun'");
        }
        if disk.sgio.is_some() {
            return unsupported("sgio can be used only with device='lun'");
        }
        if disk.source.common().reservations.is_some() {
            return unsupported("<reservations/> allowed only for lun devices");
        }
    }
    let medium = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    if disk.target.removable.is_some() && !matches!(bus, DiskBus::Usb | DiskBus::Scsi) {
        return xml("removable is only valid for usb or scsi disks");
    }
    if disk.target.tray.is_some() && !medium {
        return unsupported("tray is only valid for cdrom and floppy");
    }
    if disk.source.common().startup_policy == Some(StartupPolicy::Requisite) && !medium {
        return xml("disk startupPolicy 'requisite' is allowed only for cdrom or floppy");
    }
    image(disk)?;
    let empty = disk.source.path().is_some_and(str::is_empty);
    if (disk.source.is_empty() || empty) && !medium {
        return fail(Code::NoSource, name(disk));
    }
    for (text, what, most) in [(&disk.vendor, "vendor", 8), (&disk.product, "product", 16)] {
        let Some(text) = text else { continue };
        if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return xml(format!("disk {what} is not printable string"));
        }
        if text.len() > most {
            return unsupported(format!("disk {what} is more than {most} characters"));
        }
    }
    if let Some(wwn) = &disk.wwn {
        super::hostdev::wwn(wwn)?;
    }
    limits(&disk.iotune)?;
    throttle(d, disk)?;
    placed(disk, bus)
}

/// Bus, device and address go together.
fn placed(disk: &Disk, bus: DiskBus) -> Result<()> {
    let wrong = match disk.device {
        DiskDevice::Disk | DiskDevice::Lun | DiskDevice::Cdrom if bus == DiskBus::Fdc => Some("disk"),
        DiskDevice::Floppy if bus != DiskBus::Fdc => Some("floppy disk"),
        _ => None,
    };
    if let Some(what) = wrong {
        return internal(format!("Invalid bus type '{bus}' for {what}"));
    }
    let known = ["hd", "sd", "vd", "xvd", "ubd"];
    match disk.device {
        DiskDevice::Floppy if !name(disk).starts_with("fd") => {
            return internal(format!("Invalid floppy device name: {}", name(disk)));
        }
        DiskDevice::Disk | DiskDevice::Lun if !known.iter().any(|p| name(disk).starts_with(p)) => {
            return internal(format!("Invalid harddisk device name: {}", name(disk)));
        }
        _ => {}
    }
    if bus == DiskBus::Virtio
        && let Some(address) = &disk.info.address
        && !matches!(address, Address::Pci(_) | Address::Ccw(_) | Address::VirtioMmio)
    {
        return unsupported(format!("virtio disk cannot have an address of type '{}'", address.tag()));
    }
    let drive = matches!(bus, DiskBus::Ide | DiskBus::Sata | DiskBus::Scsi | DiskBus::Fdc);
    match &disk.info.address {
        Some(address) if drive && !matches!(address, Address::Drive(_)) => unsupported(format!(
            "Invalid address type '{}' for the disk '{}' with the bus type '{bus}'",
            address.tag(),
            name(disk)
        )),
        _ => Ok(()),
    }
}

fn virtio_only(disk: &Disk, bus: DiskBus) -> Result<()> {
    let driver = &disk.driver;
    if let Some(model) = disk.model.filter(|m| *m != VirtioModel::Default) {
        return unsupported(format!("disk model '{model}' not supported for bus '{bus}'"));
    }
    if driver.event_idx.is_some() {
        return unsupported("disk event_idx mode supported only for virtio bus");
    }
    if driver.ioeventfd.is_some() {
        return unsupported("disk ioeventfd mode supported only for virtio bus");
    }
    if driver.queues.is_some() {
        return unsupported("queues attribute in disk driver element is only supported for virtio bus");
    }
    if driver.queue_size.is_some() {
        return unsupported("queue_size attribute in disk driver is only supported for virtio bus");
    }
    no_virtio_options(&driver.virtio)
}

/// Virtio options on a device that is none.
pub(super) fn no_virtio_options(v: &VirtioOptions) -> Result<()> {
    let given = [(v.iommu, "iommu"), (v.ats, "ats"), (v.packed, "packed"), (v.page_per_vq, "page_per_vq")];
    match given.iter().find(|(value, _)| value.is_some()) {
        Some((_, name)) => unsupported(format!("{name} driver option is only supported for virtio devices")),
        None => Ok(()),
    }
}

fn image(disk: &Disk) -> Result<()> {
    let common = disk.source.common();
    if disk.encryption.is_some() && common.encryption.is_some() {
        return unsupported("an <encryption> definition already found for disk source");
    }
    if disk.auth.is_some() && common.auth.is_some() {
        return unsupported("an <auth> definition already found for disk source");
    }
    for encryption in disk.encryption.iter().chain(&common.encryption) {
        if encryption.cipher.is_some() {
            return unsupported("supplying <cipher> for domain disk definition is unnecessary");
        }
        for secret in &encryption.secrets {
            if secret.uuid.is_none() && secret.usage.is_none() {
                return xml("missing secret uuid or usage attribute");
            }
        }
    }
    if let Some(model) = twice(common.seclabels.iter().filter_map(|l| l.model.as_deref())) {
        return super::detail(format!("seclabel for model {model} is already provided"));
    }
    match &disk.source {
        DiskSource::Network(n) => network(disk, n),
        DiskSource::Volume(v) if v.pool.is_some() != v.volume.is_some() => {
            xml("'pool' and 'volume' must be specified together for 'pool' type source")
        }
        _ => Ok(()),
    }
}

fn network(disk: &Disk, n: &NetworkImage) -> Result<()> {
    if n.protocol == NetworkProtocol::Sheepdog {
        return unsupported("'sheepdog' protocol is no longer supported by any hypervisor driver");
    }
    for auth in disk.auth.iter().chain(&n.common.auth) {
        let kind = auth.secret.kind.as_deref();
        let wanted = match n.protocol {
            NetworkProtocol::Iscsi => Some("iscsi"),
            NetworkProtocol::Rbd => Some("ceph"),
            _ => None,
        };
        if let (Some(kind), Some(wanted)) = (kind, wanted)
            && kind != wanted
        {
            return unsupported(format!("invalid secret type '{kind}'"));
        }
    }
    Ok(())
}

/// The most QEMU can limit anything to.
const MOST_RATE: u64 = 1_000_000_000_000_000;

fn limits(t: &IoTune) -> Result<()> {
    let all = [t.total_bytes_sec, t.read_bytes_sec, t.write_bytes_sec, t.total_iops_sec, t.read_iops_sec];
    if all.iter().chain([&t.write_iops_sec]).any(|n| *n > MOST_RATE) {
        let text = format!("block I/O throttle limit must be no more than {MOST_RATE} using QEMU");
        return fail(Code::ArgumentUnsupported, text);
    }
    let clashes = [
        (t.total_bytes_sec, t.read_bytes_sec, t.write_bytes_sec, "bytes_sec"),
        (t.total_iops_sec, t.read_iops_sec, t.write_iops_sec, "iops_sec"),
        (t.total_bytes_sec_max, t.read_bytes_sec_max, t.write_bytes_sec_max, "bytes_sec_max"),
        (t.total_iops_sec_max, t.read_iops_sec_max, t.write_iops_sec_max, "iops_sec_max"),
    ];
    for (total, read, write, what) in clashes {
        if total > 0 && (read > 0 || write > 0) {
            return xml(format!("total and read/write {what} cannot be set at the same time"));
        }
    }
    Ok(())
}

fn throttle(d: &Domain, disk: &Disk) -> Result<()> {
    let filters = &disk.throttlefilters.filters;
    if filters.is_empty() {
        return Ok(());
    }
    if disk.iotune != IoTune::default() {
        let text =
            format!("block 'throttlefilters' can't be used together with 'iotune' for disk '{}'", name(disk));
        return fail(Code::OperationUnsupported, text);
    }
    if let Some(group) = twice(filters.iter().map(|f| f.group.as_str())) {
        return xml(format!("duplicate filter name '{group}' found"));
    }
    let known = |g: &str| d.throttlegroups.groups.iter().any(|t| t.group_name.as_deref() == Some(g));
    match filters.iter().find(|f| !known(&f.group)) {
        Some(f) => xml(format!("throttle group '{}' not found", f.group)),
        None => Ok(()),
    }
}
