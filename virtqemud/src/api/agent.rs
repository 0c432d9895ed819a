//! The guest's agent and QEMU's monitor, for people who know what they do.

use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::owner::{Class, Spec};

use super::check::flags;
use crate::agent::{self, Patience};
use crate::driver::Driver;
use crate::guest::{CUSTOM_MONITOR, not_running};
use crate::qmp;
use crate::qmp::commands::HumanMonitorCommand;

/// `GuestAgentService.Command`.
///
/// # Errors
/// As [`agent::command`].
pub async fn command(driver: &Driver, request: AgentCommandRequest) -> Result<AgentCommandResponse> {
    flags(request.flags, 0, "qemuDomainQemuAgentCommand")?;
    let patience = Patience::from_number(request.timeout)?;
    let guest = driver.find(request.domain.as_ref())?;
    let result = agent::command(&guest, &request.command, patience).await;
    if guest.published().value.is_active() {
        let noted = Spec::new("taint", Class::Query);
        guest
            .work(noted, |work| {
                work.taint("custom-ga-command");
                Box::pin(async { Ok(()) })
            })
            .await?;
    }
    Ok(AgentCommandResponse { result: result? })
}

/// `MonitorService.Command`.
///
/// # Errors
/// Code 42; code 55 when it does not run; code 1 for what is no command.
pub async fn monitor(driver: &Driver, request: MonitorCommandRequest) -> Result<MonitorCommandResponse> {
    const HMP: u32 = VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;
    flags(request.flags, HMP, "qemuDomainQemuMonitorCommandWithFiles")?;
    let guest = driver.find(request.domain.as_ref())?;
    if !guest.published().value.is_active() {
        return Err(not_running());
    }
    let human = request.flags & HMP != 0;
    let command = request.command;
    let result = guest
        .work(Spec::new("monitor command", Class::Modify), move |work| {
            Box::pin(async move {
                let monitor = work.monitor()?;
                work.taint(CUSTOM_MONITOR);
                if human {
                    return Ok(monitor.run(&HumanMonitorCommand { command_line: command }).await?);
                }
                monitor.pass(&command).await.map_err(|e| match e {
                    qmp::Error::BadCommand(_) => {
                        let text = "failed to parse JSON: unexpected character";
                        Error::new(Code::InternalError, From::None, text).with_source(e)
                    }
                    e => e.into(),
                })
            })
        })
        .await?;
    Ok(MonitorCommandResponse { result })
}

/// `DomainService.GetHostname`, from the agent. Leases are the network daemon's.
///
/// # Errors
/// As [`agent::call`]; code 108 when it has none.
pub async fn get_hostname(driver: &Driver, request: GetHostnameRequest) -> Result<GetHostnameResponse> {
    flags(request.flags, ALL_DOMAIN_GET_HOSTNAME_FLAGS, "qemuDomainGetHostname")?;
    let guest = driver.find(request.domain.as_ref())?;
    let snapshot = guest.published();
    if !snapshot.value.is_active() {
        return Err(not_running());
    }
    // The agent is the default; leases are asked for by name.
    if request.flags & VIR_DOMAIN_GET_HOSTNAME_LEASE != 0 {
        let text = format!("no hostname found for domain {}", snapshot.value.name);
        return Err(Error::new(Code::NoHostname, From::Qemu, text));
    }
    let answer = agent::call(&guest, "guest-get-host-name", serde_json::Value::Null).await?;
    match answer.get("host-name").and_then(serde_json::Value::as_str) {
        Some(name) => Ok(GetHostnameResponse { hostname: name.into() }),
        None => Err(Error::internal(From::Qemu, "'host-name' missing in reply of guest-get-host-name")),
    }
}
