//! Amounts: memory, vCPUs, I/O threads.

use virt_api::domain::v1alpha1::{
    FlagsRequest, IothreadRequest, SetMemoryRequest, SetMemoryStatsPeriodRequest, SetVcpuRequest,
    SetVcpusRequest,
};
use virt_consts::{VIR_DOMAIN_AFFECT_LIVE, VIR_DOMAIN_MEM_MAXIMUM, VIR_DOMAIN_VCPU_MAXIMUM};
use virt_error::Result;
use virt_wire::remote::{procs, *};
use virt_wire::xdr::Opaque;

use super::super::{Call, Ctx, calls, rpc};
use super::{Tuning, only, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetMaxMemory => max_memory;
    ask procs::DomainSetMaxMemory => set_max_memory;
    ask procs::DomainSetMemory => set_memory;
    ask procs::DomainSetMemoryFlags => set_memory_flags;
    ask procs::DomainSetMemoryStatsPeriod => set_stats_period;
    ask procs::DomainGetMaxVcpus => max_vcpus;
    ask procs::DomainGetVcpusFlags => vcpus_count;
    ask procs::DomainSetVcpus => set_vcpus;
    ask procs::DomainSetVcpusFlags => set_vcpus_flags;
    ask procs::DomainSetVcpu => set_vcpu;
    ask procs::DomainGetIothreadInfo => iothreads;
    ask procs::DomainAddIothread => add_iothread;
    ask procs::DomainDelIothread => del_iothread;
};

async fn max_memory(c: Ctx, a: DomainGetMaxMemoryArgs) -> Result<DomainGetMaxMemoryRet> {
    Ok(DomainGetMaxMemoryRet { memory: rpc!(c, Tuning.get_max_memory(only(a.dom))).await?.memory })
}

async fn set_memory_any(c: Ctx, dom: NonnullDomain, memory: u64, flags: u32) -> Result<()> {
    rpc!(c, Tuning.set_memory(SetMemoryRequest { domain: to_ref(dom), memory, flags })).await?;
    Ok(())
}

async fn set_max_memory(c: Ctx, a: DomainSetMaxMemoryArgs) -> Result<()> {
    set_memory_any(c, a.dom, a.memory, VIR_DOMAIN_MEM_MAXIMUM).await
}

/// The form without flags means the running guest.
async fn set_memory(c: Ctx, a: DomainSetMemoryArgs) -> Result<()> {
    set_memory_any(c, a.dom, a.memory, VIR_DOMAIN_AFFECT_LIVE).await
}

async fn set_memory_flags(c: Ctx, a: DomainSetMemoryFlagsArgs) -> Result<()> {
    set_memory_any(c, a.dom, a.memory, a.flags).await
}

async fn set_stats_period(c: Ctx, a: DomainSetMemoryStatsPeriodArgs) -> Result<()> {
    let request = SetMemoryStatsPeriodRequest { domain: to_ref(a.dom), period: a.period, flags: a.flags };
    rpc!(c, Tuning.set_memory_stats_period(request)).await?;
    Ok(())
}

async fn count_any(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<i32> {
    Ok(rpc!(c, Tuning.get_vcpus_count(FlagsRequest { domain: to_ref(dom), flags })).await?.count)
}

async fn max_vcpus(c: Ctx, a: DomainGetMaxVcpusArgs) -> Result<DomainGetMaxVcpusRet> {
    let flags = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_VCPU_MAXIMUM;
    Ok(DomainGetMaxVcpusRet { num: count_any(c, a.dom, flags).await? })
}

async fn vcpus_count(c: Ctx, a: DomainGetVcpusFlagsArgs) -> Result<DomainGetVcpusFlagsRet> {
    Ok(DomainGetVcpusFlagsRet { num: count_any(c, a.dom, a.flags).await? })
}

async fn set_vcpus_any(c: Ctx, dom: NonnullDomain, count: u32, flags: u32) -> Result<()> {
    rpc!(c, Tuning.set_vcpus(SetVcpusRequest { domain: to_ref(dom), count, flags })).await?;
    Ok(())
}

/// The form without flags means the running guest.
async fn set_vcpus(c: Ctx, a: DomainSetVcpusArgs) -> Result<()> {
    set_vcpus_any(c, a.dom, a.nvcpus, VIR_DOMAIN_AFFECT_LIVE).await
}

async fn set_vcpus_flags(c: Ctx, a: DomainSetVcpusFlagsArgs) -> Result<()> {
    set_vcpus_any(c, a.dom, a.nvcpus, a.flags).await
}

async fn set_vcpu(c: Ctx, a: DomainSetVcpuArgs) -> Result<()> {
    let request = SetVcpuRequest { domain: to_ref(a.dom), vcpus: a.cpumap, on: a.state != 0, flags: a.flags };
    rpc!(c, Tuning.set_vcpu(request)).await?;
    Ok(())
}

async fn iothreads(c: Ctx, a: DomainGetIothreadInfoArgs) -> Result<DomainGetIothreadInfoRet> {
    let request = FlagsRequest { domain: to_ref(a.dom), flags: a.flags };
    let threads = rpc!(c, Tuning.get_iothreads(request)).await?.iothreads;
    let ret = u32::try_from(threads.len()).unwrap_or(u32::MAX);
    let info = threads.into_iter();
    let info =
        info.map(|t| DomainIothreadInfo { iothread_id: t.id, cpumap: Opaque(t.affinity.into()) }).collect();
    Ok(DomainGetIothreadInfoRet { info, ret })
}

async fn add_iothread(c: Ctx, a: DomainAddIothreadArgs) -> Result<()> {
    let request = IothreadRequest { domain: to_ref(a.dom), id: a.iothread_id, flags: a.flags };
    rpc!(c, Tuning.add_iothread(request)).await?;
    Ok(())
}

async fn del_iothread(c: Ctx, a: DomainDelIothreadArgs) -> Result<()> {
    let request = IothreadRequest { domain: to_ref(a.dom), id: a.iothread_id, flags: a.flags };
    rpc!(c, Tuning.del_iothread(request)).await?;
    Ok(())
}
