//! PCI controllers: which machine has which model, and which settings each model has.

use virt_error::{Error, Result};

use super::{Checker, unsupported};
use crate::document::types::{Address, Controller, PciModelName};
use crate::document::{machine, xml_error};

/// The settings a model has, and the devices it can be.
struct Has {
    options: &'static [&'static str],
    devices: &'static [PciModelName],
}

/// What a model of a PCI controller can be told.
fn has(model: &str, pseries: bool) -> Has {
    let (options, devices): (&[_], &[_]) = match model {
        "pci-root" if pseries => (&["targetIndex", "numaNode", "pcihole64"], &[PciModelName::SpaprPhb]),
        "pci-root" => (&["hotplug", "targetIndex", "pcihole64"], &[]),
        "pcie-root" => (&["targetIndex", "pcihole64"], &[]),
        "pci-bridge" => (&["chassisNr", "memReserve"], &[PciModelName::PciBridge]),
        "dmi-to-pci-bridge" => (&[], &[PciModelName::I82801b11]),
        "pcie-to-pci-bridge" => (&[], &[PciModelName::PciePciBridge]),
        "pcie-root-port" => (
            &["chassis", "port", "hotplug", "memReserve"],
            &[PciModelName::PcieRootPort, PciModelName::Ioh3420],
        ),
        "pcie-switch-upstream-port" => (&[], &[PciModelName::X3130Upstream]),
        "pcie-switch-downstream-port" => {
            (&["chassis", "port", "hotplug"], &[PciModelName::Xio3130Downstream])
        }
        "pci-expander-bus" => (&["busNr", "numaNode"], &[PciModelName::Pxb]),
        "pcie-expander-bus" => (&["busNr", "numaNode"], &[PciModelName::PxbPcie]),
        _ => (&[], &[]),
    };
    Has { options, devices }
}

fn refuse(c: &Controller, option: &str, how: &str) -> Error {
    unsupported(format!(
        "Option '{option}' {how} for PCI controller with index '{}', model '{}' and modelName '{}'",
        c.index.unwrap_or(0),
        c.model.as_deref().unwrap_or_default(),
        c.pci_model.unwrap_or_default()
    ))
}

impl Checker<'_> {
    pub(super) fn pci(&self, c: &Controller) -> Result<()> {
        let model = c.model.as_deref().unwrap_or_default();
        self.pci_bus(c)?;
        let pcie = machine::has_pcie_root(self.arch(), self.machine);
        let express = matches!(
            model,
            "pcie-root-port"
                | "pcie-switch-upstream-port"
                | "pcie-switch-downstream-port"
                | "pcie-expander-bus"
                | "dmi-to-pci-bridge"
        );
        if express && !pcie {
            return Err(unsupported(format!(
                "pci controller model '{model}' is not supported for machine type '{}'",
                self.machine
            )));
        }
        if model == "pci-expander-bus" && !machine::is_i440fx(self.machine) {
            return Err(unsupported(
                "pci-expander-bus controllers are only supported on 440fx-based machinetypes",
            ));
        }
        let has = has(model, machine::is_pseries(self.machine));
        match c.pci_model {
            Some(name) if has.devices.is_empty() && name != PciModelName::None => {
                return Err(refuse(c, "modelName", "is not valid"));
            }
            Some(name) if !has.devices.is_empty() && !has.devices.contains(&name) => {
                return Err(refuse(c, "modelName", "has invalid value"));
            }
            _ => {}
        }
        self.pci_options(c, &has)?;
        self.pci_ranges(c)
    }

    fn pci_options(&self, c: &Controller, has: &Has) -> Result<()> {
        let t = &c.target;
        let given = [
            ("chassisNr", t.chassis_nr.is_some()),
            ("chassis", t.chassis.is_some()),
            ("port", t.port.is_some()),
            ("busNr", t.bus_nr.is_some()),
            ("targetIndex", t.index.is_some()),
            ("pcihole64", c.pcihole64.is_some()),
            ("hotplug", t.hotplug.is_some()),
            ("numaNode", t.node.is_some()),
            ("memReserve", t.mem_reserve.is_some()),
        ];
        match given.iter().find(|(name, set)| *set && !has.options.contains(name)) {
            Some((name, _)) => Err(refuse(c, name, "is not valid")),
            None => Ok(()),
        }
    }

    fn pci_ranges(&self, c: &Controller) -> Result<()> {
        let t = &c.target;
        let ranges = [
            ("chassisNr", t.chassis_nr, 1, 255),
            ("chassis", t.chassis, 0, 255),
            ("port", t.port, 0, 255),
            ("busNr", t.bus_nr, 1, 254),
        ];
        for (name, value, low, high) in ranges {
            if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
                return Err(unsupported(format!(
                    "PCI controller {name} '{value}' out of range - must be {low}-{high}"
                )));
            }
        }
        if let Some(node) = t.node {
            let nodes = self.def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(0, |n| n.cells.len());
            if node as usize >= nodes {
                return Err(xml_error(format!(
                    "{} with index {} is configured for a NUMA node ({node}) not present in the domain's <cpu><numa> array ({nodes})",
                    c.model.as_deref().unwrap_or_default(),
                    c.index.unwrap_or(0)
                )));
            }
        }
        Ok(())
    }

    /// A controller's own bus has a higher number than the one it sits on.
    fn pci_bus(&self, c: &Controller) -> Result<()> {
        let index = c.index.unwrap_or(0);
        match &c.info.address {
            // The upstream port of a switch may be on a port with a higher number.
            _ if c.model.as_deref() == Some("pcie-switch-upstream-port") => Ok(()),
            Some(Address::Pci(a)) if a.bus >= index => Err(unsupported(format!(
                "PCI controller at index {index} ({index:#04x}) has bus='{:#04x}', but index must be larger than bus",
                a.bus
            ))),
            _ => Ok(()),
        }
    }
}
