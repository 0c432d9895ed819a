//! Disks.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, NonZero, OnOff, Xml, YesNo, names, not_zero};

use super::controller::QueueMapping;
use super::info::{DeviceInfo, VirtioOptions};
use super::source::{Auth, DiskSource, DriverFormat, Encryption, ImageFormat, MetadataCache};

names! {
    /// What the guest sees.
    pub enum DiskDevice { Disk = "disk", Cdrom = "cdrom", Floppy = "floppy", Lun = "lun" }
    /// What the disk sits on.
    pub enum DiskBus {
        None = "none", Ide = "ide", Fdc = "fdc", Scsi = "scsi", Virtio = "virtio", Xen = "xen", Usb = "usb", Uml = "uml",
        Sata = "sata", Sd = "sd"
    }
    /// Variants of virtio devices.
    pub enum VirtioModel { Default = "default", Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional" }
    /// The host's caching of a disk.
    pub enum DiskCache {
        Default = "default", None = "none", Writethrough = "writethrough", Writeback = "writeback",
        Directsync = "directsync", Unsafe = "unsafe"
    }
    /// What happens on a write or read error.
    pub enum ErrorPolicy { Default = "default", Stop = "stop", Report = "report", Ignore = "ignore", Enospace = "enospace" }
    /// How the host reads and writes.
    pub enum DiskIo { Default = "default", Native = "native", Threads = "threads", IoUring = "io_uring" }
    /// What becomes of the guest's discards.
    pub enum Discard { Default = "default", Unmap = "unmap", Ignore = "ignore" }
    /// What becomes of writes of zeroes.
    pub enum DetectZeroes { Default = "default", Off = "off", On = "on", Unmap = "unmap" }
    /// Whether privileged SCSI commands pass.
    pub enum Sgio { Default = "default", Filtered = "filtered", Unfiltered = "unfiltered" }
    /// How a snapshot takes the disk in.
    pub enum SnapshotLocation { Default = "default", No = "no", Internal = "internal", External = "external", Manual = "manual" }
    /// BIOS geometry translation.
    pub enum GeometryTrans { Default = "default", None = "none", Auto = "auto", Lba = "lba" }
    /// Position of a drive's tray.
    pub enum Tray { Closed = "closed", Open = "open" }
    /// A job that writes a second image.
    pub enum MirrorJob { None = "", Pull = "stream", Copy = "copy", Commit = "commit", ActiveCommit = "active-commit" }
    /// How far a mirror is.
    pub enum MirrorReady { None = "no", Yes = "yes", Abort = "abort", Pivot = "pivot" }
}

/// `<disk>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Disk::check)]
pub struct Disk {
    #[xml(child)]
    pub driver: DiskDriver,
    /// Credentials given beside the source instead of in it.
    #[xml(child)]
    pub auth: Option<Auth>,
    /// Writes the `type` attribute too: the attributes below come after it.
    #[xml(flatten)]
    pub source: DiskSource,
    #[xml(attr)]
    pub device: DiskDevice,
    #[xml(attr)]
    pub model: Option<VirtioModel>,
    #[xml(attr, with = YesNo)]
    pub rawio: Option<bool>,
    #[xml(attr)]
    pub sgio: Option<Sgio>,
    #[xml(attr)]
    pub snapshot: Option<SnapshotLocation>,
    #[xml(child = "backingStore", keep_if = chosen)]
    pub backing: Option<Box<BackingStore>>,
    #[xml(child)]
    pub geometry: Geometry,
    #[xml(child)]
    pub blockio: BlockIo,
    #[xml(child, live)]
    pub mirror: Option<Box<Mirror>>,
    #[xml(attr = "backenddomain@name")]
    pub backend_domain: Option<String>,
    #[xml(child)]
    pub target: DiskTarget,
    #[xml(child)]
    pub iotune: IoTune,
    #[xml(child)]
    pub throttlefilters: ThrottleFilters,
    #[xml(flag)]
    pub readonly: bool,
    #[xml(flag)]
    pub shareable: bool,
    #[xml(child)]
    pub transient: Option<Transient>,
    #[xml(leaf)]
    pub serial: Option<String>,
    #[xml(leaf)]
    pub wwn: Option<String>,
    #[xml(leaf)]
    pub vendor: Option<String>,
    #[xml(leaf)]
    pub product: Option<String>,
    /// Encryption given beside the source instead of in it.
    #[xml(child)]
    pub encryption: Option<Encryption>,
    #[xml(flatten)]
    pub info: DeviceInfo,
    /// QEMU's name of the device (status file only).
    #[xml(child = "privateData", status)]
    pub private: Option<DiskPrivate>,
}

/// What the driver keeps of a disk in use.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DiskPrivate {
    #[xml(attr = "qom@name")]
    pub qom: Option<String>,
}

/// What the driver found in the images' headers is no configuration.
#[allow(clippy::borrowed_box)] // The derive passes the field's own type.
fn chosen(store: &Box<BackingStore>, mode: Mode) -> bool {
    !mode.inactive || !store.detected
}

impl Disk {
    /// A drive without a medium is just that, wherever the medium was to come from.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.driver.cache = self.driver.cache.filter(|c| *c != DiskCache::Default);
        let g = &self.geometry;
        if [g.cyls, g.heads, g.secs].iter().any(|n| n.is_none_or(|n| n == 0)) {
            self.geometry = Geometry::default();
        }
        let medium = matches!(self.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        if medium && e.child("source").is_none() {
            self.source = DiskSource::default();
        }
        self.source.settle();
        Ok(())
    }
}

/// How QEMU drives the image.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DiskDriver {
    #[xml(attr)]
    pub name: Option<String>,
    /// Image format.
    #[xml(attr = "type", with = DriverFormat, say(ConfigUnsupported, "unknown driver format value '{}'"))]
    pub format: Option<ImageFormat>,
    #[xml(attr)]
    pub cache: Option<DiskCache>,
    #[xml(attr)]
    pub error_policy: Option<ErrorPolicy>,
    #[xml(attr)]
    pub rerror_policy: Option<ErrorPolicy>,
    #[xml(attr)]
    pub io: Option<DiskIo>,
    #[xml(attr, with = OnOff)]
    pub ioeventfd: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub event_idx: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub copy_on_read: Option<bool>,
    #[xml(attr)]
    pub discard: Option<Discard>,
    #[xml(attr, with = NonZero)]
    pub iothread: Option<u32>,
    #[xml(attr)]
    pub detect_zeroes: Option<DetectZeroes>,
    #[xml(attr, with = OnOff)]
    pub discard_no_unref: Option<bool>,
    #[xml(attr, read_if = not_zero)]
    pub queues: Option<u32>,
    #[xml(attr, read_if = not_zero)]
    pub queue_size: Option<u32>,
    #[xml(flatten)]
    pub virtio: VirtioOptions,
    #[xml(child)]
    pub iothreads: QueueMapping,
    #[xml(child)]
    pub metadata_cache: MetadataCache,
}

/// An image under another one. `<backingStore/>` ends a chain; a missing one leaves it to be found out.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = BackingStore::check)]
pub struct BackingStore {
    /// Found in an image's header, not given by the user. Not in the document.
    #[xml(skip)]
    pub detected: bool,
    #[xml(child)]
    pub format: Option<FormatElement>,
    /// Missing in the element that ends the chain.
    #[xml(flatten, when = "type")]
    pub source: Option<DiskSource>,
    /// Number of the image in a running guest's chain.
    #[xml(attr, live)]
    pub index: Option<u32>,
    #[xml(child = "backingStore")]
    pub backing: Option<Box<BackingStore>>,
}

impl BackingStore {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.source.is_none() {
            // The end of a chain has nothing in it.
            *self = Self { index: self.index, ..Self::default() };
            return Ok(());
        }
        let missing = match (&self.format, e.child("source")) {
            (f, _) if f.as_ref().is_none_or(|f| f.kind.is_none()) => "format",
            (_, None) => "source",
            _ => return Ok(()),
        };
        Err(e.error(Code::XmlError, Domain::Domain, format!("missing disk backing store {missing}")))
    }
}

/// The format of an image.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FormatElement {
    #[xml(attr = "type", say(XmlError, "unknown disk backing store format '{}'"))]
    pub kind: Option<ImageFormat>,
    #[xml(child)]
    pub metadata_cache: MetadataCache,
}

/// A second image that is written by a block job.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Mirror {
    #[xml(child)]
    pub format: Option<FormatElement>,
    #[xml(flatten, when = "type")]
    pub source: Option<DiskSource>,
    /// The old spelling for a file, still written beside the new one.
    #[xml(attr)]
    pub file: Option<String>,
    #[xml(attr = "format")]
    pub old_format: Option<ImageFormat>,
    #[xml(attr)]
    pub job: Option<MirrorJob>,
    #[xml(attr)]
    pub ready: Option<MirrorReady>,
    #[xml(child = "backingStore")]
    pub backing: Option<Box<BackingStore>>,
}

/// The guest's view of the disk.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DiskTarget {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr)]
    pub bus: Option<DiskBus>,
    #[xml(attr)]
    pub tray: Option<Tray>,
    #[xml(attr, with = OnOff, write_when = DiskTarget::on_usb)]
    pub removable: Option<bool>,
    #[xml(attr)]
    pub rotation_rate: Option<u32>,
}

impl DiskTarget {
    /// Other buses have the setting too, but the reference never shows it.
    fn on_usb(&self) -> bool {
        self.bus == Some(DiskBus::Usb)
    }
}

/// A disk's geometry, where the guest must see a certain one.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Geometry {
    #[xml(attr)]
    pub cyls: Option<u32>,
    #[xml(attr)]
    pub heads: Option<u32>,
    #[xml(attr)]
    pub secs: Option<u32>,
    #[xml(attr)]
    pub trans: Option<GeometryTrans>,
}

/// Block sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BlockIo {
    #[xml(attr, read_if = not_zero)]
    pub logical_block_size: Option<u32>,
    #[xml(attr, read_if = not_zero)]
    pub physical_block_size: Option<u32>,
    #[xml(attr, read_if = not_zero)]
    pub discard_granularity: Option<u32>,
}

/// Changes are thrown away when the guest stops.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Transient {
    #[xml(attr = "shareBacking", with = YesNo)]
    pub share_backing: Option<bool>,
}

/// Limits of throughput: bytes and requests a second, their bursts and burst lengths in seconds. 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IoTune {
    #[xml(leaf, skip_default)]
    pub total_bytes_sec: u64,
    #[xml(leaf, skip_default)]
    pub read_bytes_sec: u64,
    #[xml(leaf, skip_default)]
    pub write_bytes_sec: u64,
    #[xml(leaf, skip_default)]
    pub total_iops_sec: u64,
    #[xml(leaf, skip_default)]
    pub read_iops_sec: u64,
    #[xml(leaf, skip_default)]
    pub write_iops_sec: u64,
    #[xml(leaf, skip_default)]
    pub total_bytes_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub read_bytes_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub write_bytes_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub total_iops_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub read_iops_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub write_iops_sec_max: u64,
    #[xml(leaf, skip_default)]
    pub size_iops_sec: u64,
    #[xml(leaf)]
    pub group_name: Option<String>,
    #[xml(leaf, skip_default)]
    pub total_bytes_sec_max_length: u64,
    #[xml(leaf, skip_default)]
    pub read_bytes_sec_max_length: u64,
    #[xml(leaf, skip_default)]
    pub write_bytes_sec_max_length: u64,
    #[xml(leaf, skip_default)]
    pub total_iops_sec_max_length: u64,
    #[xml(leaf, skip_default)]
    pub read_iops_sec_max_length: u64,
    #[xml(leaf, skip_default)]
    pub write_iops_sec_max_length: u64,
}

/// The throttle groups a disk goes through, in order.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ThrottleFilters {
    #[xml(child = "throttlefilter")]
    pub filters: Vec<ThrottleFilter>,
}

/// A throttle group by name.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ThrottleFilter {
    #[xml(attr, required)]
    pub group: String,
}

/// `<throttlegroups>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ThrottleGroups {
    #[xml(child = "throttlegroup")]
    pub groups: Vec<IoTune>,
}
