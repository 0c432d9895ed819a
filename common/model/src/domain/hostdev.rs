//! Host devices handed to the guest.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Hex, OnOff, Xml, YesElse, YesNo, names};

use super::address::PciAddress;
use super::disk::Sgio;
use super::info::DeviceInfo;
use super::interface::{HostUsbAddress, NetBackendName, Teaming};
use super::net::{IpAddress, Route};
use super::source::{Auth, NetworkHost, StartupPolicy};
use crate::{Uuid, UuidText};

names! {
    /// A device, or a capability of a container.
    pub enum HostdevMode { Subsystem = "subsystem", Capabilities = "capabilities" }
    /// The device a mediated or vhost SCSI device is shown as.
    pub enum HostdevModel {
        Default = "default", VfioPci = "vfio-pci", VfioCcw = "vfio-ccw", VfioAp = "vfio-ap", Virtio = "virtio",
        VirtioTransitional = "virtio-transitional", VirtioNonTransitional = "virtio-non-transitional"
    }
    /// How a SCSI host is reached.
    pub enum ScsiHostProtocol { None = "none", Vhost = "vhost" }
    /// How a SCSI device is reached.
    pub enum ScsiProtocol { None = "adapter", Iscsi = "iscsi" }
}

/// `<hostdev>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Hostdev::check)]
pub struct Hostdev {
    #[xml(attr)]
    pub mode: HostdevMode,
    #[xml(child)]
    pub driver: HostdevDriver,
    /// Writes the `type` attribute too.
    #[xml(flatten)]
    pub source: HostdevSource,
    #[xml(attr, with = YesElse)]
    pub managed: Option<bool>,
    #[xml(attr)]
    pub sgio: Option<Sgio>,
    #[xml(attr, with = YesNo)]
    pub rawio: Option<bool>,
    #[xml(attr)]
    pub model: Option<HostdevModel>,
    #[xml(attr, with = OnOff)]
    pub display: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub ramfb: Option<bool>,
    #[xml(child = "ip")]
    pub ips: Vec<IpAddress>,
    #[xml(child = "route")]
    pub routes: Vec<Route>,
    #[xml(child)]
    pub teaming: Option<Teaming>,
    #[xml(flag)]
    pub readonly: bool,
    #[xml(flag)]
    pub shareable: bool,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Hostdev {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if e.child("source").is_none() {
            return Err(e.error(
                Code::XmlError,
                Domain::Domain,
                "Missing <source> element in hostdev device",
            ));
        }
        if !matches!(self.source, HostdevSource::Pci(_)) {
            self.driver = HostdevDriver::default();
        }
        if let HostdevSource::Mdev(_) = &self.source {
            if self.model.is_none() {
                return Err(e.missing_attr("model"));
            }
            if e.child("source").is_some_and(|s| s.child("address").is_none()) {
                let text = "Missing <address> element";
                return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
            }
        }
        if let HostdevSource::Scsi(ScsiHostdev {
            protocol: Some(ScsiProtocol::Iscsi), name: Some(name), ..
        }) = &mut self.source
            && !name.contains('/')
        {
            name.push_str("/0");
        }
        Ok(())
    }
}

/// How a PCI device is given over.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HostdevDriver {
    #[xml(attr)]
    pub name: Option<NetBackendName>,
    #[xml(attr)]
    pub model: Option<String>,
}

/// The host's device.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum HostdevSource {
    #[xml("usb", child = "source")]
    Usb(UsbHostdev),
    #[xml("pci", child = "source")]
    Pci(PciHostdev),
    #[xml("scsi", child = "source")]
    Scsi(ScsiHostdev),
    #[xml("scsi_host", child = "source")]
    ScsiHost(ScsiHostHostdev),
    #[xml("mdev", child = "source")]
    Mdev(MdevHostdev),
    #[xml("storage", child = "source")]
    Storage(StorageCap),
    #[xml("misc", child = "source")]
    Misc(MiscCap),
    #[xml("net", child = "source")]
    Net(NetCap),
}

impl Default for HostdevSource {
    fn default() -> Self {
        Self::Pci(PciHostdev::default())
    }
}

/// A USB device, by vendor and product or by address.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct UsbHostdev {
    #[xml(attr = "startupPolicy")]
    pub startup_policy: Option<StartupPolicy>,
    #[xml(attr = "guestReset")]
    pub guest_reset: Option<GuestReset>,
    /// The device was not there when the guest started.
    #[xml(attr, with = YesNo, live)]
    pub missing: Option<bool>,
    #[xml(attr = "vendor@id", with = Hex<4>)]
    pub vendor: Option<u32>,
    #[xml(attr = "product@id", with = Hex<4>)]
    pub product: Option<u32>,
    #[xml(child)]
    pub address: Option<HostUsbAddress>,
}

names! {
    /// Whether the guest may reset a USB device.
    pub enum GuestReset { Default = "default", Off = "off", Uninitialized = "uninitialized", On = "on" }
}

/// A PCI device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PciHostdev {
    #[xml(attr = "writeFiltering", with = YesNo)]
    pub write_filtering: Option<bool>,
    #[xml(child)]
    pub address: PciAddress,
}

/// A SCSI device of the host or of an iSCSI target.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ScsiHostdev {
    #[xml(attr)]
    pub protocol: Option<ScsiProtocol>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr = "adapter@name")]
    pub adapter: Option<String>,
    #[xml(child)]
    pub address: Option<ScsiUnit>,
    #[xml(child = "host")]
    pub hosts: Vec<NetworkHost>,
    #[xml(child)]
    pub auth: Option<Auth>,
    #[xml(attr = "initiator/iqn@name")]
    pub initiator: Option<String>,
}

/// A unit of a SCSI adapter.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ScsiUnit {
    #[xml(attr, required)]
    pub bus: u32,
    #[xml(attr, required)]
    pub target: u32,
    #[xml(attr, required)]
    pub unit: u64,
}

/// A vhost SCSI target.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ScsiHostHostdev {
    #[xml(attr, required)]
    pub protocol: Option<ScsiHostProtocol>,
    #[xml(attr, need(XmlError, "missing vhost-scsi hostdev source wwpn"))]
    pub wwpn: Option<String>,
}

/// A mediated device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MdevHostdev {
    #[xml(
        attr = "address@uuid",
        with = UuidText,
        say(InternalError, "Cannot parse uuid attribute of element <address>")
    )]
    pub uuid: Option<Uuid>,
}

/// A block device in a container.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct StorageCap {
    #[xml(leaf)]
    pub block: Option<String>,
}

/// A character device in a container.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MiscCap {
    #[xml(leaf = "char")]
    pub chardev: Option<String>,
}

/// A network interface in a container.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetCap {
    #[xml(leaf)]
    pub interface: Option<String>,
}
