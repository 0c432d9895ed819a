//! Controllers: PCI, USB, SCSI, IDE, SATA, virtio-serial, CCID.

use std::collections::HashMap;

use crate::document::types::{Controller, ControllerKind, Domain, PciModelName, VirtioModel};
use virt_error::Result;

use super::Builder;
use super::address::virtio;
use super::disk::queue_mapping;
use super::props::{Props, on_off};
use crate::document::machine;

/// Names of the buses that devices plug into, by controller.
#[derive(Default)]
pub(super) struct Buses {
    pci: HashMap<u32, String>,
    usb: HashMap<u32, String>,
    others: HashMap<(ControllerKind, u32), String>,
    scsi_models: HashMap<u32, String>,
}

impl Buses {
    pub(super) fn new(def: &Domain) -> Self {
        let mut buses = Self::default();
        for c in &def.devices.controllers {
            let index = c.index.unwrap_or(0);
            let alias = c.info.alias.clone().unwrap_or_default();
            match c.kind {
                // A root bus is the machine's own and keeps its name.
                ControllerKind::Pci => {
                    let name = match c.model.as_deref() {
                        Some("pcie-root") => "pcie.0".to_string(),
                        Some("pci-root") if index == 0 => "pci.0".to_string(),
                        // A further host bridge: the bus is called after it.
                        Some("pci-root") if c.pci_model.is_some() => format!("{alias}.0"),
                        Some("pci-root") => format!("pci.{index}"),
                        _ => alias,
                    };
                    buses.pci.entry(index).or_insert(name);
                }
                // Companions share the index of the controller they help; the first one names the bus.
                ControllerKind::Usb => {
                    let companion = c.info.master_startport.is_some();
                    if !companion {
                        buses.usb.insert(index, alias);
                    } else {
                        buses.usb.entry(index).or_insert(alias);
                    }
                }
                kind => {
                    if let Some(model) = c.model.clone().filter(|_| kind == ControllerKind::Scsi) {
                        buses.scsi_models.entry(index).or_insert(model);
                    }
                    buses.others.entry((kind, index)).or_insert(alias);
                }
            }
        }
        buses
    }

    /// The PCI bus behind the controller with this index.
    pub(super) fn pci(&self, index: u32) -> String {
        self.pci.get(&index).cloned().unwrap_or_else(|| format!("pci.{index}"))
    }

    /// The USB controller with this index, without the `.0` of its bus.
    pub(super) fn usb(&self, index: u32) -> String {
        self.usb.get(&index).cloned().unwrap_or_else(|| "usb".into())
    }

    /// Any other controller.
    pub(super) fn controller(&self, kind: ControllerKind, index: u32) -> String {
        self.others.get(&(kind, index)).cloned().unwrap_or_else(|| match (kind, index) {
            (ControllerKind::Ide | ControllerKind::Sata, 0) => "ide".into(),
            _ => format!("{kind}{index}"),
        })
    }

    /// The model of a SCSI controller.
    pub(super) fn scsi_model(&self, index: u32) -> Option<&str> {
        self.scsi_models.get(&index).map(String::as_str)
    }
}

impl Builder<'_> {
    /// Options of controllers that are part of the machine.
    pub(super) fn global_controllers(&mut self) {
        for c in &self.def.devices.controllers {
            let i440fx = machine::is_i440fx(self.machine());
            if c.kind == ControllerKind::Pci
                && c.index == Some(0)
                && i440fx
                && let Some(on) = c.target.hotplug
            {
                self.line.arg("-global", format!("PIIX4_PM.acpi-root-pci-hotplug={}", on_off(on)));
            }
            if let (ControllerKind::Pci, Some(hole)) = (c.kind, c.pcihole64) {
                let host = match c.model.as_deref() {
                    Some("pci-root") => "i440FX-pcihost",
                    Some("pcie-root") => "q35-pcihost",
                    _ => continue,
                };
                self.line.arg("-global", format!("{host}.pci-hole64-size={}K", hole.kib));
            }
        }
    }

    /// Controllers that are devices of their own, in the order QEMU needs them.
    pub(super) fn controllers(&mut self) -> Result<()> {
        const ORDER: &[ControllerKind] = &[
            ControllerKind::Pci,
            ControllerKind::Usb,
            ControllerKind::Scsi,
            ControllerKind::Ide,
            ControllerKind::Sata,
            ControllerKind::VirtioSerial,
        ];
        for kind in ORDER {
            self.controllers_of(*kind);
        }
        Ok(())
    }

    /// Smartcard readers, which need USB hubs first.
    pub(super) fn ccid_controllers(&mut self) {
        self.controllers_of(ControllerKind::Ccid);
    }

    fn controllers_of(&mut self, kind: ControllerKind) {
        let def = self.def;
        for c in def.devices.controllers.iter().filter(|c| c.kind == kind) {
            if let Some(props) = self.controller(c) {
                self.line.device(props);
            }
        }
    }

    fn controller(&self, c: &Controller) -> Option<Props> {
        let index = c.index.unwrap_or(0);
        let alias = c.info.alias.clone().unwrap_or_default();
        let model = c.model.as_deref();
        let props = match c.kind {
            ControllerKind::Pci => self.pci_controller(c)?.with("id", alias),
            ControllerKind::Usb => self.usb_controller(c)?,
            ControllerKind::Scsi => self.scsi_controller(c)?,
            ControllerKind::VirtioSerial => {
                let variant = VirtioModel::from_name(model.unwrap_or("default"));
                virtio("virtio-serial", variant, &c.info, &c.driver.virtio)
                    .with("id", alias)
                    .opt("max_ports", c.ports)
                    .opt("vectors", c.vectors)
            }
            // The first ones are part of the machine.
            ControllerKind::Sata if index == 0 && machine::is_q35(self.machine()) => return None,
            ControllerKind::Sata => Props::driver("ahci").with("id", alias),
            ControllerKind::Ccid => Props::driver("usb-ccid").with("id", alias),
            ControllerKind::Ide | ControllerKind::Fdc | ControllerKind::Xenbus | ControllerKind::Isa => {
                return None;
            }
        };
        Some(self.place(props, &c.info))
    }

    fn pci_controller(&self, c: &Controller) -> Option<Props> {
        let name = match c.pci_model {
            Some(PciModelName::None) | None => return None,
            Some(PciModelName::SpaprPhb) if c.target.index == Some(0) => return None,
            Some(name) => name.as_str(),
        };
        let t = &c.target;
        let props = Props::driver(name);
        Some(match c.model.as_deref()? {
            "pci-bridge" => props
                .opt("chassis_nr", t.chassis_nr)
                .opt("shpc", t.hotplug)
                .opt("mem-reserve", t.mem_reserve.map(|kib| kib * 1024)),
            "pci-expander-bus" | "pcie-expander-bus" => {
                props.opt("bus_nr", t.bus_nr).opt("numa_node", t.node)
            }
            "pcie-root-port" | "pcie-switch-downstream-port" => props
                .opt("port", t.port)
                .opt("chassis", t.chassis)
                .with("id", c.info.alias.clone().unwrap_or_default())
                .opt("hotplug", t.hotplug)
                .opt("mem-reserve", t.mem_reserve.map(|kib| kib * 1024)),
            "pcie-to-pci-bridge" | "pcie-switch-upstream-port" | "dmi-to-pci-bridge" => props,
            // Further host bridges of PowerPC; x86 has one, which is part of the machine.
            "pci-root" if c.pci_model == Some(PciModelName::SpaprPhb) => {
                props.opt("index", t.index).opt("numa_node", t.node)
            }
            _ => return None,
        })
    }

    fn usb_controller(&self, c: &Controller) -> Option<Props> {
        let driver = match c.model.as_deref()? {
            "none" => return None,
            "piix3-uhci" => "piix3-usb-uhci",
            "piix4-uhci" => "piix4-usb-uhci",
            "ehci" => "usb-ehci",
            "ich9-ehci1" => "ich9-usb-ehci1",
            "ich9-uhci1" => "ich9-usb-uhci1",
            "ich9-uhci2" => "ich9-usb-uhci2",
            "ich9-uhci3" => "ich9-usb-uhci3",
            "vt82c686b-uhci" => "vt82c686b-usb-uhci",
            "nec-xhci" => "nec-usb-xhci",
            other => other,
        };
        let props = Props::driver(driver).opt("p2", c.ports).opt("p3", c.ports);
        Some(match c.info.master_startport {
            // A companion has no name of its own: it serves ports of the controller with the same index.
            Some(port) => props
                .with("masterbus", format!("{}.0", self.buses.usb(c.index.unwrap_or(0))))
                .with("firstport", port),
            None => props.with("id", c.info.alias.clone().unwrap_or_default()),
        })
    }

    fn scsi_controller(&self, c: &Controller) -> Option<Props> {
        let alias = c.info.alias.clone().unwrap_or_default();
        let driver = &c.driver;
        let model = c.model.as_deref()?;
        Some(match model {
            "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional" => {
                let variant = VirtioModel::from_name(model);
                virtio("virtio-scsi", variant, &c.info, &driver.virtio)
                    .opt("iothread", driver.iothread.map(|n| format!("iothread{n}")))
                    .with("id", alias)
                    .opt("num_queues", driver.queues)
                    .opt("cmd_per_lun", driver.cmd_per_lun)
                    .opt("max_sectors", driver.max_sectors)
                    .opt("ioeventfd", driver.ioeventfd)
                    .opt("iothread-vq-mapping", queue_mapping(&driver.iothreads))
            }
            _ => {
                let name = match model {
                    "lsilogic" | "auto" => "lsi",
                    "lsisas1078" => "megasas",
                    "lsisas1068" => "mptsas1068",
                    "vmpvscsi" => "pvscsi",
                    "ibmvscsi" => "spapr-vscsi",
                    // Built into their boards.
                    "ncr53c90" => return None,
                    "dc390" => "dc390",
                    "am53c974" => "am53c974",
                    other => other,
                };
                Props::driver(name).with("id", alias)
            }
        })
    }
}
