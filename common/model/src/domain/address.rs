//! Where a device sits.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Hex, OnOff, Xml};

use super::info::Zpci;

/// A device's `<address type='...'>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum Address {
    Pci(PciAddress),
    Drive(DriveAddress),
    #[xml("virtio-serial")]
    VirtioSerial(VirtioSerialAddress),
    Ccid(CcidAddress),
    Usb(UsbAddress),
    #[xml("spapr-vio")]
    SpaprVio(SpaprVioAddress),
    #[xml("virtio-s390")]
    VirtioS390,
    Ccw(CcwAddress),
    #[xml("virtio-mmio")]
    VirtioMmio,
    Isa(IsaAddress),
    Dimm(DimmAddress),
    /// The device is known but not plugged in.
    Unassigned,
}

/// `0000:00:03.0`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = PciAddress::check)]
pub struct PciAddress {
    #[xml(attr, with = Hex<4>)]
    pub domain: u32,
    #[xml(attr, with = Hex<2>)]
    pub bus: u32,
    #[xml(attr, with = Hex<2>)]
    pub slot: u32,
    #[xml(attr, with = Hex<1>)]
    pub function: u32,
    #[xml(attr, with = OnOff)]
    pub multifunction: Option<bool>,
    #[xml(child)]
    pub zpci: Zpci,
}

impl PciAddress {
    /// An address with nothing in it asks for one to be chosen.
    pub fn is_unset(&self) -> bool {
        self.domain == 0 && self.bus == 0 && self.slot == 0
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let bad = |text: String| Err(e.error(Code::XmlError, Domain::None, text));
        if self.domain > 0xffff {
            return bad(format!("Invalid PCI address domain='0x{:x}', must be <= 0xFFFF", self.domain));
        }
        if self.bus > 0xff {
            return bad(format!("Invalid PCI address bus='0x{:x}', must be <= 0xFF", self.bus));
        }
        if self.slot > 0x1f {
            return bad(format!("Invalid PCI address slot='0x{:x}', must be <= 0x1F", self.slot));
        }
        if self.function > 7 {
            return bad(format!("Invalid PCI address function=0x{:x}, must be <= 7", self.function));
        }
        Ok(())
    }
}

impl std::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

/// A place on a disk controller.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DriveAddress {
    #[xml(attr)]
    pub controller: u32,
    #[xml(attr)]
    pub bus: u32,
    #[xml(attr)]
    pub target: u32,
    #[xml(attr)]
    pub unit: u32,
    /// Kind of controller, where the device's own name does not say it.
    #[xml(attr)]
    pub diskbus: Option<String>,
}

/// A port of a virtio-serial controller.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VirtioSerialAddress {
    #[xml(attr)]
    pub controller: u32,
    #[xml(attr)]
    pub bus: u32,
    /// 0 asks for a free one.
    #[xml(attr)]
    pub port: u32,
}

/// A slot of a smartcard controller.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CcidAddress {
    #[xml(attr)]
    pub controller: u32,
    #[xml(attr)]
    pub slot: u32,
}

/// A USB port, with the hubs on the way: `1.2.3`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = UsbAddress::check)]
pub struct UsbAddress {
    #[xml(attr)]
    pub bus: u32,
    #[xml(attr)]
    pub port: Option<String>,
}

impl UsbAddress {
    /// At most four numbers with dots between.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let Some(port) = &self.port else { return Ok(()) };
        let fine = |n: &str| n.parse::<u32>().is_ok();
        if port.split('.').count() > 4 || !port.split('.').all(fine) {
            let text = "Cannot parse <address> 'port' attribute";
            return Err(e.error(Code::InternalError, Domain::Device, text).with("value", port));
        }
        if port.split('.').all(|n| n.parse() == Ok(0)) {
            self.port = None;
        }
        Ok(())
    }

    /// The numbers of `port`.
    pub fn path(&self) -> Vec<u32> {
        self.port.iter().flat_map(|p| p.split('.')).filter_map(|n| n.parse().ok()).collect()
    }
}

/// A register of the PowerPC virtual I/O bus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SpaprVioAddress {
    #[xml(attr, with = Hex<8>)]
    pub reg: Option<u64>,
}

/// A channel device of s390x: all three numbers or none.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CcwAddress::check)]
pub struct CcwAddress {
    #[xml(attr, with = Hex<1>)]
    pub cssid: Option<u32>,
    #[xml(attr, with = Hex<1>)]
    pub ssid: Option<u32>,
    #[xml(attr, with = Hex<4>)]
    pub devno: Option<u32>,
}

impl CcwAddress {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let text = match (self.cssid, self.ssid, self.devno) {
            (None, None, None) => return Ok(()),
            (Some(cssid), Some(ssid), Some(devno)) => {
                if cssid <= 0xfe && ssid <= 3 && devno <= 0xffff {
                    return Ok(());
                }
                format!(
                    "Invalid specification for virtio ccw address: cssid='0x{cssid:x}' ssid='0x{ssid:x}' devno='0x{devno:04x}'"
                )
            }
            _ => "Invalid partial specification for virtio ccw address".to_string(),
        };
        Err(e.error(Code::InternalError, Domain::Domain, text))
    }
}

/// An ISA port and interrupt.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IsaAddress {
    #[xml(attr, with = Hex<1>, read_if = virt_xml::not_zero)]
    pub iobase: Option<u32>,
    #[xml(attr, with = Hex<1>, read_if = virt_xml::not_zero)]
    pub irq: Option<u32>,
}

/// A memory slot.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DimmAddress {
    #[xml(attr, required)]
    pub slot: u32,
    #[xml(attr, with = Hex<1>, read_if = virt_xml::not_zero)]
    pub base: Option<u64>,
}
