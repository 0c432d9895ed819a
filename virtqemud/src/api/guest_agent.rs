//! `GuestAgentService` beyond the raw command: requests are checked and passed to the agent's client.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::guest_agent_service_server::GuestAgentService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain as Document;
use virt_rpc::answer;
use virt_xml::Value as _;

use super::check::flags;
use super::parameters::to_message;
use crate::agent::{self, Patience, filesystems, info, login, suspend, time, vcpus};
use crate::driver::Driver;
use crate::guest::{Guest, not_running};
use crate::net::addresses;
use crate::qmp;

type Answer<T> = Result<Response<T>, Status>;

/// Answers [`GuestAgentService`].
#[derive(Clone)]
pub struct AgentApi {
    driver: Arc<Driver>,
}

impl AgentApi {
    /// A service for these guests.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    /// The guest, when the flags are known.
    fn guest(
        &self,
        domain: Option<&DomainRef>,
        given: u32,
        known: u32,
        name: &'static str,
    ) -> Result<Arc<Guest>> {
        flags(given, known, name)?;
        self.driver.find(domain)
    }

    fn response_timeout(&self, r: &AgentTimeoutRequest) -> Result<Empty> {
        let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainAgentSetResponseTimeout")?;
        guest.shared().set_agent_patience(Patience::from_number(r.timeout)?);
        Ok(Empty {})
    }

    async fn filesystems(&self, r: AgentRequest) -> Result<FilesystemsResponse> {
        let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainGetFSInfo")?;
        let filesystems = filesystems::get(&guest).await?.into_iter().map(|f| Filesystem {
            mountpoint: f.mountpoint,
            name: f.name,
            fstype: f.fstype,
            disks: f.disks.into_iter().filter_map(|d| d.target).collect(),
        });
        Ok(FilesystemsResponse { filesystems: filesystems.collect() })
    }

    async fn new_time(&self, r: SetTimeRequest) -> Result<Empty> {
        let guest = self.guest(r.domain.as_ref(), r.flags, VIR_DOMAIN_TIME_SYNC, "qemuDomainSetTime")?;
        let given = (r.flags & VIR_DOMAIN_TIME_SYNC == 0).then_some((r.seconds, r.nanoseconds));
        time::set(&guest, given).await?;
        // Ticks that the machine still owes would put the clock wrong again; not every machine has that clock.
        if let Some(monitor) = guest.shared().answering_monitor()
            && let Err(error) = monitor.run_untyped("rtc-reset-reinjection", &serde_json::Value::Null).await
            && !matches!(error, qmp::Error::Refused { .. })
        {
            return Err(error.into());
        }
        Ok(Empty {})
    }

    async fn switch_vcpus(&self, r: SetGuestVcpusRequest) -> Result<Empty> {
        let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainSetGuestVcpus")?;
        let map = Bitmap::parse(&r.cpumap).map_err(|_| {
            let text = format!("Failed to parse bitmap '{}'", r.cpumap);
            Error::new(Code::InvalidArg, From::None, text)
        })?;
        vcpus::set(&guest, &map, r.online).await?;
        Ok(Empty {})
    }

    async fn new_keys(&self, r: SetSshKeysRequest) -> Result<Empty> {
        const APPEND: u32 = VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND;
        const REMOVE: u32 = VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE;
        let known = APPEND | REMOVE;
        let guest = self.guest(r.domain.as_ref(), r.flags, known, "qemuDomainAuthorizedSSHKeysSet")?;
        let change = match r.flags & known {
            0 => login::Change::Replace,
            APPEND => login::Change::Append,
            REMOVE => login::Change::Remove,
            _ => {
                let text = "Flags 'VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND' and \
                            'VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE' are mutually exclusive";
                return Err(Error::invalid_arg(From::Domain, "virDomainAuthorizedSSHKeysSet", "ctl", text));
            }
        };
        login::set_keys(&guest, &r.user, &r.keys, change).await?;
        Ok(Empty {})
    }

    async fn sleep(&self, r: PmSuspendRequest) -> Result<Empty> {
        let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainPMSuspendForDuration")?;
        if r.duration != 0 {
            let text = "Duration not supported. Use 0 for now";
            return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
        }
        let target = match i32::try_from(r.target) {
            Ok(VIR_NODE_SUSPEND_TARGET_MEM) => suspend::Target::Memory,
            Ok(VIR_NODE_SUSPEND_TARGET_DISK) => suspend::Target::Disk,
            Ok(VIR_NODE_SUSPEND_TARGET_HYBRID) => suspend::Target::Hybrid,
            _ => {
                let text = format!("Unknown suspend target: {}", r.target);
                return Err(Error::new(Code::InvalidArg, From::Qemu, text));
            }
        };
        suspend::suspend(&guest, target).await?;
        Ok(Empty {})
    }
}

#[tonic::async_trait]
impl GuestAgentService for AgentApi {
    async fn command(&self, request: Request<AgentCommandRequest>) -> Answer<AgentCommandResponse> {
        answer(super::agent::command(&self.driver, request.into_inner())).await
    }

    async fn set_response_timeout(&self, request: Request<AgentTimeoutRequest>) -> Answer<Empty> {
        answer(async { self.response_timeout(&request.into_inner()) }).await
    }

    async fn get_filesystems(&self, request: Request<AgentRequest>) -> Answer<FilesystemsResponse> {
        answer(self.filesystems(request.into_inner())).await
    }

    async fn freeze_filesystems(&self, request: Request<FreezeRequest>) -> Answer<FreezeResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainFSFreeze")?;
            Ok(FreezeResponse { filesystems: filesystems::freeze(&guest, &r.mountpoints).await? })
        })
        .await
    }

    async fn thaw_filesystems(&self, request: Request<FreezeRequest>) -> Answer<FreezeResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainFSThaw")?;
            if !r.mountpoints.is_empty() {
                let text = "specifying mountpoints is not supported";
                return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
            }
            Ok(FreezeResponse { filesystems: filesystems::thaw(&guest).await? })
        })
        .await
    }

    async fn trim_filesystems(&self, request: Request<TrimRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainFSTrim")?;
            filesystems::trim(&guest, r.mountpoint.as_deref(), r.minimum).await?;
            Ok(Empty {})
        })
        .await
    }

    async fn get_time(&self, request: Request<AgentRequest>) -> Answer<GetTimeResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainGetTime")?;
            let (seconds, nanoseconds) = time::get(&guest).await?;
            Ok(GetTimeResponse { seconds, nanoseconds })
        })
        .await
    }

    async fn set_time(&self, request: Request<SetTimeRequest>) -> Answer<Empty> {
        answer(self.new_time(request.into_inner())).await
    }

    async fn get_vcpus(&self, request: Request<AgentRequest>) -> Answer<AgentParametersResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainGetGuestVcpus")?;
            let params = vcpus::get(&guest).await?;
            Ok(AgentParametersResponse { params: params.into_iter().map(to_message).collect() })
        })
        .await
    }

    async fn set_vcpus(&self, request: Request<SetGuestVcpusRequest>) -> Answer<Empty> {
        answer(self.switch_vcpus(request.into_inner())).await
    }

    async fn get_info(&self, request: Request<GuestInfoRequest>) -> Answer<AgentParametersResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainGetGuestInfo")?;
            let unknown = r.types & !ALL_DOMAIN_GUEST_INFO_TYPES;
            if unknown != 0 {
                let text = format!("unsupported guest information types '0x{unknown:x}'");
                return Err(Error::new(Code::InvalidArg, From::Qemu, text));
            }
            let params = info::get(&guest, r.types).await?;
            Ok(AgentParametersResponse { params: params.into_iter().map(to_message).collect() })
        })
        .await
    }

    async fn set_user_password(&self, request: Request<SetUserPasswordRequest>) -> Answer<Empty> {
        let r = request.into_inner();
        answer(async {
            let known = VIR_DOMAIN_PASSWORD_ENCRYPTED;
            let guest = self.guest(r.domain.as_ref(), r.flags, known, "qemuDomainSetUserPassword")?;
            login::set_password(&guest, &r.user, &r.password, r.flags & known != 0).await?;
            Ok(Empty {})
        })
        .await
    }

    async fn get_ssh_keys(&self, request: Request<SshKeysRequest>) -> Answer<SshKeysResponse> {
        let r = request.into_inner();
        answer(async {
            let guest = self.guest(r.domain.as_ref(), r.flags, 0, "qemuDomainAuthorizedSSHKeysGet")?;
            Ok(SshKeysResponse { keys: login::keys(&guest, &r.user).await? })
        })
        .await
    }

    async fn set_ssh_keys(&self, request: Request<SetSshKeysRequest>) -> Answer<Empty> {
        answer(self.new_keys(request.into_inner())).await
    }

    async fn suspend(&self, request: Request<PmSuspendRequest>) -> Answer<Empty> {
        answer(self.sleep(request.into_inner())).await
    }
}

fn running(guest: &Guest) -> Result<Arc<Document>> {
    guest.published().value.live.clone().ok_or_else(not_running)
}

/// What the host knows of a guest's cards.
fn told(found: Vec<addresses::Found>) -> InterfaceAddressesResponse {
    let kind = |v6| if v6 { VIR_IP_ADDR_TYPE_IPV6 } else { VIR_IP_ADDR_TYPE_IPV4 };
    let interfaces = found.into_iter().map(|card| GuestInterface {
        name: card.name,
        mac: Some(card.mac),
        addresses: card
            .addresses
            .into_iter()
            .map(|a| IpAddress { r#type: kind(a.is_v6), address: a.address, prefix: a.prefix })
            .collect(),
    });
    InterfaceAddressesResponse { interfaces: interfaces.collect() }
}

/// `DomainService.GetInterfaceAddresses`: from the agent, the leases of the guest's networks, or the host's neighbours.
///
/// # Errors
/// As [`agent::call`]; code 29 for a read-only caller of the agent; code 55 when the guest does not run.
pub async fn interface_addresses(
    driver: &Driver,
    r: InterfaceAddressesRequest,
    read_only: bool,
) -> Result<InterfaceAddressesResponse> {
    flags(r.flags, 0, "qemuDomainInterfaceAddresses")?;
    let guest = driver.find(r.domain.as_ref())?;
    match i32::try_from(r.source) {
        Ok(VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT) if read_only => {
            let text = "read only access prevents virDomainInterfaceAddresses";
            return Err(Error::new(Code::OperationDenied, From::Domain, text));
        }
        Ok(VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT) => {}
        Ok(VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE) => {
            let live = running(&guest)?;
            return Ok(told(addresses::leases(&driver.networks, &live).await?));
        }
        Ok(VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP) => {
            let live = running(&guest)?;
            return Ok(told(addresses::neighbours(&live).await?));
        }
        _ => {
            let text = format!("Unknown IP address data source {}", r.source);
            return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
        }
    }
    let interfaces = agent::interfaces::get(&guest).await?.into_iter().map(|i| GuestInterface {
        name: i.name,
        mac: i.mac,
        addresses: i
            .addresses
            .into_iter()
            .map(|a| IpAddress { r#type: a.kind, address: a.address, prefix: a.prefix })
            .collect(),
    });
    Ok(InterfaceAddressesResponse { interfaces: interfaces.collect() })
}
