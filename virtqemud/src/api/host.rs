//! The node, capabilities and CPU calls.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::common::v1alpha1::{TypedParam, typed_param::Value};
use virt_api::host::v1alpha1::host_service_server::HostService;
use virt_api::host::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_rpc::IntoStatus;

use super::check::{flags, flags_of};
use crate::cpu::baseline::Ask;
use crate::host::{Choice, HostFacts, sysinfo};

/// Answers [`HostService`] from [`HostFacts`].
#[derive(Clone)]
pub struct HostApi {
    facts: Arc<HostFacts>,
}

impl HostApi {
    /// A service for these facts.
    pub fn new(facts: Arc<HostFacts>) -> Self {
        Self { facts }
    }

    /// Runs `work` where it may block.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostFacts) -> Result<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let facts = self.facts.clone();
        let done = tokio::task::spawn_blocking(move || work(&facts)).await;
        let lost = |e| Error::internal(Domain::Qemu, "the answer was lost").with_source(e);
        done.unwrap_or_else(|e| Err(lost(e))).map(Response::new).status()
    }
}

#[tonic::async_trait]
impl HostService for HostApi {
    async fn get_version(&self, _: Request<Empty>) -> Result<Response<VersionResponse>, Status> {
        self.ask(|facts| {
            let hypervisor = facts.hypervisor_version()?;
            let daemon = env!("CARGO_PKG_VERSION").to_string();
            Ok(VersionResponse { r#type: "QEMU".to_string(), hypervisor, daemon })
        })
        .await
    }

    async fn get_hostname(&self, _: Request<Empty>) -> Result<Response<HostnameResponse>, Status> {
        self.ask(|facts| Ok(HostnameResponse { hostname: facts.node().hostname() })).await
    }

    async fn get_capabilities(&self, _: Request<Empty>) -> Result<Response<XmlResponse>, Status> {
        self.ask(|facts| Ok(XmlResponse { xml: facts.capabilities()? })).await
    }

    async fn get_domain_capabilities(
        &self,
        request: Request<DomainCapabilitiesRequest>,
    ) -> Result<Response<XmlResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            let known = VIR_CONNECT_GET_DOMAIN_CAPABILITIES_DISABLE_DEPRECATED_FEATURES;
            flags(r.flags, known, "qemuConnectGetDomainCapabilities")?;
            let choice =
                Choice { emulator: r.emulator, arch: r.arch, machine: r.machine, virt_type: r.virt_type };
            Ok(XmlResponse { xml: facts.domain_capabilities(&choice, r.flags & known != 0)? })
        })
        .await
    }

    async fn get_node_info(&self, _: Request<Empty>) -> Result<Response<NodeInfoResponse>, Status> {
        self.ask(|facts| {
            let shape = facts.node().shape();
            Ok(NodeInfoResponse {
                model: facts.arch().to_string(),
                memory: facts.node().total_memory(),
                cpus: shape.cpus,
                mhz: facts.node().mhz(),
                nodes: shape.nodes,
                sockets: shape.sockets,
                cores: shape.cores,
                threads: shape.threads,
            })
        })
        .await
    }

    async fn get_max_vcpus(
        &self,
        request: Request<MaxVcpusRequest>,
    ) -> Result<Response<MaxVcpusResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| Ok(MaxVcpusResponse { max_vcpus: facts.max_vcpus(r.r#type.as_deref())? })).await
    }

    async fn get_sysinfo(&self, request: Request<FlagsRequest>) -> Result<Response<XmlResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags(r.flags, 0, "qemuConnectGetSysinfo")?;
            Ok(XmlResponse { xml: sysinfo::document(facts.node())? })
        })
        .await
    }

    async fn get_cpu_map(&self, request: Request<FlagsRequest>) -> Result<Response<CpuMapResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags_of(Domain::None, r.flags, 0, "virHostCPUGetMap")?;
            let (map, online, cpus) = facts.cpu_map();
            Ok(CpuMapResponse { map: map.into(), online, cpus })
        })
        .await
    }

    async fn get_cpu_stats(
        &self,
        request: Request<NodeStatsRequest>,
    ) -> Result<Response<NodeStatsResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags_of(Domain::None, r.flags, 0, "virHostCPUGetStats")?;
            let time = facts.node().cpu_time(only_all(r.which, "virNodeGetCPUStats", "cpuNum")?)?;
            let rows =
                [("kernel", time.kernel), ("user", time.user), ("idle", time.idle), ("iowait", time.iowait)];
            Ok(stats(&rows))
        })
        .await
    }

    async fn get_memory_stats(
        &self,
        request: Request<NodeStatsRequest>,
    ) -> Result<Response<NodeStatsResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags_of(Domain::None, r.flags, 0, "virHostMemGetStats")?;
            let cell = only_all(r.which, "virNodeGetMemoryStats", "cellNum")?;
            Ok(stats(&facts.node().memory_stats(cell)?))
        })
        .await
    }

    async fn get_free_memory(&self, _: Request<Empty>) -> Result<Response<FreeMemoryResponse>, Status> {
        self.ask(|facts| Ok(FreeMemoryResponse { free: facts.node().free_memory() })).await
    }

    async fn get_cells_free_memory(
        &self,
        request: Request<CellsFreeMemoryRequest>,
    ) -> Result<Response<CellsFreeMemoryResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| Ok(CellsFreeMemoryResponse { cells: facts.node().cells_free(r.start, r.max)? }))
            .await
    }

    async fn get_free_pages(
        &self,
        request: Request<FreePagesRequest>,
    ) -> Result<Response<FreePagesResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags(r.flags, 0, "qemuNodeGetFreePages")?;
            Ok(FreePagesResponse { counts: facts.node().free_pages(&r.pages, r.start_cell, r.cell_count)? })
        })
        .await
    }

    async fn get_memory_parameters(
        &self,
        request: Request<FlagsRequest>,
    ) -> Result<Response<ParametersResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags_of(Domain::None, r.flags, VIR_TYPED_PARAM_STRING_OKAY, "virHostMemGetParameters")?;
            let row = |(parameter, value): (crate::host::KsmParameter, u64)| TypedParam {
                field: parameter.name.to_string(),
                value: Some(if parameter.wide { Value::Ul(value) } else { Value::Ui(clamp(value)) }),
            };
            Ok(ParametersResponse { params: facts.node().ksm().into_iter().map(row).collect() })
        })
        .await
    }

    async fn set_memory_parameters(
        &self,
        request: Request<SetMemoryParametersRequest>,
    ) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags_of(Domain::None, r.flags, VIR_TYPED_PARAM_STRING_OKAY, "virHostMemGetParameters")?;
            let values = r.params.into_iter().map(|p| match p.value {
                Some(Value::Ui(value)) => Ok((p.field, u64::from(value))),
                Some(Value::Ul(value)) => Ok((p.field, value)),
                _ => {
                    let text = format!("invalid type for parameter '{}', expected uint", p.field);
                    Err(Error::new(Code::InvalidArg, Domain::None, text))
                }
            });
            facts.node().set_ksm(&values.collect::<Result<Vec<_>>>()?)?;
            Ok(Empty {})
        })
        .await
    }

    async fn get_security_model(&self, _: Request<Empty>) -> Result<Response<SecurityModelResponse>, Status> {
        self.ask(|facts| {
            let primary = facts.security().into_iter().next();
            let (model, doi) = primary.map_or_else(Default::default, |m| (m.name, m.doi));
            Ok(SecurityModelResponse { model, doi })
        })
        .await
    }

    async fn get_cpu_models(
        &self,
        request: Request<CpuModelsRequest>,
    ) -> Result<Response<CpuModelsResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            flags(r.flags, 0, "qemuConnectGetCPUModelNames")?;
            Ok(CpuModelsResponse { models: facts.cpu_model_names(&r.arch)? })
        })
        .await
    }

    async fn compare_cpu(
        &self,
        request: Request<CompareCpuRequest>,
    ) -> Result<Response<CompareCpuResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            let function =
                if r.hypervisor { "qemuConnectCompareHypervisorCPU" } else { "qemuConnectCompareCPU" };
            // Validation needs the schema files, which this daemon does not read yet: refused, not ignored.
            flags(r.flags, VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, function)?;
            let choice =
                Choice { emulator: r.emulator, arch: r.arch, machine: r.machine, virt_type: r.virt_type };
            let must = r.flags & VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE != 0;
            let answer = facts.compare_cpu(&r.xml, r.hypervisor.then_some(&choice), must)?;
            Ok(CompareCpuResponse { result: answer as i32 })
        })
        .await
    }

    async fn baseline_cpu(
        &self,
        request: Request<BaselineCpuRequest>,
    ) -> Result<Response<XmlResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |facts| {
            let function =
                if r.hypervisor { "qemuConnectBaselineHypervisorCPU" } else { "qemuConnectBaselineCPU" };
            flags(r.flags, ALL_CONNECT_BASELINE_CPU_FLAGS, function)?;
            if r.xml.is_empty() {
                let function =
                    if r.hypervisor { "virConnectBaselineHypervisorCPU" } else { "virConnectBaselineCPU" };
                let text = format!("xmlCPUs in {function} must not be NULL");
                return Err(Error::invalid_arg(Domain::Domain, function, "xmlCPUs", text));
            }
            let choice =
                Choice { emulator: r.emulator, arch: r.arch, machine: r.machine, virt_type: r.virt_type };
            let ask = Ask {
                expand: r.flags & VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES != 0,
                migratable: r.flags & VIR_CONNECT_BASELINE_CPU_MIGRATABLE != 0,
            };
            Ok(XmlResponse { xml: facts.baseline_cpu(&r.xml, r.hypervisor.then_some(&choice), ask)? })
        })
        .await
    }

    async fn get_sev_info(
        &self,
        request: Request<FlagsRequest>,
    ) -> Result<Response<ParametersResponse>, Status> {
        let r = request.into_inner();
        self.ask(move |_| {
            flags(r.flags, VIR_TYPED_PARAM_STRING_OKAY, "qemuNodeGetSEVInfo")?;
            // Encrypted guests are not offered by this driver yet, so its emulators have no SEV guests.
            Err(Error::new(Code::OperationUnsupported, Domain::Qemu, "QEMU does not support SEV guest"))
        })
        .await
    }

    async fn supports_feature(
        &self,
        request: Request<FeatureRequest>,
    ) -> Result<Response<FeatureResponse>, Status> {
        let supported = supports(request.into_inner().feature);
        Ok(Response::new(FeatureResponse { supported }))
    }
}

/// `virDrvFeature` numbers this driver supports; those the RPC layer answers itself (2, 5, 8, 10, 14, 15) are not asked.
/// Migration is not there yet: its features (1, 3, 4, 6, 11, 12, 13) stay off until it is.
fn supports(feature: i32) -> bool {
    /// Typed parameters may be strings.
    const TYPED_PARAM_STRING: i32 = 9;
    /// The arguments of network updates are in the order the API documents.
    const NETWORK_UPDATE_ORDER: i32 = 16;
    matches!(feature, TYPED_PARAM_STRING | NETWORK_UPDATE_ORDER)
}

fn only_all(which: i32, function: &'static str, argument: &'static str) -> Result<i32> {
    if which < -1 {
        let text = format!("{argument} in {function} only accepts -1 as a negative value");
        return Err(Error::invalid_arg(Domain::Qemu, function, argument, text));
    }
    Ok(which)
}

fn stats(rows: &[(&str, u64)]) -> NodeStatsResponse {
    let stats = rows.iter().map(|(field, value)| NodeStat { field: field.to_string(), value: *value });
    NodeStatsResponse { stats: stats.collect() }
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
