//! All other devices that QEMU or the machine cannot have.

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::info::each;

use super::{Checker, unsupported};
use crate::document::types::{
    AccessMode, Address, FsDriverType, FsSource, Hostdev, HostdevModel, HostdevSource, InputBus, InputKind,
    IommuModel, Multidevs, PanicModel, ShmemModel, SoundModel, WatchdogModel,
};
use crate::document::{machine, xml_error};

impl Checker<'_> {
    pub(super) fn devices(&self) -> Result<()> {
        self.inputs()?;
        self.shmems()?;
        self.filesystems()?;
        self.machine_devices()
    }

    pub(super) fn iommus(&self) -> Result<()> {
        each(&self.def.devices.iommus, |iommu| {
            let model = iommu.model;
            let q35 = machine::is_q35(self.machine);
            let arm = machine::is_arm_virt(self.arch(), self.machine);
            match model {
                IommuModel::Intel if !q35 => {
                    return Err(unsupported(format!(
                        "IOMMU device: '{model}' is only supported with Q35 machines"
                    )));
                }
                IommuModel::Smmuv3 if !arm => {
                    return Err(unsupported(format!(
                        "IOMMU device: '{model}' is only supported with ARM Virt machines"
                    )));
                }
                IommuModel::Virtio if !q35 && !arm => {
                    return Err(unsupported(format!(
                        "IOMMU device: '{model}' is only supported with Q35 and ARM Virt machines"
                    )));
                }
                IommuModel::Virtio if !self.def.features.acpi => {
                    return Err(unsupported(format!("IOMMU device: '{model}' requires ACPI")));
                }
                _ => {}
            }
            let d = &iommu.driver;
            let split = self.def.features.ioapic == Some(crate::document::types::IoapicDriver::Qemu);
            if d.intremap == Some(true) && !split {
                return Err(unsupported(
                    "IOMMU interrupt remapping requires split I/O APIC (ioapic driver='qemu')",
                ));
            }
            if d.eim == Some(true) && d.intremap != Some(true) {
                return Err(unsupported("IOMMU eim requires interrupt remapping to be enabled"));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn inputs(&self) -> Result<()> {
        let off = self.def.features.ps2.as_ref().is_some_and(|s| s.state == Some(false));
        each(&self.def.devices.inputs, |input| {
            match input.bus.unwrap_or_default() {
                InputBus::Ps2 if off => {
                    return Err(unsupported("ps2 bus inputs require the ps2 feature not to be disabled"));
                }
                InputBus::Ps2 if !matches!(input.kind, InputKind::Mouse | InputKind::Keyboard) => {
                    let text = format!("ps2 bus does not support {} input device", input.kind);
                    return Err(Error::internal(From::Domain, text));
                }
                bus if input.kind == InputKind::Passthrough && bus != InputBus::Virtio => {
                    return Err(unsupported(
                        "only bus 'virtio' is supported for 'passthrough' input devices",
                    ));
                }
                InputBus::Xen => {
                    return Err(Error::internal(From::Domain, "unsupported input bus xen"));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn shmems(&self) -> Result<()> {
        each(&self.def.devices.shmems, |shmem| {
            if let Some(size) = shmem.size
                && (!size.bytes.is_power_of_two() || size.bytes < 1 << 20)
            {
                return Err(xml_error("shmem size must be a power of 2 and at least 1 MiB (1024 KiB)"));
            }
            if shmem.msi.is_some() && shmem.server.is_none() {
                return Err(xml_error("msi option is only supported with a server"));
            }
            match shmem.model.unwrap_or_default() {
                ShmemModel::Ivshmem => {
                    return Err(unsupported("ivshmem device is no longer supported"));
                }
                _ if shmem.name.contains('/') => {
                    return Err(unsupported("shmem name cannot include '/' character"));
                }
                ShmemModel::Doorbell if shmem.server.is_none() => {
                    return Err(unsupported("shmem model 'ivshmem-doorbell' requires a server"));
                }
                ShmemModel::Plain if shmem.server.is_some() => {
                    return Err(unsupported("shmem model 'ivshmem-plain' can't have a server"));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    pub(super) fn hostdevs(&self) -> Result<()> {
        let all = &self.def.devices.hostdevs;
        if all.iter().filter(|h| h.ramfb == Some(true)).count() > 1 {
            return Err(unsupported("Only one vgpu device can have 'ramfb' enabled"));
        }
        each(all, |dev| self.hostdev(dev))
    }

    fn hostdev(&self, dev: &Hostdev) -> Result<()> {
        if dev.display == Some(true) && self.def.devices.graphics.is_empty() {
            return Err(unsupported(
                "graphics device is needed for attribute value 'display=on' in <hostdev>",
            ));
        }
        match &dev.source {
            HostdevSource::Pci(s) if s.write_filtering == Some(false) => {
                return Err(unsupported(
                    "Write filtering of PCI device configuration space is not supported by qemu",
                ));
            }
            HostdevSource::Mdev(_) => {
                let model = dev.model.unwrap_or_default();
                if model == HostdevModel::VfioCcw && !self.emulator.has_type("vfio-ccw") {
                    return Err(unsupported(
                        "VFIO CCW device assignment is not supported by this version of QEMU",
                    ));
                }
                let fits = matches!(
                    (&dev.info.address, model),
                    (None, _)
                        | (Some(Address::Pci(_)), HostdevModel::VfioPci)
                        | (Some(Address::Ccw(_)), HostdevModel::VfioCcw)
                );
                if !fits && model != HostdevModel::Default {
                    let kind = dev.info.address.as_ref().map_or("none", address_name);
                    return Err(xml_error(format!(
                        "Unsupported address type '{kind}' with mediated device model '{model}'"
                    )));
                }
            }
            HostdevSource::Scsi(_) => {
                if let Some(Address::Drive(a)) = &dev.info.address {
                    self.scsi_place(a)?;
                }
            }
            HostdevSource::ScsiHost(_) if dev.info.boot.is_some() => {
                return Err(unsupported(
                    "booting from assigned devices is not supported by vhost SCSI devices",
                ));
            }
            HostdevSource::Storage(_) | HostdevSource::Misc(_) | HostdevSource::Net(_) => {
                return Err(unsupported("hostdev mode 'capabilities' is not supported in qemu"));
            }
            _ => {}
        }
        Ok(())
    }

    fn filesystems(&self) -> Result<()> {
        each(&self.def.devices.filesystems, |fs| {
            if !matches!(fs.source, FsSource::Mount(_)) {
                return Err(unsupported("only supports mount filesystem type"));
            }
            let kind = fs.driver.kind.unwrap_or_default();
            let mode = fs.accessmode.unwrap_or(AccessMode::Passthrough);
            if (fs.fmode.is_some() || fs.dmode.is_some()) && mode != AccessMode::Mapped {
                return Err(unsupported("fmode and dmode must be used with accessmode=mapped"));
            }
            if kind == FsDriverType::Handle && mode != AccessMode::Passthrough {
                return Err(unsupported("only supports passthrough accessmode"));
            }
            if kind == FsDriverType::Virtiofs {
                if fs.multidevs.is_some_and(|m| m != Multidevs::Default) {
                    return Err(unsupported("virtiofs does not support multidevs"));
                }
                if mode != AccessMode::Passthrough {
                    return Err(unsupported("virtiofs only supports passthrough accessmode"));
                }
            }
            match kind {
                FsDriverType::Default | FsDriverType::Path | FsDriverType::Handle | FsDriverType::Mtp => {}
                FsDriverType::Virtiofs if !self.shares_memory() => {
                    return Err(unsupported("'virtiofs' requires shared memory"));
                }
                FsDriverType::Virtiofs => {}
                kind => {
                    return Err(unsupported("Filesystem driver type not supported").with("driver", kind));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn machine_devices(&self) -> Result<()> {
        let d = &self.def.devices;
        let arch = self.arch();
        let x86 = machine::is_x86(arch);
        if let Some(first) = d.watchdogs.first()
            && d.watchdogs.iter().any(|w| w.action != first.action)
        {
            return Err(unsupported(
                "watchdogs with different actions are not supported with this QEMU binary",
            ));
        }
        each(&d.watchdogs, |watchdog| {
            let fits = match watchdog.model {
                WatchdogModel::Itco => machine::is_q35(self.machine),
                WatchdogModel::Ib700 => true,
                WatchdogModel::Diag288 => arch == "s390x",
                WatchdogModel::I6300esb => true,
            };
            if !fits {
                let text = match watchdog.model {
                    WatchdogModel::Itco => "itco model of watchdog is only part of q35 machine",
                    _ => "diag288 model of watchdog is allowed for s390 and s390x only",
                };
                return Err(unsupported(text));
            }
            Ok(())
        })?;
        each(&d.panics, |panic| {
            let fits = match panic.model {
                Some(PanicModel::Isa | PanicModel::Hyperv) => x86,
                Some(PanicModel::Pseries) => machine::is_pseries(self.machine),
                Some(PanicModel::S390) => arch == "s390x",
                _ => true,
            };
            if !fits {
                let model = panic.model.unwrap_or_default();
                let of = match model {
                    PanicModel::Isa => return Ok(()),
                    PanicModel::Hyperv => "i686 and x86_64",
                    PanicModel::Pseries => "pSeries",
                    _ => "S390",
                };
                let text = format!("only {of} guests support panic device of model '{model}'");
                return Err(unsupported(text));
            }
            Ok(())
        })?;
        each(&d.tpms, |tpm| {
            if tpm.backend.is_none() {
                return Err(xml_error("missing TPM device backend"));
            }
            Ok(())
        })?;
        each(&d.sounds, |sound| {
            let hda = matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich9);
            if !sound.codecs.is_empty() && !hda {
                return Err(unsupported(format!("sound model '{}' does not have codecs", sound.model)));
            }
            Ok(())
        })?;
        if d.nvram.is_some() && !machine::is_pseries(self.machine) {
            return Err(unsupported("nvram device is only supported for PPC64"));
        }
        Ok(())
    }
}

fn address_name(a: &Address) -> &'static str {
    match a {
        Address::Pci(_) => "pci",
        Address::Drive(_) => "drive",
        Address::VirtioSerial(_) => "virtio-serial",
        Address::Ccid(_) => "ccid",
        Address::Usb(_) => "usb",
        Address::SpaprVio(_) => "spapr-vio",
        Address::Ccw(_) => "ccw",
        Address::Isa(_) => "isa",
        Address::Dimm(_) => "dimm",
        _ => "other",
    }
}
