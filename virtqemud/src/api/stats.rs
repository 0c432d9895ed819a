//! Statistics.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_stats_service_server::DomainStatsService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::disk::Disk;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_rpc::answer;

use super::check::{flags, flags_of};
use super::{lookup, parameters};
use crate::config::params::{Param, Value};
use crate::definitions::Definitions;
use crate::guest::{Guest, not_running};
use crate::host::HostFacts;
use crate::process::groups;
use crate::stats::{self, Sample, Wanted, balloon, block, usage};

/// The filter bits of lists that statistics take too: activity, persistence, state.
const FILTER: u32 = VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_PERSISTENT
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_PAUSED
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_SHUTOFF
    | VIR_CONNECT_GET_ALL_DOMAINS_STATS_OTHER;

/// Answers [`DomainStatsService`].
#[derive(Clone)]
pub struct StatsApi {
    definitions: Definitions,
    host: Arc<HostFacts>,
}

impl StatsApi {
    /// A service for these guests on this host.
    pub fn new(definitions: Definitions, host: Arc<HostFacts>) -> Self {
        Self { definitions, host }
    }

    async fn all(&self, r: GetAllStatsRequest) -> Result<GetAllStatsResponse> {
        let filter = r.flags & FILTER;
        let known = FILTER
            | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            | VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING
            | VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS;
        flags(r.flags, known, "qemuConnectGetAllDomainStats")?;
        let strange = r.stats & !stats::GROUPS;
        if r.flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS != 0 && strange != 0 {
            let text = format!("Stats types bits 0x{strange:x} are not supported by this daemon");
            return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
        }
        let driver = self.definitions.driver();
        let guests = if r.domains.is_empty() {
            driver.guests.list().to_vec()
        } else {
            r.domains.iter().map(|d| driver.find(Some(d))).collect::<Result<Vec<_>>>()?
        };
        let nowait = r.flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT != 0;
        let chosen = guests.into_iter().filter(|g| lookup::fits(&g.published().value, filter));
        let chosen: Vec<_> = chosen.collect();
        let samples = stats::of(chosen.clone(), Wanted { groups: r.stats, nowait }).await;
        let record = |(guest, sample): (Arc<Guest>, Sample)| {
            let params = sample.params.into_iter().map(parameters::to_message).collect();
            DomainStatsRecord { domain: Some(guest.reference()), params, stale: sample.stale }
        };
        Ok(GetAllStatsResponse { records: chosen.into_iter().zip(samples).map(record).collect() })
    }

    async fn block_info(&self, r: DeviceStatsRequest) -> Result<BlockInfoResponse> {
        flags(r.flags, 0, "qemuDomainGetBlockInfo")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        let disk = block::find(
            &published.value.document().map(|d| d.devices.disks.clone()).unwrap_or_default(),
            &r.device,
        )
        .ok_or_else(|| invalid(format!("invalid path {} not assigned to domain", r.device)))?;
        let Some(path) = disk.source.path().map(str::to_string) else {
            return Err(invalid(format!("disk '{}' does not currently have a source assigned", r.device)));
        };
        let highest = match guest.shared().monitor() {
            Some(_) => counters(&guest).await?.of(&disk).and_then(|t| t.highest),
            None => None,
        };
        let sizes = blocking::run(move || block::sizes(&path, &disk, highest)).await?;
        Ok(BlockInfoResponse {
            allocation: sizes.allocation,
            capacity: sizes.capacity,
            physical: sizes.physical,
        })
    }

    async fn block_stats(&self, r: DeviceStatsRequest) -> Result<StatsResponse> {
        flags(r.flags, VIR_TYPED_PARAM_STRING_OKAY, "qemuDomainBlockStatsFlags")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        let (Some(_), Some(live)) = (guest.shared().monitor(), &published.value.live) else {
            return Err(not_running());
        };
        let disks: Vec<Disk> = if r.device.is_empty() {
            live.devices.disks.clone()
        } else {
            vec![
                block::find(&live.devices.disks, &r.device)
                    .ok_or_else(|| invalid(format!("invalid path: {}", r.device)))?,
            ]
        };
        let counters = counters(&guest).await?;
        let sum = |of: fn(&block::Traffic) -> u64| {
            disks.iter().filter_map(|d| counters.of(d)).map(|t| of(&t)).sum()
        };
        let row = |name: &str, value: u64| Param {
            name: name.to_string(),
            value: Value::Llong(i64::try_from(value).unwrap_or(i64::MAX)),
        };
        let rows = [
            row(VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, sum(|t| t.wr_bytes)),
            row(VIR_DOMAIN_BLOCK_STATS_WRITE_REQ, sum(|t| t.wr_reqs)),
            row(VIR_DOMAIN_BLOCK_STATS_READ_BYTES, sum(|t| t.rd_bytes)),
            row(VIR_DOMAIN_BLOCK_STATS_READ_REQ, sum(|t| t.rd_reqs)),
            row(VIR_DOMAIN_BLOCK_STATS_FLUSH_REQ, sum(|t| t.fl_reqs)),
            row(VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, sum(|t| t.wr_times)),
            row(VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, sum(|t| t.rd_times)),
            row(VIR_DOMAIN_BLOCK_STATS_FLUSH_TOTAL_TIMES, sum(|t| t.fl_times)),
        ];
        Ok(StatsResponse { params: rows.into_iter().map(parameters::to_message).collect() })
    }

    async fn disk_errors(&self, r: FlagsStatsRequest) -> Result<DiskErrorsResponse> {
        flags(r.flags, 0, "qemuDomainGetDiskErrors")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        let (Some(_), Some(live)) = (guest.shared().monitor(), &published.value.live) else {
            return Err(not_running());
        };
        let monitor = guest.shared().answering_monitor().ok_or_else(late)?;
        let blocks = monitor.run_untyped("query-block", &serde_json::Value::Null);
        let blocks = tokio::time::timeout(stats::DEADLINE, blocks).await.map_err(|_| late())?;
        let blocks = guest.told(blocks.map_err(Error::from)).await?;
        let disks = &live.devices.disks;
        let count = u32::try_from(disks.len()).unwrap_or(u32::MAX);
        Ok(DiskErrorsResponse { errors: block::errors(&blocks, disks), disks: count })
    }

    async fn dirty_rate(&self, r: StartDirtyRateRequest) -> Result<Empty> {
        let modes = VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP | VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING;
        flags(r.flags, modes, "qemuDomainStartDirtyRateCalc")?;
        if !(1..=60).contains(&r.seconds) {
            let text = format!("seconds={} is invalid, please choose value within [1, 60].", r.seconds);
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
        let mode = match r.flags {
            VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING => "page-sampling",
            VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP => "dirty-bitmap",
            VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING => "dirty-ring",
            _ => {
                let text = "Flags 'VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP' and \
                            'VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING' are mutually exclusive";
                return Err(Error::invalid_arg(From::Domain, "virDomainStartDirtyRateCalc", "ctl", text));
            }
        };
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        let Some(live) = &published.value.live else { return Err(not_running()) };
        if mode == "dirty-ring" && live.features.kvm.as_ref().is_none_or(|k| k.dirty_ring.is_none()) {
            let text = "dirty-ring calculation mode requires dirty-ring feature enabled.";
            return Err(Error::new(Code::OperationUnsupported, From::Qemu, text));
        }
        let command = serde_json::json!({"calc-time": r.seconds, "mode": mode});
        let shared = guest.shared().clone();
        guest
            .work(Spec::new("dirty rate", Class::Modify), move |work| {
                Box::pin(async move {
                    let answer = work.monitor()?.run_untyped("calc-dirty-rate", &command).await;
                    shared.measures();
                    answer?;
                    Ok(Empty {})
                })
            })
            .await
    }

    async fn cpu_stats(&self, r: CpuStatsRequest) -> Result<CpuStatsResponse> {
        let function = "virDomainGetCPUStats";
        if r.start_cpu < 0 && r.start_cpu != -1 {
            return Err(Error::invalid_arg(
                From::Domain,
                function,
                "start_cpu",
                "start_cpu must be -1 or more",
            ));
        }
        if r.start_cpu == -1 && r.cpus != 1 {
            return Err(Error::invalid_arg(
                From::Domain,
                function,
                "ctl",
                "ncpus must be 1 when start_cpu is -1",
            ));
        }
        flags(r.flags, VIR_TYPED_PARAM_STRING_OKAY, "qemuDomainGetCPUStats")?;
        let driver = self.definitions.driver().clone();
        let guest = driver.find(r.domain.as_ref())?;
        let published = guest.published();
        let Some(live) = published.value.live.clone() else { return Err(not_running()) };
        let host = self.host.clone();
        let read = move || {
            let cpus = host.online_cpus().1;
            let only = |count| Ok(CpuStatsResponse { params: Vec::new(), count });
            let group = groups::of(&driver, &live);
            let (rows, count) = match (r.start_cpu, r.cpus, r.figures) {
                (_, 0, _) => return only(cpus),
                (-1, _, 0) => return only(usage::figures_of_all()),
                (_, _, 0) => return only(usage::EACH),
                (-1, _, most) => {
                    let mut rows = usage::of_all(&group)?;
                    rows.truncate(most as usize);
                    let count = u32::try_from(rows.len()).unwrap_or(0);
                    (rows, count)
                }
                (first, wanted, _) => {
                    let first = first.unsigned_abs();
                    if first >= cpus {
                        let most = cpus.saturating_sub(1);
                        return Err(invalid(format!("start_cpu {first} larger than maximum of {most}")));
                    }
                    let times = usage::of_each(&group)?;
                    let chosen = times.iter().skip(first as usize).take(wanted as usize);
                    (usage::rows(&chosen.copied().collect::<Vec<_>>()), 1)
                }
            };
            let params = rows.into_iter().map(parameters::to_message).collect();
            Ok(CpuStatsResponse { params, count })
        };
        blocking::run(read).await
    }

    async fn memory_stats(&self, r: FlagsStatsRequest) -> Result<MemoryStatsResponse> {
        flags_of(From::Qemu, r.flags, 0, "qemuDomainMemoryStats")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        if guest.shared().monitor().is_none() {
            return Err(not_running());
        }
        let monitor = guest.shared().answering_monitor().ok_or_else(late)?;
        let rss = guest.shared().process().and_then(|p| p.stat().ok()).map(|s| balloon::resident(&s));
        let figures = balloon::live(&published.value, Some(&monitor), rss);
        let figures = tokio::time::timeout(stats::DEADLINE, figures);
        let figures = figures.await.map_err(|_| late())?;
        let stats = figures.into_iter().map(|(_, tag, value)| MemoryStat { tag, value }).collect();
        Ok(MemoryStatsResponse { stats })
    }
}

/// What QEMU counted for the disks of a running guest.
async fn counters(guest: &Guest) -> Result<block::Counters> {
    let monitor = guest.shared().answering_monitor().ok_or_else(late)?;
    tokio::time::timeout(stats::DEADLINE, block::Counters::ask(&monitor)).await.map_err(|_| late())
}

fn late() -> Error {
    Error::new(Code::OperationTimeout, From::Qemu, "the guest's monitor does not answer")
}

fn invalid(text: String) -> Error {
    Error::new(Code::InvalidArg, From::Qemu, text)
}

#[tonic::async_trait]
impl DomainStatsService for StatsApi {
    async fn get_all(
        &self,
        request: Request<GetAllStatsRequest>,
    ) -> Result<Response<GetAllStatsResponse>, Status> {
        answer(self.all(request.into_inner())).await
    }

    async fn get_block_info(
        &self,
        request: Request<DeviceStatsRequest>,
    ) -> Result<Response<BlockInfoResponse>, Status> {
        answer(self.block_info(request.into_inner())).await
    }

    async fn get_block_stats(
        &self,
        request: Request<DeviceStatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        answer(self.block_stats(request.into_inner())).await
    }

    async fn get_disk_errors(
        &self,
        request: Request<FlagsStatsRequest>,
    ) -> Result<Response<DiskErrorsResponse>, Status> {
        answer(self.disk_errors(request.into_inner())).await
    }

    async fn start_dirty_rate(
        &self,
        request: Request<StartDirtyRateRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.dirty_rate(request.into_inner())).await
    }

    async fn get_cpu_stats(
        &self,
        request: Request<CpuStatsRequest>,
    ) -> Result<Response<CpuStatsResponse>, Status> {
        answer(self.cpu_stats(request.into_inner())).await
    }

    async fn get_memory_stats(
        &self,
        request: Request<FlagsStatsRequest>,
    ) -> Result<Response<MemoryStatsResponse>, Status> {
        answer(self.memory_stats(request.into_inner())).await
    }
}
