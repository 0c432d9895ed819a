//! Controllers: buses that other devices sit on.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Bad, Base0, El, Hex, Lenient, Natural, NonZero, OnOff, Xml, names, not_zero};

use super::info::{DeviceInfo, VirtioOptions};
use crate::Size;

names! {
    /// What a controller is for.
    pub enum ControllerKind {
        Ide = "ide", Fdc = "fdc", Scsi = "scsi", Sata = "sata", VirtioSerial = "virtio-serial", Ccid = "ccid", Usb = "usb",
        Pci = "pci", Xenbus = "xenbus", Isa = "isa"
    }
    /// The device behind a PCI controller's model.
    pub enum PciModelName {
        None = "none", PciBridge = "pci-bridge", I82801b11 = "i82801b11-bridge", Ioh3420 = "ioh3420",
        X3130Upstream = "x3130-upstream", Xio3130Downstream = "xio3130-downstream", Pxb = "pxb", PxbPcie = "pxb-pcie",
        PcieRootPort = "pcie-root-port", SpaprPhb = "spapr-pci-host-bridge", PciePciBridge = "pcie-pci-bridge"
    }
}

/// Models of each kind of controller, as the reference knows them.
pub mod models {
    /// PCI.
    pub const PCI: &[&str] = &[
        "pci-root",
        "pcie-root",
        "pci-bridge",
        "dmi-to-pci-bridge",
        "pcie-to-pci-bridge",
        "pcie-root-port",
        "pcie-switch-upstream-port",
        "pcie-switch-downstream-port",
        "pci-expander-bus",
        "pcie-expander-bus",
    ];
    /// SCSI.
    pub const SCSI: &[&str] = &[
        "auto",
        "buslogic",
        "lsilogic",
        "lsisas1068",
        "vmpvscsi",
        "ibmvscsi",
        "virtio-scsi",
        "lsisas1078",
        "virtio-transitional",
        "virtio-non-transitional",
        "ncr53c90",
        "dc390",
        "am53c974",
    ];
    /// USB.
    pub const USB: &[&str] = &[
        "piix3-uhci",
        "piix4-uhci",
        "ehci",
        "ich9-ehci1",
        "ich9-uhci1",
        "ich9-uhci2",
        "ich9-uhci3",
        "vt82c686b-uhci",
        "pci-ohci",
        "nec-xhci",
        "qusb1",
        "qusb2",
        "qemu-xhci",
        "none",
    ];
    /// IDE.
    pub const IDE: &[&str] = &["piix3", "piix4", "ich6"];
    /// virtio-serial.
    pub const VIRTIO_SERIAL: &[&str] = &["virtio", "virtio-transitional", "virtio-non-transitional"];
    /// ISA.
    pub const ISA: &[&str] = &[];
}

/// `<controller>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Controller::check)]
pub struct Controller {
    #[xml(attr = "type")]
    pub kind: ControllerKind,
    /// Missing until one is chosen; written always.
    #[xml(attr, with = Natural)]
    pub index: Option<u32>,
    #[xml(attr)]
    pub model: Option<String>,
    /// Ports of a virtio-serial or USB controller.
    #[xml(attr)]
    pub ports: Option<u32>,
    #[xml(attr, with = Lenient)]
    pub vectors: Option<u32>,
    #[xml(attr = "maxGrantFrames", with = Lenient)]
    pub max_grant_frames: Option<u32>,
    #[xml(attr = "maxEventChannels", with = Lenient)]
    pub max_event_channels: Option<u32>,
    #[xml(attr)]
    pub serial: Option<String>,
    #[xml(attr = "model@name")]
    pub pci_model: Option<PciModelName>,
    #[xml(child)]
    pub target: ControllerTarget,
    #[xml(child)]
    pub driver: ControllerDriver,
    #[xml(flatten)]
    pub info: DeviceInfo,
    /// Size of the hole for 64-bit PCI addresses.
    #[xml(child, read_if = not_zero)]
    pub pcihole64: Option<Size>,
}

/// What a PCI controller shows the guest.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ControllerTarget {
    #[xml(attr = "chassisNr")]
    pub chassis_nr: Option<u32>,
    #[xml(attr)]
    pub chassis: Option<u32>,
    #[xml(attr, with = Hex<1>)]
    pub port: Option<u32>,
    #[xml(attr = "busNr", with = Base0)]
    pub bus_nr: Option<u32>,
    #[xml(attr)]
    pub index: Option<u32>,
    #[xml(attr, with = OnOff)]
    pub hotplug: Option<bool>,
    /// KiB kept for devices plugged in later.
    #[xml(attr = "memReserve", with = NonZero)]
    pub mem_reserve: Option<u64>,
    /// NUMA node of the devices behind it.
    #[xml(leaf)]
    pub node: Option<u32>,
}

/// How a virtio-scsi controller works.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ControllerDriver {
    #[xml(attr, read_if = not_zero)]
    pub queues: Option<u32>,
    #[xml(attr)]
    pub cmd_per_lun: Option<u32>,
    #[xml(attr)]
    pub max_sectors: Option<u32>,
    #[xml(attr, with = OnOff)]
    pub ioeventfd: Option<bool>,
    #[xml(attr, read_if = not_zero)]
    pub iothread: Option<u32>,
    #[xml(flatten)]
    pub virtio: VirtioOptions,
    #[xml(child)]
    pub iothreads: QueueMapping,
}

/// Which I/O thread serves which queue.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct QueueMapping {
    #[xml(child = "iothread")]
    pub iothreads: Vec<MappedIothread>,
}

/// An I/O thread and its queues; none listed means spread evenly.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MappedIothread {
    #[xml(attr, required)]
    pub id: u32,
    #[xml(child = "queue")]
    pub queues: Vec<MappedQueue>,
}

/// A queue by number.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MappedQueue {
    #[xml(attr, required)]
    pub id: u32,
}

impl Controller {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        for name in ["model", "target"] {
            if let Some(second) = e.children_named(name).nth(1) {
                let text = format!("Multiple <{name}> elements in controller definition not allowed");
                return Err(second.error(Code::XmlError, Domain::Domain, text));
            }
        }
        if let Some(model) = self.model.as_deref() {
            let known: &[&str] = match self.kind {
                ControllerKind::Pci => models::PCI,
                ControllerKind::Scsi => models::SCSI,
                ControllerKind::Usb => models::USB,
                ControllerKind::Ide => models::IDE,
                ControllerKind::VirtioSerial => models::VIRTIO_SERIAL,
                _ => &[],
            };
            if !known.contains(&model) {
                let text = format!("Unknown model type '{model}'");
                return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
            }
        }
        self.own_attributes(e)?;
        if self.kind != ControllerKind::Pci {
            (self.pci_model, self.target) = (None, ControllerTarget::default());
        }
        let root = matches!(self.model.as_deref(), Some("pci-root" | "pcie-root"));
        if self.kind != ControllerKind::Pci || !root {
            self.pcihole64 = None;
        }
        if self.kind == ControllerKind::Usb && self.model.as_deref() == Some("none") {
            self.info = DeviceInfo::default();
        }
        Ok(())
    }

    /// Attributes of one kind of controller mean nothing on another, whatever they say.
    fn own_attributes(&mut self, e: El<'_>) -> Result<()> {
        let kind = self.kind;
        let serial = kind == ControllerKind::VirtioSerial;
        let own = [
            (&mut self.vectors, "vectors", serial),
            (&mut self.max_grant_frames, "maxGrantFrames", kind == ControllerKind::Xenbus),
            (&mut self.max_event_channels, "maxEventChannels", kind == ControllerKind::Xenbus),
        ];
        for (value, name, counts) in own {
            match e.attr(name) {
                Some(text) if counts && value.is_none() => {
                    return Err(e.bad_attr(name, text, Bad::Expected("Expected non-negative integer value")));
                }
                _ if !counts => *value = None,
                _ => {}
            }
        }
        if !serial && kind != ControllerKind::Usb {
            self.ports = None;
        }
        // The schema has this for controllers that the reference does not know.
        self.serial = None;
        Ok(())
    }

    /// A controller nobody asked for.
    pub fn new(kind: ControllerKind, index: u32, model: Option<&str>) -> Self {
        Self { kind, index: Some(index), model: model.map(str::to_string), ..Self::default() }
    }
}
