//! The guest's agent and the emulator's monitor.

use virt_api::domain::v1alpha1::*;
use virt_error::{Domain, Error, Result};
use virt_wire::qemu::{
    self, DomainAgentCommandArgs, DomainAgentCommandRet, DomainMonitorCommandArgs, DomainMonitorCommandRet,
};
use virt_wire::remote::{self, procs};

use super::super::{Call, Ctx, calls, rpc};
use super::{Agents, Domains, Monitors, to_ref};
use crate::params;

pub(super) const CALLS: &[Call] = calls! {
    ask qemu::procs::DomainAgentCommand => agent;
    ask qemu::procs::DomainMonitorCommand => monitor;
    ask procs::DomainAgentSetResponseTimeout => response_timeout;
    ask procs::DomainGetFsinfo => filesystems;
    ask procs::DomainFsfreeze => freeze;
    ask procs::DomainFsthaw => thaw;
    ask procs::DomainFstrim => trim;
    ask procs::DomainGetTime => get_time;
    ask procs::DomainSetTime => set_time;
    ask procs::DomainGetGuestVcpus => get_vcpus;
    ask procs::DomainSetGuestVcpus => set_vcpus;
    ask procs::DomainGetGuestInfo => info;
    ask procs::DomainInterfaceAddresses => addresses;
    ask procs::DomainSetUserPassword => set_password;
    ask procs::DomainAuthorizedSshKeysGet => get_keys;
    ask procs::DomainAuthorizedSshKeysSet => set_keys;
    ask procs::DomainPmSuspendForDuration => suspend;
    ask procs::DomainPmWakeup => wakeup;
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

async fn response_timeout(
    c: Ctx,
    a: remote::DomainAgentSetResponseTimeoutArgs,
) -> Result<remote::DomainAgentSetResponseTimeoutRet> {
    let request = AgentTimeoutRequest { domain: to_ref(a.dom), timeout: a.timeout, flags: a.flags };
    rpc!(c, Agents.set_response_timeout(request)).await?;
    Ok(remote::DomainAgentSetResponseTimeoutRet { result: 0 })
}

async fn filesystems(c: Ctx, a: remote::DomainGetFsinfoArgs) -> Result<remote::DomainGetFsinfoRet> {
    let request = AgentRequest { domain: to_ref(a.dom), flags: a.flags };
    let found = rpc!(c, Agents.get_filesystems(request)).await?.filesystems.into_iter();
    let info: Vec<_> = found
        .map(|f| remote::DomainFsinfo {
            mountpoint: f.mountpoint,
            name: f.name,
            fstype: f.fstype,
            dev_aliases: f.disks,
        })
        .collect();
    let ret = u32::try_from(info.len()).unwrap_or(u32::MAX);
    Ok(remote::DomainGetFsinfoRet { info, ret })
}

fn freezing(dom: remote::NonnullDomain, mountpoints: Vec<String>, flags: u32) -> FreezeRequest {
    FreezeRequest { domain: to_ref(dom), mountpoints, flags }
}

async fn freeze(c: Ctx, a: remote::DomainFsfreezeArgs) -> Result<remote::DomainFsfreezeRet> {
    let request = freezing(a.dom, a.mountpoints, a.flags);
    let filesystems = rpc!(c, Agents.freeze_filesystems(request)).await?.filesystems;
    Ok(remote::DomainFsfreezeRet { filesystems })
}

async fn thaw(c: Ctx, a: remote::DomainFsthawArgs) -> Result<remote::DomainFsthawRet> {
    let request = freezing(a.dom, a.mountpoints, a.flags);
    let filesystems = rpc!(c, Agents.thaw_filesystems(request)).await?.filesystems;
    Ok(remote::DomainFsthawRet { filesystems })
}

async fn trim(c: Ctx, a: remote::DomainFstrimArgs) -> Result<()> {
    let (domain, mountpoint) = (to_ref(a.dom), a.mount_point);
    let request = TrimRequest { domain, mountpoint, minimum: a.minimum, flags: a.flags };
    rpc!(c, Agents.trim_filesystems(request)).await?;
    Ok(())
}

async fn get_time(c: Ctx, a: remote::DomainGetTimeArgs) -> Result<remote::DomainGetTimeRet> {
    let request = AgentRequest { domain: to_ref(a.dom), flags: a.flags };
    let time = rpc!(c, Agents.get_time(request)).await?;
    Ok(remote::DomainGetTimeRet { seconds: time.seconds, nseconds: time.nanoseconds })
}

async fn set_time(c: Ctx, a: remote::DomainSetTimeArgs) -> Result<()> {
    let (seconds, nanoseconds) = (a.seconds, a.nseconds);
    let request = SetTimeRequest { domain: to_ref(a.dom), seconds, nanoseconds, flags: a.flags };
    rpc!(c, Agents.set_time(request)).await?;
    Ok(())
}

async fn get_vcpus(c: Ctx, a: remote::DomainGetGuestVcpusArgs) -> Result<remote::DomainGetGuestVcpusRet> {
    let request = AgentRequest { domain: to_ref(a.dom), flags: a.flags };
    let found = rpc!(c, Agents.get_vcpus(request)).await?;
    Ok(remote::DomainGetGuestVcpusRet { params: params::to_wire(found.params) })
}

async fn set_vcpus(c: Ctx, a: remote::DomainSetGuestVcpusArgs) -> Result<()> {
    let (cpumap, online) = (a.cpumap, a.state != 0);
    let request = SetGuestVcpusRequest { domain: to_ref(a.dom), cpumap, online, flags: a.flags };
    rpc!(c, Agents.set_vcpus(request)).await?;
    Ok(())
}

async fn info(c: Ctx, a: remote::DomainGetGuestInfoArgs) -> Result<remote::DomainGetGuestInfoRet> {
    let request = GuestInfoRequest { domain: to_ref(a.dom), types: a.types, flags: a.flags };
    let found = rpc!(c, Agents.get_info(request)).await?;
    let mut params = params::to_wire(found.params);
    params.truncate(remote::DOMAIN_GUEST_INFO_PARAMS_MAX as usize);
    Ok(remote::DomainGetGuestInfoRet { params })
}

async fn addresses(
    c: Ctx,
    a: remote::DomainInterfaceAddressesArgs,
) -> Result<remote::DomainInterfaceAddressesRet> {
    let request = InterfaceAddressesRequest { domain: to_ref(a.dom), source: a.source, flags: a.flags };
    let found = rpc!(c, Domains.get_interface_addresses(request)).await?.interfaces.into_iter();
    let address = |a: IpAddress| remote::DomainIpAddr { r#type: a.r#type, addr: a.address, prefix: a.prefix };
    let interface = |i: GuestInterface| {
        let most = remote::DOMAIN_IP_ADDR_MAX as usize;
        let addrs = i.addresses.into_iter().take(most).map(address).collect();
        remote::DomainInterface { name: i.name, hwaddr: i.mac, addrs }
    };
    let ifaces = found.take(remote::DOMAIN_INTERFACE_MAX as usize).map(interface).collect();
    Ok(remote::DomainInterfaceAddressesRet { ifaces })
}

async fn set_password(c: Ctx, a: remote::DomainSetUserPasswordArgs) -> Result<()> {
    let function = "virDomainSetUserPassword";
    let given = |value: Option<String>, name: &str| {
        let text = format!("{name} in {function} must not be NULL");
        value.ok_or_else(|| Error::invalid_arg(Domain::Domain, function, name, text))
    };
    let (user, password) = (given(a.user, "user")?, given(a.password, "password")?);
    let request = SetUserPasswordRequest { domain: to_ref(a.dom), user, password, flags: a.flags };
    rpc!(c, Agents.set_user_password(request)).await?;
    Ok(())
}

async fn get_keys(
    c: Ctx,
    a: remote::DomainAuthorizedSshKeysGetArgs,
) -> Result<remote::DomainAuthorizedSshKeysGetRet> {
    let request = SshKeysRequest { domain: to_ref(a.dom), user: a.user, flags: a.flags };
    let mut keys = rpc!(c, Agents.get_ssh_keys(request)).await?.keys;
    keys.truncate(remote::DOMAIN_AUTHORIZED_SSH_KEYS_MAX as usize);
    Ok(remote::DomainAuthorizedSshKeysGetRet { keys })
}

async fn set_keys(c: Ctx, a: remote::DomainAuthorizedSshKeysSetArgs) -> Result<()> {
    let request = SetSshKeysRequest { domain: to_ref(a.dom), user: a.user, keys: a.keys, flags: a.flags };
    rpc!(c, Agents.set_ssh_keys(request)).await?;
    Ok(())
}

async fn suspend(c: Ctx, a: remote::DomainPmSuspendForDurationArgs) -> Result<()> {
    let (target, duration) = (a.target, a.duration);
    let request = PmSuspendRequest { domain: to_ref(a.dom), target, duration, flags: a.flags };
    rpc!(c, Agents.suspend(request)).await?;
    Ok(())
}

async fn wakeup(c: Ctx, a: remote::DomainPmWakeupArgs) -> Result<()> {
    rpc!(c, Domains.wakeup(WakeupRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}
