//! Long work on guests: core dumps, and what is told of any.

use std::path::PathBuf;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_job_service_server::DomainJobService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::owner::{Class, Spec};
use virt_rpc::answer;

use super::check::flags;
use super::parameters::to_message;
use crate::driver::Driver;
use crate::guest::dump::Dump;
use crate::guest::not_running;

/// Answers [`DomainJobService`].
#[derive(Clone)]
pub struct JobApi {
    driver: Arc<Driver>,
}

impl JobApi {
    /// A service for these guests.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn info(&self, r: &JobInfoRequest) -> Result<JobInfoResponse> {
        flags(r.flags, ALL_DOMAIN_GET_JOB_STATS_FLAGS, "qemuDomainGetJobStats")?;
        let guest = self.driver.find(r.domain.as_ref())?;
        let completed = r.flags & VIR_DOMAIN_JOB_STATS_COMPLETED != 0;
        let (progress, kind) = if completed {
            let keep = r.flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED != 0;
            (guest.shared().job().completed(!keep), VIR_DOMAIN_JOB_COMPLETED)
        } else {
            if !guest.published().value.is_active() {
                return Err(not_running());
            }
            (guest.shared().job().running(), VIR_DOMAIN_JOB_UNBOUNDED)
        };
        let Some(progress) = progress else {
            return Ok(JobInfoResponse { r#type: VIR_DOMAIN_JOB_NONE, params: Vec::new() });
        };
        let params = progress.params().into_iter().map(to_message).collect();
        Ok(JobInfoResponse { r#type: kind, params })
    }

    fn abort_job(&self, r: &AbortJobRequest) -> Result<Empty> {
        flags(r.flags, ALL_DOMAIN_ABORT_JOB_FLAGS_VALUES, "qemuDomainAbortJobFlags")?;
        let guest = self.driver.find(r.domain.as_ref())?;
        let invalid = |text: &str| Error::new(Code::OperationInvalid, From::Qemu, text);
        if !guest.published().value.is_active() {
            return Err(not_running());
        }
        if r.flags & VIR_DOMAIN_ABORT_JOB_POSTCOPY != 0 {
            return Err(invalid("current job is not outgoing migration in post-copy mode"));
        }
        let job = guest.shared().job();
        let progress = job.running().ok_or_else(|| invalid("no job is active on the domain"))?;
        if !progress.can_stop {
            return Err(invalid("cannot abort memory-only dump"));
        }
        job.stop();
        Ok(Empty {})
    }
}

#[tonic::async_trait]
impl DomainJobService for JobApi {
    async fn get_info(&self, request: Request<JobInfoRequest>) -> Result<Response<JobInfoResponse>, Status> {
        answer(async { self.info(&request.into_inner()) }).await
    }

    async fn abort(&self, request: Request<AbortJobRequest>) -> Result<Response<Empty>, Status> {
        answer(async { self.abort_job(&request.into_inner()) }).await
    }
}

/// `DomainService.CoreDump`.
///
/// # Errors
/// Code 42; code 55 when it does not run; code 8 for flags or a format that do not go together; those of
/// [`crate::guest::Work::core_dump`].
pub async fn core_dump(driver: &Driver, r: CoreDumpRequest) -> Result<Empty> {
    let known = VIR_DUMP_CRASH | VIR_DUMP_LIVE | VIR_DUMP_RESET | VIR_DUMP_MEMORY_ONLY;
    flags(r.flags, known | VIR_DUMP_BYPASS_CACHE, "qemuDomainCoreDumpWithFormat")?;
    let given = |bit: u32| r.flags & bit != 0;
    for (one, other, text) in [
        (VIR_DUMP_CRASH, VIR_DUMP_LIVE, "Flags 'VIR_DUMP_CRASH' and 'VIR_DUMP_LIVE' are mutually exclusive"),
        (
            VIR_DUMP_CRASH,
            VIR_DUMP_RESET,
            "Flags 'VIR_DUMP_CRASH' and 'VIR_DUMP_RESET' are mutually exclusive",
        ),
        (VIR_DUMP_LIVE, VIR_DUMP_RESET, "Flags 'VIR_DUMP_LIVE' and 'VIR_DUMP_RESET' are mutually exclusive"),
    ] {
        if given(one) && given(other) {
            return Err(Error::invalid_arg(From::Domain, "virDomainCoreDumpWithFormat", "ctl", text));
        }
    }
    if !r.to.starts_with('/') {
        let text = format!("could not build absolute core file path from '{}'", r.to);
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    let guest = driver.find(r.domain.as_ref())?;
    if !guest.published().value.is_active() {
        return Err(not_running());
    }
    let how = Dump {
        to: PathBuf::from(r.to),
        format: format(r.format, given(VIR_DUMP_MEMORY_ONLY))?,
        live: given(VIR_DUMP_LIVE),
        crash: given(VIR_DUMP_CRASH),
        reset: given(VIR_DUMP_RESET),
        bypass_cache: given(VIR_DUMP_BYPASS_CACHE),
    };
    let spec = Spec::new("dump", Class::Modify);
    guest.work(spec, move |work| Box::pin(async move { Box::pin(work.core_dump(&how)).await })).await?;
    Ok(Empty {})
}

/// QEMU's name of a format; `None` for the whole machine.
fn format(number: u32, memory_only: bool) -> Result<Option<&'static str>> {
    let name = match i32::try_from(number) {
        Ok(VIR_DOMAIN_CORE_DUMP_FORMAT_RAW) => "elf",
        Ok(VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB) => "kdump-zlib",
        Ok(VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_LZO) => "kdump-lzo",
        Ok(VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_SNAPPY) => "kdump-snappy",
        Ok(VIR_DOMAIN_CORE_DUMP_FORMAT_WIN_DMP) => "win-dmp",
        _ => {
            let text = format!("unknown dumpformat '{number}'");
            return Err(Error::new(Code::InvalidArg, From::Qemu, text));
        }
    };
    match (memory_only, name) {
        (true, name) => Ok(Some(name)),
        (false, "elf") => Ok(None),
        (false, _) => {
            let text = "kdump-compressed format is only supported with memory-only dump";
            Err(Error::new(Code::OperationInvalid, From::Qemu, text))
        }
    }
}
