//! What machines other than the PC do not have.

use virt_error::Result;
use virt_model::domain::info::each;
use virt_xml::At;

use super::{Checker, unsupported};
use crate::document::types::{
    Address, ControllerKind, FsDriverType, HostdevModel, HostdevSource, Panic, PanicModel, SerialTarget,
    TpmBackend, TpmVersion,
};
use crate::document::{machine, vcpus};

/// Largest register of PowerPC's virtual I/O bus.
const MOST_REG: u64 = 0xffff_ffff;

impl Checker<'_> {
    pub(super) fn machines(&self) -> Result<()> {
        self.granularity().within("/domain/vcpu")?;
        self.registers()?;
        let d = &self.def.devices;
        each(&d.panics, |p| self.panic_model(p))?;
        each(&d.tpms, |tpm| {
            let old =
                matches!(&tpm.backend, Some(TpmBackend::Emulator(e)) if e.version == Some(TpmVersion::V1_2));
            if old && !machine::is_x86(self.arch()) {
                return Err(unsupported(format!(
                    "TPM 1.2 is not supported on architecture '{}'",
                    self.arch()
                )));
            }
            Ok(())
        })?;
        each(&d.hostdevs, |host| {
            let ap =
                matches!(host.source, HostdevSource::Mdev(_)) && host.model == Some(HostdevModel::VfioAp);
            if ap && host.info.boot.is_some() {
                return Err(unsupported(
                    "booting from assigned devices is not supported by mediated devices of model vfio-ap",
                ));
            }
            Ok(())
        })?;
        each(&d.filesystems, |fs| {
            let virtiofs = fs.driver.kind == Some(FsDriverType::Virtiofs);
            if fs.info.boot.is_some() && !virtiofs {
                return Err(unsupported("boot order is only supported for virtiofs"));
            }
            if virtiofs && fs.info.boot.is_some() && matches!(fs.info.address, Some(Address::Ccw(_))) {
                return Err(unsupported("setting virtiofs boot order is supported only with PCI bus"));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// PowerPC's vcpus come and go by cores.
    fn granularity(&self) -> Result<()> {
        let threads =
            self.def.cpu.as_ref().and_then(|c| c.topology.as_ref()).and_then(|t| t.threads).unwrap_or(1);
        if machine::is_pseries(self.machine)
            && threads > 1
            && !vcpus::online(self.def).is_multiple_of(threads)
        {
            return Err(unsupported(format!(
                "vCPUs count must be a multiple of the vCPU hotplug granularity ({threads})"
            )));
        }
        Ok(())
    }

    fn registers(&self) -> Result<()> {
        let d = &self.def.devices;
        let infos = d.interfaces.iter().map(|x| &x.info);
        let infos = infos.chain(
            d.serials.iter().filter(|x| x.target.kind == Some(SerialTarget::SpaprVio)).map(|x| &x.info),
        );
        let infos =
            infos.chain(d.controllers.iter().filter(|x| x.kind == ControllerKind::Scsi).map(|x| &x.info));
        each(infos.chain(d.nvram.iter().map(|x| &x.info)), |info| {
            if let Some(Address::SpaprVio(a)) = &info.address
                && let Some(reg) = a.reg.filter(|r| *r > MOST_REG)
            {
                return Err(unsupported(format!(
                    "spapr-vio reg='{reg:#x}' exceeds maximum possible value ({MOST_REG:#x})"
                )));
            }
            Ok(())
        })?;
        Ok(())
    }

    fn panic_model(&self, panic: &Panic) -> Result<()> {
        let address = panic.info.address.as_ref();
        match panic.model {
            None | Some(PanicModel::Default) => Err(unsupported(
                "no panic model provided, and no default for the architecture and machine type",
            )),
            Some(model @ (PanicModel::S390 | PanicModel::Hyperv | PanicModel::Pseries))
                if address.is_some() =>
            {
                Err(unsupported(format!(
                    "setting the panic device address is not supported for model '{model}'"
                )))
            }
            Some(PanicModel::Isa) if !matches!(address, None | Some(Address::Isa(_))) => {
                Err(unsupported("panic is supported only with ISA address type"))
            }
            Some(PanicModel::Pvpanic) if !matches!(address, None | Some(Address::Pci(_))) => {
                Err(unsupported("pvpanic is supported only with PCI address type"))
            }
            Some(_) => Ok(()),
        }
    }
}
