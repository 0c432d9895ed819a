//! Where a device is plugged: the `bus`, `addr`, `port` and similar properties, and names of virtio devices.

use crate::document::types::{Address, DeviceInfo, PciAddress, VirtioModel, VirtioOptions};

use super::Builder;
use super::props::Props;

impl Builder<'_> {
    /// Appends the properties of the device's address.
    pub(super) fn place(&self, props: Props, info: &DeviceInfo) -> Props {
        let props = match &info.address {
            Some(Address::Pci(a)) => self.place_pci(props, a),
            Some(Address::Usb(a)) => {
                props.with("bus", format!("{}.0", self.buses.usb(a.bus))).opt("port", a.port.as_deref())
            }
            Some(Address::Ccw(a)) => match (a.cssid, a.ssid, a.devno) {
                (Some(css), Some(ss), Some(devno)) => {
                    props.with("devno", format!("{css:x}.{ss:x}.{devno:04x}"))
                }
                _ => props,
            },
            Some(Address::SpaprVio(a)) => props.opt("reg", a.reg),
            Some(Address::Isa(a)) => props.opt("iobase", a.iobase).opt("irq", a.irq),
            _ => props,
        };
        props.opt("acpi-index", info.acpi_index)
    }

    fn place_pci(&self, props: Props, a: &PciAddress) -> Props {
        let addr = match a.function {
            0 => format!("0x{:x}", a.slot),
            function => format!("0x{:x}.0x{function:x}", a.slot),
        };
        props.with("bus", self.buses.pci(a.bus)).opt("multifunction", a.multifunction).with("addr", addr)
    }

    /// Appends the option ROM and boot place of a device that may have them.
    pub(super) fn rom(&self, props: Props, info: &DeviceInfo) -> Props {
        let rom = &info.rom;
        if rom.enabled == Some(false) {
            return props.with("romfile", "");
        }
        props.opt("rombar", rom.bar.map(u32::from)).opt("romfile", rom.file.as_deref())
    }
}

/// The driver name of a virtio device on the bus it sits on, with the options all virtio devices share.
pub(super) fn virtio(
    base: &str,
    model: Option<VirtioModel>,
    info: &DeviceInfo,
    options: &VirtioOptions,
) -> Props {
    let bus = match info.address {
        Some(Address::Ccw(_)) => "-ccw",
        Some(Address::VirtioMmio) => "-device",
        Some(Address::VirtioS390) => "-s390",
        _ => "-pci",
    };
    let variant = match model {
        Some(VirtioModel::Transitional) => "-transitional",
        Some(VirtioModel::NonTransitional) => "-non-transitional",
        _ => "",
    };
    virtio_options(Props::driver(&format!("{base}{bus}{variant}")), options)
}

/// The options all virtio devices share.
pub(super) fn virtio_options(props: Props, options: &VirtioOptions) -> Props {
    props
        .opt("iommu_platform", options.iommu)
        .opt("ats", options.ats)
        .opt("packed", options.packed)
        .opt("page-per-vq", options.page_per_vq)
}
