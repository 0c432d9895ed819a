//! Controllers that QEMU or the machine cannot have.

use virt_error::Result;

use super::{Checker, unsupported};
use crate::document::types::{Controller, ControllerKind};
use crate::document::{machine, xml_detail, xml_error};

impl Checker<'_> {
    pub(super) fn controllers(&self) -> Result<()> {
        let list = &self.def.devices.controllers;
        let usb: Vec<&Controller> = list.iter().filter(|c| c.kind == ControllerKind::Usb).collect();
        let none = usb.iter().any(|c| c.model.as_deref() == Some("none"));
        if none && usb.len() > 1 {
            return Err(xml_detail("Can't add another USB controller: USB is disabled for this domain"));
        }
        if none && !self.def.devices.hubs.is_empty() {
            return Err(unsupported("Can't add USB hub: USB is disabled for this domain"));
        }
        for c in list {
            match c.kind {
                ControllerKind::Scsi => self.scsi(c)?,
                ControllerKind::Pci => self.pci(c)?,
                ControllerKind::Ide => self.ide(c)?,
                ControllerKind::Usb => self.usb(c)?,
                ControllerKind::Fdc if c.index.unwrap_or(0) > 0 => {
                    return Err(unsupported("Only a single fdc controller is supported"));
                }
                ControllerKind::Xenbus | ControllerKind::Isa => {
                    return Err(unsupported(format!("Unsupported controller type: {}", c.kind)));
                }
                _ => {}
            }
            if c.kind != ControllerKind::Scsi && c.driver.iothread.is_some() {
                return Err(xml_error("'iothread' attribute only supported for virtio scsi controllers"));
            }
        }
        Ok(())
    }

    fn scsi(&self, c: &Controller) -> Result<()> {
        let model = c.model.as_deref().unwrap_or_default();
        let device = match model {
            "lsilogic" => "lsi53c895a",
            "lsisas1068" => "mptsas1068",
            "lsisas1078" => "megasas",
            "vmpvscsi" => "pvscsi",
            "virtio-scsi" => "virtio-scsi-pci",
            "virtio-transitional" => "virtio-scsi-pci-transitional",
            "virtio-non-transitional" => "virtio-scsi-pci-non-transitional",
            "dc390" | "am53c974" => "am53c974",
            "buslogic" => return Err(unsupported(format!("Unsupported controller model: {model}"))),
            _ => "",
        };
        let virtio = model.starts_with("virtio");
        let present = device.is_empty()
            || self.emulator.has_type(device)
            || machine::is_s390(self.machine)
            || device == "lsi53c895a" && self.emulator.has_type("lsi");
        if !present {
            return Err(unsupported(format!("This QEMU doesn't support the {model} SCSI controller")));
        }
        let d = &c.driver;
        if !virtio {
            let options = [
                (d.queues.is_some(), "queues"),
                (d.cmd_per_lun.is_some(), "cmd_per_lun"),
                (d.max_sectors.is_some(), "max_sectors"),
                (d.ioeventfd.is_some(), "ioeventfd"),
            ];
            if let Some((_, name)) = options.iter().find(|(set, _)| *set) {
                return Err(unsupported(format!("'{name}' is only supported by virtio-scsi controller")));
            }
            if d.iothread.is_some() || !d.iothreads.iothreads.is_empty() {
                return Err(xml_error("'iothread' attribute only supported for virtio scsi controllers"));
            }
        }
        if let Some(id) = d.iothread {
            self.iothread(id, "controller")?;
        }
        for thread in &d.iothreads.iothreads {
            self.iothread(thread.id, "controller")?;
        }
        Ok(())
    }

    fn pci(&self, c: &Controller) -> Result<()> {
        let model = c.model.as_deref().unwrap_or_default();
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
        let t = &c.target;
        if t.chassis_nr.is_some_and(|n| !(1..=255).contains(&n)) {
            return Err(xml_error(format!(
                "PCI controller chassisNr '{}' out of range - must be 1-255",
                t.chassis_nr.unwrap_or(0)
            )));
        }
        if t.chassis.is_some_and(|n| n > 255) {
            return Err(xml_error(format!(
                "PCI controller chassis '{}' out of range - must be 0-255",
                t.chassis.unwrap_or(0)
            )));
        }
        if t.port.is_some_and(|n| n > 255) {
            return Err(xml_error(format!(
                "PCI controller port '{}' out of range - must be 0-255",
                t.port.unwrap_or(0)
            )));
        }
        if t.bus_nr.is_some_and(|n| !(1..=254).contains(&n)) {
            return Err(xml_error(format!(
                "PCI controller busNr '{}' out of range - must be 1-254",
                t.bus_nr.unwrap_or(0)
            )));
        }
        if c.pcihole64.is_some() && !matches!(model, "pci-root" | "pcie-root") {
            return Err(unsupported("Setting the 64-bit PCI hole size is only supported for root hubs"));
        }
        if let Some(node) = t.node {
            let nodes = self.def.cpu.as_ref().and_then(|c| c.numa.as_ref()).map_or(0, |n| n.cells.len());
            if node as usize >= nodes {
                return Err(xml_error(format!(
                    "{model} with index {} is configured for a NUMA node ({node}) not present in the domain's <cpu><numa> array ({nodes})",
                    c.index.unwrap_or(0)
                )));
            }
        }
        Ok(())
    }

    fn ide(&self, c: &Controller) -> Result<()> {
        if c.index == Some(0) && machine::has_builtin_ide(self.machine) {
            return Ok(());
        }
        let text = if machine::has_builtin_ide(self.machine) {
            "Only a single IDE controller is supported for this machine type"
        } else {
            "IDE controllers are unsupported for this QEMU binary or machine type"
        };
        Err(unsupported(text))
    }

    fn usb(&self, c: &Controller) -> Result<()> {
        let model = c.model.as_deref().unwrap_or_default();
        if c.model.is_none() {
            if machine::is_s390(self.machine) {
                return Ok(());
            }
            return Err(unsupported("no usable USB controller is available"));
        }
        if model == "qusb1" || model == "qusb2" {
            return Err(unsupported("USB controller model type 'qusb1' or 'qusb2' is not supported in qemu"));
        }
        if model.ends_with("xhci") && c.ports.is_some_and(|p| p > 15) {
            return Err(unsupported(format!("'{model}' controller only supports up to '15' ports")));
        }
        Ok(())
    }
}
