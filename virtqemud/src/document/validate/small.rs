//! Devices that some emulators or machines do not have, and addresses that belong to others.

use virt_error::Result;
use virt_model::domain::info::each;
use virt_xml::At;

use super::{Checker, unsupported};
use crate::document::types::{
    Address, BalloonModel, ControllerKind, Crypto, CryptoBackendModel, DeviceInfo, InputBus, PanicModel,
    Pstore, ShmemModel, Tpm, TpmBackend, TpmModel, TpmVersion, VirtioModel, WatchdogModel,
};
use crate::document::{machine, xml_error};

/// Smaller numbers are the hypervisor's and the host's.
const FIRST_CID: u32 = 3;

impl Checker<'_> {
    /// What any device's address and numbers must fulfil.
    pub(super) fn placement(&self) -> Result<()> {
        let s390 = machine::is_s390(self.machine);
        let of_host = |info| self.def.devices.hostdevs.iter().any(|h| std::ptr::eq(&h.info, info));
        let d = &self.def.devices;
        each(
            d.channels.iter().map(|c| &c.info).chain(d.consoles.iter().map(|c| &c.info)),
            |info| match &info.address {
                Some(Address::VirtioSerial(a)) if !self.serial_controller(a.controller) => {
                    Err(xml_error(format!("virtio serial controller {} is missing", a.controller)))
                }
                _ => Ok(()),
            },
        )?;
        each(self.infos(), |info| {
            if let Some(Address::Pci(a)) = &info.address
                && !s390
                && (a.zpci.uid.is_some() || a.zpci.fid.is_some())
            {
                return Err(unsupported("This QEMU binary doesn't support zPCI"));
            }
            match &info.address {
                Some(Address::Unassigned) if !of_host(info) => {
                    return Err(unsupported("address of type 'unassigned' is supported only for hostdevs"));
                }
                Some(Address::Ccw(_)) if !s390 => {
                    let text = format!("CCW addresses are not supported by machine type '{}'", self.machine);
                    return Err(unsupported(text));
                }
                _ => {}
            }
            if info.rom.file.is_some() | info.rom.bar.is_some()
                && !matches!(info.address, None | Some(Address::Pci(_)))
            {
                return Err(unsupported("ROM tuning is only supported for PCI devices"));
            }
            if info.acpi_index.is_some()
                && info.address.is_some()
                && !matches!(info.address, Some(Address::Pci(_)))
            {
                return Err(unsupported("ACPI index is only supported for PCI devices"));
            }
            if info.rom.enabled == Some(false) && (info.rom.bar.is_some() || info.rom.file.is_some()) {
                return Err(unsupported("ROM tuning is not supported when ROM is disabled"));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn serial_controller(&self, index: u32) -> bool {
        let mut all = self.def.devices.controllers.iter();
        all.any(|c| c.kind == ControllerKind::VirtioSerial && c.index == Some(index))
    }

    fn infos(&self) -> impl Iterator<Item = &DeviceInfo> {
        let d = &self.def.devices;
        let infos = d.disks.iter().map(|x| &x.info).chain(d.controllers.iter().map(|x| &x.info));
        let infos = infos.chain(d.filesystems.iter().map(|x| &x.info));
        let infos = infos.chain(d.interfaces.iter().map(|x| &x.info));
        let infos = infos.chain(d.serials.iter().map(|x| &x.info));
        let infos = infos.chain(d.channels.iter().map(|x| &x.info)).chain(d.inputs.iter().map(|x| &x.info));
        let infos = infos.chain(d.sounds.iter().map(|x| &x.info)).chain(d.videos.iter().map(|x| &x.info));
        let infos = infos.chain(d.hostdevs.iter().map(|x| &x.info));
        let infos = infos.chain(d.redirdevs.iter().map(|x| &x.info)).chain(d.rngs.iter().map(|x| &x.info));
        let infos = infos.chain(d.watchdogs.iter().map(|x| &x.info));
        let infos = infos.chain(d.memballoon.iter().map(|x| &x.info)).chain(d.hubs.iter().map(|x| &x.info));
        let infos = infos.chain(d.panics.iter().map(|x| &x.info)).chain(d.shmems.iter().map(|x| &x.info));
        let infos = infos.chain(d.vsock.iter().map(|x| &x.info)).chain(d.cryptos.iter().map(|x| &x.info));
        infos.chain(d.tpms.iter().map(|x| &x.info)).chain(d.smartcards.iter().map(|x| &x.info))
    }

    /// Devices the emulator or the machine has not.
    pub(super) fn small(&self) -> Result<()> {
        self.other_inputs()?;
        let d = &self.def.devices;
        let has = |name| self.emulator.has_type(name);
        each(d.memballoon.iter().filter(|b| b.model == BalloonModel::Xen), |_| {
            Err(unsupported("Memory balloon device type 'xen' is not supported by this version of qemu"))
        })?;
        each(&d.watchdogs, |watchdog| {
            match watchdog.model {
                WatchdogModel::I6300esb if !matches!(watchdog.info.address, None | Some(Address::Pci(_))) => {
                    return Err(unsupported("i6300esb model of watchdog can go only on PCI bus"));
                }
                WatchdogModel::Ib700 if !has("ib700") || machine::is_q35(self.machine) => {
                    return Err(unsupported("ib700 model of watchdog cannot be used with this machine type"));
                }
                _ => {}
            }
            Ok(())
        })?;
        if let Some(second) = d.watchdogs.iter().filter(|w| w.model == WatchdogModel::Itco).nth(1) {
            let text = "domain can only have one watchdog with model 'itco'";
            return Err(unsupported(text)).at(second.info.place);
        }
        each(&d.panics, |panic| {
            match panic.model {
                Some(PanicModel::Isa) if !has("pvpanic") => {
                    return Err(unsupported("the QEMU binary does not support the ISA panic device"));
                }
                Some(PanicModel::Pvpanic) if !has("pvpanic-pci") => {
                    return Err(unsupported("the QEMU binary does not support the PCI pvpanic device"));
                }
                Some(PanicModel::S390) if self.arch() != "s390x" => {
                    return Err(unsupported("only S390 guests support panic device of model 's390'"));
                }
                _ => {}
            }
            Ok(())
        })?;
        self.tpms()?;
        each(&d.vsock, |v| match v.auto_cid != Some(true) && v.cid.is_some_and(|c| c < FIRST_CID) {
            true => Err(unsupported(format!("guest CIDs must be >= {FIRST_CID}"))),
            false => Ok(()),
        })?;
        let lkcf = |c: &Crypto| c.backend.model == CryptoBackendModel::Lkcf;
        each(d.cryptos.iter().filter(|c| lkcf(c) && !has("cryptodev-backend-lkcf")), |_| {
            Err(unsupported("crypto backend lkcf is not supported"))
        })?;
        each(&d.shmems, |shmem| {
            let model = shmem.model.unwrap_or_default();
            if model == ShmemModel::Plain && !has("ivshmem-plain")
                || model == ShmemModel::Doorbell && !has("ivshmem-doorbell")
            {
                let text = format!("shmem model '{model}' is not supported by this QEMU binary");
                return Err(unsupported(text));
            }
            Ok(())
        })?;
        let elsewhere = |p: &Pstore| !matches!(p.info.address, None | Some(Address::Pci(_)));
        each(d.pstore.iter().filter(|p| elsewhere(p)), |_| {
            Err(unsupported("ACPI ERST device must reside on a PCI bus"))
        })?;
        each(d.pstore.iter().filter(|_| !has("acpi-erst")), |_| {
            Err(unsupported("acpi-erst backend of pstore device is not supported"))
        })?;
        Ok(())
    }

    fn tpms(&self) -> Result<()> {
        let proxy = |m: Option<TpmModel>| m == Some(TpmModel::SpaprProxy);
        let mut plain = self.def.devices.tpms.iter().filter(|t| !proxy(t.model));
        if let Some(second) = plain.nth(1) {
            return Err(unsupported("only a single TPM non-proxy device is supported")).at(second.info.place);
        }
        let old = |t: &Tpm| matches!(&t.backend, Some(TpmBackend::Emulator(e)) if e.version == Some(TpmVersion::V1_2));
        if let Some(tpm) = self.def.devices.tpms.iter().find(|t| old(t) && t.model == Some(TpmModel::Crb)) {
            let model = tpm.model.unwrap_or_default();
            let text = format!("TPM 1.2 is not supported for model '{model}'");
            return Err(unsupported(text)).at(tpm.info.place);
        }
        let binary = self.emulator.path.display();
        each(&self.def.devices.tpms, |tpm| {
            let backend = match &tpm.backend {
                Some(TpmBackend::Emulator(_)) => ("tpm-emulator", "emulator"),
                Some(TpmBackend::Passthrough(_)) => ("tpm-passthrough", "passthrough"),
                Some(TpmBackend::External(_)) => ("tpm-emulator", "external"),
                None => return Ok(()),
            };
            let model = tpm.model.unwrap_or_default();
            let device = match model {
                TpmModel::Tis if machine::is_x86(self.arch()) => "tpm-tis",
                TpmModel::Tis => "tpm-tis-device",
                TpmModel::Crb => "tpm-crb",
                TpmModel::Spapr => "tpm-spapr",
                TpmModel::SpaprProxy => "spapr-tpm-proxy",
            };
            let any = ["tpm-tis", "tpm-tis-device", "tpm-crb", "tpm-spapr", "spapr-tpm-proxy"];
            if !any.iter().any(|t| self.emulator.has_type(t)) {
                return Err(unsupported(format!(
                    "The QEMU executable {binary} does not support TPM backend type {}",
                    backend.1
                )));
            }
            if !self.emulator.has_type(device) {
                return Err(unsupported(format!(
                    "The QEMU executable {binary} does not support TPM model {model}"
                )));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn other_inputs(&self) -> Result<()> {
        each(&self.def.devices.inputs, |input| {
            let bus = input.bus.unwrap_or_default();
            if bus == InputBus::Ps2 && !self.emulator.has_type("i8042") {
                return Err(unsupported("ps2 is not supported by this QEMU binary"));
            }
            match input.model {
                Some(model) if bus != InputBus::Virtio && model != VirtioModel::Default => {
                    return Err(unsupported(format!(
                        "only bus 'virtio' is supported for input model '{model}'"
                    )));
                }
                Some(VirtioModel::Transitional | VirtioModel::NonTransitional) => {
                    return Err(unsupported(format!(
                        "virtio (non-)transitional models are not supported for input type={}",
                        input.kind
                    )));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }
}
