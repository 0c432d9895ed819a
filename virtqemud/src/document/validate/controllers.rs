//! Controllers that QEMU or the machine cannot have.

use virt_error::Result;
use virt_model::domain::info::each;

use super::{Checker, unsupported};
use crate::document::types::{Controller, ControllerKind};
use crate::document::{machine, xml_error};

impl Checker<'_> {
    pub(super) fn controllers(&self) -> Result<()> {
        each(&self.def.devices.controllers, |c| {
            match c.kind {
                ControllerKind::Scsi => self.scsi(c)?,
                ControllerKind::Pci => self.pci(c)?,
                ControllerKind::VirtioSerial => scsi_only(c)?,
                ControllerKind::Ide => self.ide(c)?,
                ControllerKind::Usb => self.usb(c)?,
                ControllerKind::Xenbus | ControllerKind::Isa => {
                    return Err(unsupported(format!("Unsupported controller type: {}", c.kind)));
                }
                _ => {}
            }
            Ok(())
        })?;
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
            scsi_only(c)?;
            if d.iothread.is_some() || !d.iothreads.iothreads.is_empty() {
                return Err(xml_error("'iothread' attribute only supported for virtio scsi controllers"));
            }
        }
        if let Some(id) = d.iothread {
            self.iothread(id, "controller")?;
        }
        self.mapping(&d.iothreads, d.queues)
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

/// Settings of the virtio SCSI controller alone.
fn scsi_only(c: &Controller) -> Result<()> {
    let d = &c.driver;
    let options = [
        (d.queues.is_some(), "queues"),
        (d.cmd_per_lun.is_some(), "cmd_per_lun"),
        (d.max_sectors.is_some(), "max_sectors"),
        (d.ioeventfd.is_some(), "ioeventfd"),
    ];
    match options.iter().find(|(set, _)| *set) {
        Some((_, name)) => Err(unsupported(format!("'{name}' is only supported by virtio-scsi controller"))),
        None => Ok(()),
    }
}
