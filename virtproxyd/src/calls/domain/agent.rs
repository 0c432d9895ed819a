//! The guest's agent and the emulator's monitor (libvirt's qemu program).

use virt_api::domain::v1alpha1::{AgentCommandRequest, MonitorCommandRequest};
use virt_error::Result;
use virt_wire::qemu::{
    DomainAgentCommandArgs, DomainAgentCommandRet, DomainMonitorCommandArgs, DomainMonitorCommandRet, procs,
};

use super::super::{Call, Ctx, calls, rpc};
use super::{Agents, Monitors, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainAgentCommand => agent;
    ask procs::DomainMonitorCommand => monitor;
};

async fn agent(c: Ctx, a: DomainAgentCommandArgs) -> Result<DomainAgentCommandRet> {
    let (domain, command) = (to_ref(a.dom), a.cmd);
    let request = AgentCommandRequest { domain, command, timeout: a.timeout, flags: a.flags };
    Ok(DomainAgentCommandRet { result: rpc!(c, Agents.command(request)).await?.result })
}

async fn monitor(c: Ctx, a: DomainMonitorCommandArgs) -> Result<DomainMonitorCommandRet> {
    let request = MonitorCommandRequest { domain: to_ref(a.dom), command: a.cmd, flags: a.flags };
    Ok(DomainMonitorCommandRet { result: rpc!(c, Monitors.command(request)).await?.result })
}
