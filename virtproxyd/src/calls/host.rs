//! The node, the hypervisor and what they can do.

use virt_api::host::v1alpha1::{
    CpuMapResponse, DomainCapabilitiesRequest, Empty, FlagsRequest, MaxVcpusRequest, NodeStatsRequest,
    host_service_client::HostServiceClient as Host,
};
use virt_error::{Domain, Error, Result};
use virt_wire::remote::{procs, *};
use virt_wire::xdr::{CharArray, Chars, Opaque};

use super::{Call, Ctx, calls, rpc};
use crate::params;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectGetVersion => version;
    ask procs::ConnectGetHostname => hostname;
    ask procs::ConnectGetCapabilities => capabilities;
    ask procs::ConnectGetDomainCapabilities => domain_capabilities;
    ask procs::ConnectGetMaxVcpus => max_vcpus;
    ask procs::ConnectGetSysinfo => sysinfo;
    ask procs::NodeGetInfo => node_info;
    ask procs::NodeGetSecurityModel => security_model;
    ask procs::NodeGetCpuMap => cpu_map;
    ask procs::NodeGetCpuStats => cpu_stats;
    ask procs::NodeGetSevInfo => sev_info;
};

async fn version(c: Ctx, (): ()) -> Result<ConnectGetVersionRet> {
    Ok(ConnectGetVersionRet { hv_ver: rpc!(c, Host.get_version(Empty {})).await?.hypervisor })
}

async fn hostname(c: Ctx, (): ()) -> Result<ConnectGetHostnameRet> {
    Ok(ConnectGetHostnameRet { hostname: rpc!(c, Host.get_hostname(Empty {})).await?.hostname })
}

async fn capabilities(c: Ctx, (): ()) -> Result<ConnectGetCapabilitiesRet> {
    Ok(ConnectGetCapabilitiesRet { capabilities: rpc!(c, Host.get_capabilities(Empty {})).await?.xml })
}

async fn domain_capabilities(
    c: Ctx,
    a: ConnectGetDomainCapabilitiesArgs,
) -> Result<ConnectGetDomainCapabilitiesRet> {
    let request = DomainCapabilitiesRequest {
        emulator: a.emulatorbin,
        arch: a.arch,
        machine: a.machine,
        virt_type: a.virttype,
        flags: a.flags,
    };
    let capabilities = rpc!(c, Host.get_domain_capabilities(request)).await?.xml;
    Ok(ConnectGetDomainCapabilitiesRet { capabilities })
}

async fn max_vcpus(c: Ctx, a: ConnectGetMaxVcpusArgs) -> Result<ConnectGetMaxVcpusRet> {
    let max = rpc!(c, Host.get_max_vcpus(MaxVcpusRequest { r#type: a.r#type })).await?.max_vcpus;
    Ok(ConnectGetMaxVcpusRet { max_vcpus: i32::try_from(max).unwrap_or(i32::MAX) })
}

async fn sysinfo(c: Ctx, a: ConnectGetSysinfoArgs) -> Result<ConnectGetSysinfoRet> {
    let sysinfo = rpc!(c, Host.get_sysinfo(FlagsRequest { flags: a.flags })).await?.xml;
    Ok(ConnectGetSysinfoRet { sysinfo })
}

async fn node_info(c: Ctx, (): ()) -> Result<NodeGetInfoRet> {
    let info = rpc!(c, Host.get_node_info(Empty {})).await?;
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Ok(NodeGetInfoRet {
        model: CharArray::from_text(&info.model),
        memory: info.memory,
        cpus: int(info.cpus),
        mhz: int(info.mhz),
        nodes: int(info.nodes),
        sockets: int(info.sockets),
        cores: int(info.cores),
        threads: int(info.threads),
    })
}

async fn security_model(c: Ctx, (): ()) -> Result<NodeGetSecurityModelRet> {
    let model = rpc!(c, Host.get_security_model(Empty {})).await?;
    Ok(NodeGetSecurityModelRet { model: c_text(model.model), doi: c_text(model.doi) })
}

/// Text with its closing NUL, as the reference sends it.
fn c_text(text: String) -> Chars {
    let mut bytes = text.into_bytes();
    bytes.truncate(SECURITY_MODEL_MAX as usize - 1);
    bytes.push(0);
    Chars(bytes)
}

async fn cpu_map(c: Ctx, a: NodeGetCpuMapArgs) -> Result<NodeGetCpuMapRet> {
    if a.flags != 0 {
        return Err(Error::unsupported_flags(Domain::None, "virHostCPUGetMap", a.flags));
    }
    let CpuMapResponse { map, online, cpus } = rpc!(c, Host.get_cpu_map(FlagsRequest { flags: 0 })).await?;
    Ok(NodeGetCpuMapRet {
        cpumap: Opaque(if a.need_map == 0 { Vec::new() } else { map.into() }),
        online: if a.need_online == 0 { 0 } else { online },
        ret: i32::try_from(cpus).unwrap_or(i32::MAX),
    })
}

async fn cpu_stats(c: Ctx, a: NodeGetCpuStatsArgs) -> Result<NodeGetCpuStatsRet> {
    params::room_of(a.nparams, NODE_CPU_STATS_MAX)?;
    let request = NodeStatsRequest { which: a.cpu_num, flags: a.flags };
    let stats = rpc!(c, Host.get_cpu_stats(request)).await?.stats.into_iter();
    let stats = stats.map(|s| NodeGetCpuStats { field: s.field, value: s.value }).collect();
    let (params, nparams) = params::sized(stats, a.nparams, NODE_CPU_STATS_MAX)?;
    Ok(NodeGetCpuStatsRet { params, nparams })
}

async fn sev_info(c: Ctx, a: NodeGetSevInfoArgs) -> Result<NodeGetSevInfoRet> {
    params::room_of(a.nparams, NODE_SEV_INFO_MAX)?;
    let info = rpc!(c, Host.get_sev_info(FlagsRequest { flags: a.flags })).await?;
    let (params, nparams) = params::sized(params::to_wire(info.params), a.nparams, NODE_SEV_INFO_MAX)?;
    Ok(NodeGetSevInfoRet { params, nparams })
}
