//! CPU models: names, comparing, the common denominator.

use virt_api::host::v1alpha1::{
    BaselineCpuRequest, CompareCpuRequest, CpuModelsRequest, host_service_client::HostServiceClient as Host,
};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls, count, rpc};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectGetCpuModelNames => models;
    ask procs::ConnectCompareCpu => compare;
    ask procs::ConnectCompareHypervisorCpu => compare_hypervisor;
    ask procs::ConnectBaselineCpu => baseline;
    ask procs::ConnectBaselineHypervisorCpu => baseline_hypervisor;
};

async fn models(c: Ctx, a: ConnectGetCpuModelNamesArgs) -> Result<ConnectGetCpuModelNamesRet> {
    let request = CpuModelsRequest { arch: a.arch, flags: a.flags };
    let models = rpc!(c, Host.get_cpu_models(request)).await?.models;
    let ret = count(models.len());
    Ok(ConnectGetCpuModelNamesRet { models: if a.need_results == 0 { Vec::new() } else { models }, ret })
}

async fn compare(c: Ctx, a: ConnectCompareCpuArgs) -> Result<ConnectCompareCpuRet> {
    let request = CompareCpuRequest { xml: a.xml, flags: a.flags, ..Default::default() };
    Ok(ConnectCompareCpuRet { result: rpc!(c, Host.compare_cpu(request)).await?.result })
}

async fn compare_hypervisor(
    c: Ctx,
    a: ConnectCompareHypervisorCpuArgs,
) -> Result<ConnectCompareHypervisorCpuRet> {
    let request = CompareCpuRequest {
        xml: a.xml_cpu,
        emulator: a.emulator,
        arch: a.arch,
        machine: a.machine,
        virt_type: a.virttype,
        flags: a.flags,
        hypervisor: true,
    };
    Ok(ConnectCompareHypervisorCpuRet { result: rpc!(c, Host.compare_cpu(request)).await?.result })
}

async fn baseline(c: Ctx, a: ConnectBaselineCpuArgs) -> Result<ConnectBaselineCpuRet> {
    let request = BaselineCpuRequest { xml: a.xml_cp_us, flags: a.flags, ..Default::default() };
    Ok(ConnectBaselineCpuRet { cpu: rpc!(c, Host.baseline_cpu(request)).await?.xml })
}

async fn baseline_hypervisor(
    c: Ctx,
    a: ConnectBaselineHypervisorCpuArgs,
) -> Result<ConnectBaselineHypervisorCpuRet> {
    let request = BaselineCpuRequest {
        xml: a.xml_cp_us,
        emulator: a.emulator,
        arch: a.arch,
        machine: a.machine,
        virt_type: a.virttype,
        flags: a.flags,
        hypervisor: true,
    };
    Ok(ConnectBaselineHypervisorCpuRet { cpu: rpc!(c, Host.baseline_cpu(request)).await?.xml })
}
