//! Families of named parameters: scheduler, memory, block I/O, NUMA, interface, I/O tuning, performance events, I/O threads.

use virt_api::domain::v1alpha1::{GetParametersRequest, ParameterFamily, SetParametersRequest};
use virt_consts::VIR_DOMAIN_AFFECT_CURRENT;
use virt_error::{Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Tuning, only, to_ref};
use crate::params;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetSchedulerType => scheduler_type;
    ask procs::DomainGetSchedulerParameters => scheduler;
    ask procs::DomainGetSchedulerParametersFlags => scheduler_flags;
    ask procs::DomainSetSchedulerParameters => set_scheduler;
    ask procs::DomainSetSchedulerParametersFlags => set_scheduler_flags;
    ask procs::DomainGetMemoryParameters => memory;
    ask procs::DomainSetMemoryParameters => set_memory;
    ask procs::DomainGetBlkioParameters => blkio;
    ask procs::DomainSetBlkioParameters => set_blkio;
    ask procs::DomainGetNumaParameters => numa;
    ask procs::DomainSetNumaParameters => set_numa;
    ask procs::DomainGetInterfaceParameters => interface;
    ask procs::DomainSetInterfaceParameters => set_interface;
    ask procs::DomainGetBlockIoTune => io_tune;
    ask procs::DomainSetBlockIoTune => set_io_tune;
    ask procs::DomainGetPerfEvents => perf;
    ask procs::DomainSetPerfEvents => set_perf;
    ask procs::DomainSetIothreadParams => set_iothread;
};

/// Which list of which domain.
struct Family {
    family: ParameterFamily,
    dom: NonnullDomain,
    device: String,
    flags: u32,
}

impl Family {
    fn of(family: ParameterFamily, dom: NonnullDomain, flags: u32) -> Self {
        Self { family, dom, device: String::new(), flags }
    }

    fn at(self, device: String) -> Self {
        Self { device, ..self }
    }

    async fn get(self, c: &Ctx) -> Result<Vec<TypedParam>> {
        let Self { family, dom, device, flags } = self;
        let request = GetParametersRequest { domain: to_ref(dom), family: family.into(), device, flags };
        Ok(params::to_wire(rpc!(c, Tuning.get_parameters(request)).await?.params))
    }

    /// The getters' two steps: the list, or with room 0 its length.
    async fn get_sized(self, c: &Ctx, room: i32, max: u32) -> Result<(Vec<TypedParam>, i32)> {
        params::room_of(room, max)?;
        params::sized(self.get(c).await?, room, max)
    }

    async fn set(self, c: &Ctx, new: Vec<TypedParam>) -> Result<()> {
        let Self { family, dom, device, flags } = self;
        let (domain, family, params) = (to_ref(dom), family.into(), params::to_rpc(new));
        rpc!(c, Tuning.set_parameters(SetParametersRequest { domain, family, device, params, flags }))
            .await?;
        Ok(())
    }
}

async fn scheduler_type(c: Ctx, a: DomainGetSchedulerTypeArgs) -> Result<DomainGetSchedulerTypeRet> {
    let found = rpc!(c, Tuning.get_scheduler_type(only(a.dom))).await?;
    let nparams = i32::try_from(found.params).unwrap_or(i32::MAX);
    Ok(DomainGetSchedulerTypeRet { r#type: found.r#type, nparams })
}

async fn scheduler_any(c: &Ctx, dom: NonnullDomain, room: i32, flags: u32) -> Result<Vec<TypedParam>> {
    let room = params::room_of(room, DOMAIN_SCHEDULER_PARAMETERS_MAX)?;
    if room == 0 {
        let function = "virDomainGetSchedulerParameters";
        return Err(Error::invalid_arg(
            Domain::Domain,
            function,
            "params",
            format!("params in {function} must not be NULL"),
        ));
    }
    let mut params = Family::of(ParameterFamily::Scheduler, dom, flags).get(c).await?;
    // This one has no first step: clients learn the number from the scheduler's type.
    params.truncate(room);
    Ok(params)
}

async fn scheduler(c: Ctx, a: DomainGetSchedulerParametersArgs) -> Result<DomainGetSchedulerParametersRet> {
    let params = scheduler_any(&c, a.dom, a.nparams, VIR_DOMAIN_AFFECT_CURRENT).await?;
    Ok(DomainGetSchedulerParametersRet { params })
}

async fn scheduler_flags(
    c: Ctx,
    a: DomainGetSchedulerParametersFlagsArgs,
) -> Result<DomainGetSchedulerParametersFlagsRet> {
    let params = scheduler_any(&c, a.dom, a.nparams, a.flags).await?;
    Ok(DomainGetSchedulerParametersFlagsRet { params })
}

async fn set_scheduler(c: Ctx, a: DomainSetSchedulerParametersArgs) -> Result<()> {
    Family::of(ParameterFamily::Scheduler, a.dom, VIR_DOMAIN_AFFECT_CURRENT).set(&c, a.params).await
}

async fn set_scheduler_flags(c: Ctx, a: DomainSetSchedulerParametersFlagsArgs) -> Result<()> {
    Family::of(ParameterFamily::Scheduler, a.dom, a.flags).set(&c, a.params).await
}

async fn memory(c: Ctx, a: DomainGetMemoryParametersArgs) -> Result<DomainGetMemoryParametersRet> {
    let family = Family::of(ParameterFamily::Memory, a.dom, a.flags);
    let (params, nparams) = family.get_sized(&c, a.nparams, DOMAIN_MEMORY_PARAMETERS_MAX).await?;
    Ok(DomainGetMemoryParametersRet { params, nparams })
}

async fn set_memory(c: Ctx, a: DomainSetMemoryParametersArgs) -> Result<()> {
    Family::of(ParameterFamily::Memory, a.dom, a.flags).set(&c, a.params).await
}

async fn blkio(c: Ctx, a: DomainGetBlkioParametersArgs) -> Result<DomainGetBlkioParametersRet> {
    let family = Family::of(ParameterFamily::Blkio, a.dom, a.flags);
    let (params, nparams) = family.get_sized(&c, a.nparams, DOMAIN_BLKIO_PARAMETERS_MAX).await?;
    Ok(DomainGetBlkioParametersRet { params, nparams })
}

async fn set_blkio(c: Ctx, a: DomainSetBlkioParametersArgs) -> Result<()> {
    Family::of(ParameterFamily::Blkio, a.dom, a.flags).set(&c, a.params).await
}

async fn numa(c: Ctx, a: DomainGetNumaParametersArgs) -> Result<DomainGetNumaParametersRet> {
    let family = Family::of(ParameterFamily::Numa, a.dom, a.flags);
    let (params, nparams) = family.get_sized(&c, a.nparams, DOMAIN_NUMA_PARAMETERS_MAX).await?;
    Ok(DomainGetNumaParametersRet { params, nparams })
}

async fn set_numa(c: Ctx, a: DomainSetNumaParametersArgs) -> Result<()> {
    Family::of(ParameterFamily::Numa, a.dom, a.flags).set(&c, a.params).await
}

async fn interface(c: Ctx, a: DomainGetInterfaceParametersArgs) -> Result<DomainGetInterfaceParametersRet> {
    let family = Family::of(ParameterFamily::Interface, a.dom, a.flags).at(a.device);
    let (params, nparams) = family.get_sized(&c, a.nparams, DOMAIN_INTERFACE_PARAMETERS_MAX).await?;
    Ok(DomainGetInterfaceParametersRet { params, nparams })
}

async fn set_interface(c: Ctx, a: DomainSetInterfaceParametersArgs) -> Result<()> {
    Family::of(ParameterFamily::Interface, a.dom, a.flags).at(a.device).set(&c, a.params).await
}

async fn io_tune(c: Ctx, a: DomainGetBlockIoTuneArgs) -> Result<DomainGetBlockIoTuneRet> {
    let family = Family::of(ParameterFamily::BlockIoTune, a.dom, a.flags).at(a.disk.unwrap_or_default());
    let (params, nparams) = family.get_sized(&c, a.nparams, DOMAIN_BLOCK_IO_TUNE_PARAMETERS_MAX).await?;
    Ok(DomainGetBlockIoTuneRet { params, nparams })
}

async fn set_io_tune(c: Ctx, a: DomainSetBlockIoTuneArgs) -> Result<()> {
    Family::of(ParameterFamily::BlockIoTune, a.dom, a.flags).at(a.disk).set(&c, a.params).await
}

async fn perf(c: Ctx, a: DomainGetPerfEventsArgs) -> Result<DomainGetPerfEventsRet> {
    Ok(DomainGetPerfEventsRet { params: Family::of(ParameterFamily::Perf, a.dom, a.flags).get(&c).await? })
}

async fn set_perf(c: Ctx, a: DomainSetPerfEventsArgs) -> Result<()> {
    Family::of(ParameterFamily::Perf, a.dom, a.flags).set(&c, a.params).await
}

async fn set_iothread(c: Ctx, a: DomainSetIothreadParamsArgs) -> Result<()> {
    if a.iothread_id == 0 {
        let function = "virDomainSetIOThreadParams";
        let text = format!("iothread_id in {function} must not be zero");
        return Err(Error::invalid_arg(Domain::Domain, function, "iothread_id", text));
    }
    let family = Family::of(ParameterFamily::Iothread, a.dom, a.flags).at(a.iothread_id.to_string());
    family.set(&c, a.params).await
}
