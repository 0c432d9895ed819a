//! Statistics.

use virt_api::common::v1alpha1::typed_param::Value;
use virt_api::domain::v1alpha1::{
    self as api, CpuStatsRequest, DeviceStatsRequest, FlagsStatsRequest, GetAllStatsRequest,
    StartDirtyRateRequest,
};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Stats, to_ref, to_wire};
use crate::{params, refusal};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectGetAllDomainStats => all;
    ask procs::DomainGetBlockInfo => block_info;
    ask procs::DomainBlockStats => block_stats;
    ask procs::DomainBlockStatsFlags => block_stats_flags;
    ask procs::DomainMemoryStats => memory_stats;
    ask procs::DomainGetDiskErrors => disk_errors;
    ask procs::DomainGetCpuStats => cpu_stats;
    ask procs::DomainStartDirtyRateCalc => dirty_rate;
};

async fn all(c: Ctx, a: ConnectGetAllDomainStatsArgs) -> Result<ConnectGetAllDomainStatsRet> {
    let domains = a.doms.into_iter().filter_map(to_ref).collect();
    let request = GetAllStatsRequest { domains, stats: a.stats, flags: a.flags };
    let records = rpc!(c, Stats.get_all(request)).await?.records.into_iter();
    Ok(ConnectGetAllDomainStatsRet { ret_stats: records.map(record).collect::<Result<_>>()? })
}

fn record(record: api::DomainStatsRecord) -> Result<DomainStatsRecord> {
    Ok(DomainStatsRecord { dom: to_wire(record.domain)?, params: params::to_wire(record.params) })
}

async fn block_info(c: Ctx, a: DomainGetBlockInfoArgs) -> Result<DomainGetBlockInfoRet> {
    let request = DeviceStatsRequest { domain: to_ref(a.dom), device: a.path, flags: a.flags };
    let info = rpc!(c, Stats.get_block_info(request)).await?;
    Ok(DomainGetBlockInfoRet {
        allocation: info.allocation,
        capacity: info.capacity,
        physical: info.physical,
    })
}

/// The old form has five fixed fields; what the daemon does not count is -1.
async fn block_stats(c: Ctx, a: DomainBlockStatsArgs) -> Result<DomainBlockStatsRet> {
    let request = DeviceStatsRequest { domain: to_ref(a.dom), device: a.path, flags: 0 };
    let stats = rpc!(c, Stats.get_block_stats(request)).await?.params;
    let field = |name: &str| match stats.iter().find(|p| p.field == name).and_then(|p| p.value.as_ref()) {
        Some(Value::L(v)) => *v,
        Some(Value::Ul(v)) => i64::try_from(*v).unwrap_or(i64::MAX),
        _ => -1,
    };
    Ok(DomainBlockStatsRet {
        rd_req: field("rd_operations"),
        rd_bytes: field("rd_bytes"),
        wr_req: field("wr_operations"),
        wr_bytes: field("wr_bytes"),
        errs: field("errs"),
    })
}

async fn block_stats_flags(c: Ctx, a: DomainBlockStatsFlagsArgs) -> Result<DomainBlockStatsFlagsRet> {
    let max = DOMAIN_BLOCK_STATS_PARAMETERS_MAX;
    params::room_of(a.nparams, max)?;
    let request = DeviceStatsRequest { domain: to_ref(a.dom), device: a.path, flags: a.flags };
    let stats = rpc!(c, Stats.get_block_stats(request)).await?;
    let (params, nparams) = params::sized(params::to_wire(stats.params), a.nparams, max)?;
    Ok(DomainBlockStatsFlagsRet { params, nparams })
}

async fn memory_stats(c: Ctx, a: DomainMemoryStatsArgs) -> Result<DomainMemoryStatsRet> {
    if a.max_stats > DOMAIN_MEMORY_STATS_MAX {
        return Err(refusal::internal("maxStats > REMOTE_DOMAIN_MEMORY_STATS_MAX"));
    }
    let request = FlagsStatsRequest { domain: to_ref(a.dom), flags: a.flags };
    let stats = rpc!(c, Stats.get_memory_stats(request)).await?.stats.into_iter();
    let stats = stats.take(a.max_stats as usize).map(|s| DomainMemoryStat { tag: s.tag, val: s.value });
    Ok(DomainMemoryStatsRet { stats: stats.collect() })
}

/// A client that only wants to know how many there could be names no room.
async fn disk_errors(c: Ctx, a: DomainGetDiskErrorsArgs) -> Result<DomainGetDiskErrorsRet> {
    if a.maxerrors > DOMAIN_DISK_ERRORS_MAX {
        return Err(refusal::internal("maxerrors too large"));
    }
    let request = FlagsStatsRequest { domain: to_ref(a.dom), flags: a.flags };
    let found = rpc!(c, Stats.get_disk_errors(request)).await?;
    if a.maxerrors == 0 {
        let disks = i32::try_from(found.disks).unwrap_or(i32::MAX);
        return Ok(DomainGetDiskErrorsRet { errors: Vec::new(), nerrors: disks });
    }
    let errors: Vec<_> = found
        .errors
        .into_iter()
        .take(a.maxerrors as usize)
        .map(|e| DomainDiskError { disk: e.disk, error: e.error })
        .collect();
    let nerrors = super::super::count(errors.len());
    Ok(DomainGetDiskErrorsRet { errors, nerrors })
}

async fn dirty_rate(c: Ctx, a: DomainStartDirtyRateCalcArgs) -> Result<()> {
    let request = StartDirtyRateRequest { domain: to_ref(a.dom), seconds: a.seconds, flags: a.flags };
    rpc!(c, Stats.start_dirty_rate(request)).await?;
    Ok(())
}

async fn cpu_stats(c: Ctx, a: DomainGetCpuStatsArgs) -> Result<DomainGetCpuStatsRet> {
    if u64::from(a.nparams) * u64::from(a.ncpus) > u64::from(DOMAIN_GET_CPU_STATS_MAX) {
        return Err(refusal::internal("nparams too large"));
    }
    let request = CpuStatsRequest {
        domain: to_ref(a.dom),
        start_cpu: a.start_cpu,
        cpus: a.ncpus,
        figures: a.nparams,
        flags: a.flags,
    };
    let stats = rpc!(c, Stats.get_cpu_stats(request)).await?;
    let nparams = i32::try_from(stats.count).unwrap_or(i32::MAX);
    Ok(DomainGetCpuStatsRet { params: params::to_wire(stats.params), nparams })
}
