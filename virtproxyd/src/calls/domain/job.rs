//! Long work on domains, and the images of their disks.

use virt_api::common::v1alpha1::typed_param::Value;
use virt_api::domain::v1alpha1::{
    AbortJobRequest, BlockResizeRequest, BlockThresholdRequest, CoreDumpRequest, JobInfoRequest,
    JobInfoResponse,
};
use virt_consts::*;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Blocks, Domains, Jobs, to_ref};
use crate::params;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetJobInfo => info;
    ask procs::DomainGetJobStats => stats;
    ask procs::DomainAbortJob => abort;
    ask procs::DomainAbortJobFlags => abort_flags;
    ask procs::DomainCoreDump => dump;
    ask procs::DomainCoreDumpWithFormat => dump_with_format;
    ask procs::DomainBlockResize => resize;
    ask procs::DomainSetBlockThreshold => set_threshold;
};

async fn ask(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<JobInfoResponse> {
    rpc!(c, Jobs.get_info(JobInfoRequest { domain: to_ref(dom), flags })).await
}

/// The old form has twelve fixed fields.
async fn info(c: Ctx, a: DomainGetJobInfoArgs) -> Result<DomainGetJobInfoRet> {
    let job = ask(c, a.dom, 0).await?;
    let field = |name: &str| match job.params.iter().find(|p| p.field == name).and_then(|p| p.value.as_ref())
    {
        Some(Value::Ul(v)) => *v,
        _ => 0,
    };
    Ok(DomainGetJobInfoRet {
        r#type: job.r#type,
        time_elapsed: field(VIR_DOMAIN_JOB_TIME_ELAPSED),
        time_remaining: field(VIR_DOMAIN_JOB_TIME_REMAINING),
        data_total: field(VIR_DOMAIN_JOB_DATA_TOTAL),
        data_processed: field(VIR_DOMAIN_JOB_DATA_PROCESSED),
        data_remaining: field(VIR_DOMAIN_JOB_DATA_REMAINING),
        mem_total: field(VIR_DOMAIN_JOB_MEMORY_TOTAL),
        mem_processed: field(VIR_DOMAIN_JOB_MEMORY_PROCESSED),
        mem_remaining: field(VIR_DOMAIN_JOB_MEMORY_REMAINING),
        file_total: field(VIR_DOMAIN_JOB_DISK_TOTAL),
        file_processed: field(VIR_DOMAIN_JOB_DISK_PROCESSED),
        file_remaining: field(VIR_DOMAIN_JOB_DISK_REMAINING),
    })
}

async fn stats(c: Ctx, a: DomainGetJobStatsArgs) -> Result<DomainGetJobStatsRet> {
    let job = ask(c, a.dom, a.flags).await?;
    Ok(DomainGetJobStatsRet { r#type: job.r#type, params: params::to_wire(job.params) })
}

async fn abort_any(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<()> {
    rpc!(c, Jobs.abort(AbortJobRequest { domain: to_ref(dom), flags })).await?;
    Ok(())
}

async fn abort(c: Ctx, a: DomainAbortJobArgs) -> Result<()> {
    abort_any(c, a.dom, 0).await
}

async fn abort_flags(c: Ctx, a: DomainAbortJobFlagsArgs) -> Result<()> {
    abort_any(c, a.dom, a.flags).await
}

async fn dump_any(c: Ctx, dom: NonnullDomain, to: String, format: u32, flags: u32) -> Result<()> {
    rpc!(c, Domains.core_dump(CoreDumpRequest { domain: to_ref(dom), to, format, flags })).await?;
    Ok(())
}

async fn dump(c: Ctx, a: DomainCoreDumpArgs) -> Result<()> {
    dump_any(c, a.dom, a.to, 0, a.flags).await
}

async fn dump_with_format(c: Ctx, a: DomainCoreDumpWithFormatArgs) -> Result<()> {
    dump_any(c, a.dom, a.to, a.dumpformat, a.flags).await
}

async fn resize(c: Ctx, a: DomainBlockResizeArgs) -> Result<()> {
    let request = BlockResizeRequest { domain: to_ref(a.dom), disk: a.disk, size: a.size, flags: a.flags };
    rpc!(c, Blocks.resize(request)).await?;
    Ok(())
}

async fn set_threshold(c: Ctx, a: DomainSetBlockThresholdArgs) -> Result<()> {
    let request =
        BlockThresholdRequest { domain: to_ref(a.dom), disk: a.dev, threshold: a.threshold, flags: a.flags };
    rpc!(c, Blocks.set_threshold(request)).await?;
    Ok(())
}
