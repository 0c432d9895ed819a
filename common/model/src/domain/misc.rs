//! Small devices: balloon, random numbers, watchdog, panic, hub, lease, redirection, vsock and others with little to say.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Bad, Codec, El, HexUpper, NonZero, OnOff, Say, Xml, YesNo, names, not_zero};

use super::chardev::{CharBackend, CharLog, LoggedBackend};
use super::disk::VirtioModel;
use super::info::{DeviceInfo, VirtioOptions};
use crate::{ShmemSize, Size};

names! {
    /// The balloon's device.
    pub enum BalloonModel {
        Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional", Xen = "xen",
        None = "none"
    }
    /// The watchdog's device.
    pub enum WatchdogModel { I6300esb = "i6300esb", Ib700 = "ib700", Diag288 = "diag288", Itco = "itco" }
    /// What a watchdog does.
    pub enum WatchdogAction {
        Reset = "reset", Shutdown = "shutdown", Poweroff = "poweroff", Pause = "pause", Dump = "dump", None = "none",
        InjectNmi = "inject-nmi"
    }
    /// The panic notifier's device.
    pub enum PanicModel {
        Default = "default", Isa = "isa", Pseries = "pseries", Hyperv = "hyperv", S390 = "s390", Pvpanic = "pvpanic"
    }
    /// What a hub connects.
    pub enum HubKind { Usb = "usb" }
    /// What is redirected.
    pub enum RedirBus { Usb = "usb" }
    /// Shared memory's device.
    pub enum ShmemModel { Ivshmem = "ivshmem", Plain = "ivshmem-plain", Doorbell = "ivshmem-doorbell" }
    /// Who may write shared memory.
    pub enum ShmemRole { Default = "default", Master = "master", Peer = "peer" }
    /// The IOMMU's device.
    pub enum IommuModel { Intel = "intel", Smmuv3 = "smmuv3", Virtio = "virtio" }
    /// The crypto device.
    pub enum CryptoModel { Virtio = "virtio" }
    /// How a crypto device is implemented.
    pub enum CryptoKind { Qemu = "qemu" }
    /// Who does a crypto device's work.
    pub enum CryptoBackendModel { Builtin = "builtin", Lkcf = "lkcf" }
    /// Where a crash log is stored.
    pub enum PstoreBackend { AcpiErst = "acpi-erst" }
}

/// `<memballoon>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Memballoon {
    #[xml(attr, required)]
    pub model: BalloonModel,
    #[xml(attr, with = OnOff)]
    pub autodeflate: Option<bool>,
    #[xml(attr = "freePageReporting", with = OnOff)]
    pub free_page_reporting: Option<bool>,
    /// Seconds between two reports of the guest.
    #[xml(attr = "stats@period")]
    pub stats_period: Option<i32>,
    #[xml(flatten)]
    pub info: DeviceInfo,
    #[xml(child)]
    pub driver: VirtioOptions,
}

/// `<rng>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Rng::host_side)]
pub struct Rng {
    #[xml(attr, required)]
    pub model: RngModel,
    #[xml(child, keep_if = RngRate::limits)]
    pub rate: Option<RngRate>,
    #[xml(
        child,
        once(XmlError, "only one RNG backend is supported"),
        need(XmlError, "only one RNG backend is supported")
    )]
    pub backend: Option<RngBackend>,
    #[xml(child)]
    pub driver: VirtioOptions,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Rng {
    /// An entropy daemon is reached like any character device; the reference has its own words for one it is not.
    fn host_side(e: El<'_>) -> Result<()> {
        let Some(backend) = e.child("backend").filter(|b| b.attr("model") == Some("egd")) else {
            return Ok(());
        };
        let Some(kind) = backend.attr("type") else {
            return Err(backend.error(Code::XmlError, Domain::Domain, "missing EGD backend type"));
        };
        if !CharBackend::TAGS.contains(&kind) {
            let text = format!("unknown backend type '{kind}' for egd");
            return Err(backend.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        CharBackend::default().check(backend)
    }
}

names! {
    /// The random number device.
    pub enum RngModel { Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional" }
}

/// Bytes in each period of milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct RngRate {
    #[xml(attr, loose)]
    pub bytes: u32,
    #[xml(attr, loose, read_if = not_zero)]
    pub period: Option<u32>,
}

impl RngRate {
    /// A rate of nothing is no limit.
    fn limits(&self, _: virt_xml::Mode) -> bool {
        self.bytes > 0
    }
}

/// Where random numbers come from.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "model")]
pub enum RngBackend {
    Random(RngPath),
    Egd(LoggedBackend),
    Builtin,
}

/// A host device that gives random numbers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct RngPath {
    #[xml(text)]
    pub path: Option<String>,
}

/// `<watchdog>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Watchdog {
    #[xml(attr, required)]
    pub model: WatchdogModel,
    #[xml(attr)]
    pub action: WatchdogAction,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// `<panic>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Panic {
    #[xml(attr, say(ConfigUnsupported, "unknown panic model '{}'"))]
    pub model: Option<PanicModel>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// `<hub>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Hub {
    #[xml(
        attr = "type",
        need(InternalError, "missing hub device type"),
        say(ConfigUnsupported, "unknown hub device type '{}'")
    )]
    pub kind: HubKind,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// `<nvram>`: the NVRAM of a PowerPC guest.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NvramDevice {
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// `<lease>`: a lock held while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Lease::check)]
pub struct Lease {
    #[xml(leaf)]
    pub lockspace: Option<String>,
    #[xml(leaf)]
    pub key: Option<String>,
    #[xml(attr = "target@path", need(XmlError, "Missing 'path' attribute to 'target' element for lease"))]
    pub path: Option<String>,
    #[xml(attr = "target@offset", skip_default)]
    pub offset: u64,
}

impl Lease {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let missing = match (&self.key, e.child("target")) {
            (None, _) => "key",
            (_, None) => "target",
            _ => return Ok(()),
        };
        let text = format!("Missing '{missing}' element for lease");
        Err(e.error(Code::XmlError, Domain::Domain, text))
    }
}

/// `<redirdev>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Redirdev::host_side, check = Redirdev::check)]
pub struct Redirdev {
    #[xml(attr, say(ConfigUnsupported, "unknown redirdev bus '{}'"))]
    pub bus: RedirBus,
    #[xml(flatten)]
    pub backend: CharBackend,
    #[xml(child)]
    pub log: CharLog,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Redirdev {
    fn host_side(e: El<'_>) -> Result<()> {
        match e.attr("type") {
            None => Err(e.error(Code::InternalError, Domain::Domain, "missing type in redirdev")),
            Some(kind) if !CharBackend::TAGS.contains(&kind) => {
                let text = format!("unknown redirdev character device type '{kind}'");
                Err(e.error(Code::ConfigUnsupported, Domain::Domain, text))
            }
            Some(_) => Ok(()),
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.backend.check(e)
    }
}

/// `<redirfilter>`: which USB devices may be redirected.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Redirfilter {
    #[xml(child = "usbdev")]
    pub usbdevs: Vec<RedirRule>,
}

/// A number in capital hexadecimal digits, where -1 stands for any.
pub struct AnyOr<const WIDTH: usize>;

impl<const WIDTH: usize> Codec<u32> for AnyOr<WIDTH> {
    fn parse(text: &str) -> std::result::Result<u32, Bad> {
        if text.trim_ascii() == "-1" { Err(Bad::Missing) } else { HexUpper::<WIDTH>::parse(text) }
    }
    fn put(value: &u32, out: &mut String) {
        HexUpper::<WIDTH>::put(value, out);
    }
}

/// A USB version: `9.4` is the same as `9.40`, -1 stands for any.
pub struct UsbVersion;

const BAD_VERSION: Say =
    Say { code: Code::XmlError, domain: Domain::Domain, text: "Cannot parse USB device version {}" };

impl Codec<String> for UsbVersion {
    fn parse(text: &str) -> std::result::Result<String, Bad> {
        if text == "-1" {
            return Err(Bad::Missing);
        }
        let digits = |t: &str| matches!(t.len(), 1 | 2) && t.bytes().all(|b| b.is_ascii_digit());
        match text.split_once('.') {
            Some((major, minor)) if digits(major) && digits(minor) => Ok(format!("{major}.{minor:0<2}")),
            _ => Err(Bad::Own(&BAD_VERSION)),
        }
    }
    fn put(value: &String, out: &mut String) {
        out.push_str(value);
    }
}

/// One rule; what is missing matches anything.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = RedirRule::check)]
pub struct RedirRule {
    #[xml(attr, with = AnyOr<2>)]
    pub class: Option<u32>,
    #[xml(attr, with = AnyOr<4>)]
    pub vendor: Option<u32>,
    #[xml(attr, with = AnyOr<4>)]
    pub product: Option<u32>,
    #[xml(attr, with = UsbVersion)]
    pub version: Option<String>,
    #[xml(attr, with = YesNo, required)]
    pub allow: bool,
}

impl RedirRule {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.class.is_some_and(|c| c > 0xff) {
            let text = format!("Invalid USB Class code {}", e.attr("class").unwrap_or_default());
            return Err(e.error(Code::InternalError, Domain::Domain, text));
        }
        Ok(())
    }
}

/// `<vsock>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vsock {
    #[xml(attr)]
    pub model: Option<VirtioModel>,
    #[xml(attr = "cid@auto", with = YesNo)]
    pub auto_cid: Option<bool>,
    #[xml(attr = "cid@address", with = NonZero)]
    pub cid: Option<u32>,
    #[xml(flatten)]
    pub info: DeviceInfo,
    #[xml(child)]
    pub driver: VirtioOptions,
}

/// `<shmem>`: memory shared with other guests.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Shmem {
    #[xml(attr, need(XmlError, "shmem element must contain 'name' attribute"))]
    pub name: String,
    #[xml(attr)]
    pub role: Option<ShmemRole>,
    #[xml(attr = "model@type")]
    pub model: Option<ShmemModel>,
    #[xml(child)]
    pub size: Option<ShmemSize>,
    #[xml(child)]
    pub server: Option<ShmemServer>,
    #[xml(child)]
    pub msi: Option<ShmemMsi>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// The socket of a shared memory server.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ShmemServer {
    #[xml(attr)]
    pub path: Option<String>,
}

/// Interrupts between the guests.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ShmemMsi {
    #[xml(attr, with = OnOff)]
    pub enabled: Option<bool>,
    #[xml(attr)]
    pub vectors: Option<u32>,
    #[xml(attr, with = OnOff)]
    pub ioeventfd: Option<bool>,
}

/// `<iommu>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Iommu {
    #[xml(attr, required)]
    pub model: IommuModel,
    #[xml(child)]
    pub driver: IommuDriver,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// What the IOMMU can do.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IommuDriver {
    #[xml(attr, with = OnOff)]
    pub intremap: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub caching_mode: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub eim: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub iotlb: Option<bool>,
    #[xml(attr)]
    pub aw_bits: Option<u32>,
    #[xml(attr, with = OnOff)]
    pub dma_translation: Option<bool>,
}

/// `<crypto>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Crypto {
    #[xml(attr, required)]
    pub model: CryptoModel,
    #[xml(attr = "type", required)]
    pub kind: CryptoKind,
    #[xml(
        child,
        once(XmlError, "only one crypto backend is supported"),
        need(XmlError, "only one crypto backend is supported")
    )]
    pub backend: CryptoBackend,
    #[xml(child)]
    pub driver: VirtioOptions,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// Who does a crypto device's work.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CryptoBackend {
    #[xml(attr, required)]
    pub model: CryptoBackendModel,
    #[xml(attr, read_if = not_zero)]
    pub queues: Option<u32>,
}

/// `<pstore>`: where a crashing guest leaves its log.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Pstore {
    #[xml(attr, required)]
    pub backend: PstoreBackend,
    #[xml(leaf)]
    pub path: Option<String>,
    #[xml(child, need(XmlError, "missing element or attribute './size'", Xml))]
    pub size: Option<Size>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// `<smartcard>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Smartcard::check)]
pub struct Smartcard {
    #[xml(flatten)]
    pub mode: SmartcardMode,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Smartcard {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let SmartcardMode::Passthrough(side) = &self.mode else { return Ok(()) };
        if e.attr("type").is_none() {
            let text = "passthrough mode requires a character device type attribute";
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        side.backend.check(e)
    }
}

/// Where the smartcard is.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(tag = "mode")]
pub enum SmartcardMode {
    #[default]
    Host,
    #[xml("host-certificates")]
    HostCertificates(Certificates),
    Passthrough(LoggedBackend),
}

/// Certificates that make up a card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Certificates::check)]
pub struct Certificates {
    #[xml(leaf = "certificate")]
    pub certificates: Vec<String>,
    #[xml(leaf)]
    pub database: Option<String>,
}

impl Certificates {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.certificates.len() == 3 {
            return Ok(());
        }
        let text = "host-certificates mode needs exactly three certificates";
        Err(e.error(Code::XmlError, Domain::Domain, text))
    }
}
