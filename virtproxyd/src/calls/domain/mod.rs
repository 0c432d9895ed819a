//! Calls about domains.

mod agent;
mod console;
mod device;
mod document;
mod interface;
mod job;
mod lifecycle;
mod lookup;
mod metadata;
mod parameters;
mod pins;
mod save;
mod state;
mod stats;
mod tuning;

use bytes::Bytes;
use virt_api::domain::v1alpha1 as api;
use virt_api::domain::v1alpha1::domain_block_service_client::DomainBlockServiceClient as Blocks;
use virt_api::domain::v1alpha1::domain_console_service_client::DomainConsoleServiceClient as Consoles;
use virt_api::domain::v1alpha1::domain_device_service_client::DomainDeviceServiceClient as Devices;
use virt_api::domain::v1alpha1::domain_interface_service_client::DomainInterfaceServiceClient as Interfaces;
use virt_api::domain::v1alpha1::domain_job_service_client::DomainJobServiceClient as Jobs;
use virt_api::domain::v1alpha1::domain_save_service_client::DomainSaveServiceClient as Saves;
use virt_api::domain::v1alpha1::domain_service_client::DomainServiceClient as Domains;
use virt_api::domain::v1alpha1::domain_stats_service_client::DomainStatsServiceClient as Stats;
use virt_api::domain::v1alpha1::domain_tuning_service_client::DomainTuningServiceClient as Tuning;
use virt_api::domain::v1alpha1::guest_agent_service_client::GuestAgentServiceClient as Agents;
use virt_api::domain::v1alpha1::monitor_service_client::MonitorServiceClient as Monitors;
use virt_error::Result;
use virt_wire::remote::NonnullDomain;

use super::{Call, malformed};

/// All tables of the concern.
pub(super) fn all() -> impl Iterator<Item = &'static [Call]> {
    [
        agent::CALLS,
        console::CALLS,
        device::CALLS,
        document::CALLS,
        interface::CALLS,
        job::CALLS,
        lifecycle::CALLS,
        lookup::CALLS,
        metadata::CALLS,
        parameters::CALLS,
        pins::CALLS,
        save::CALLS,
        state::CALLS,
        stats::CALLS,
        tuning::CALLS,
    ]
    .into_iter()
}

/// A client's domain object in a request: the UUID decides, the name helps the error text. The id may be stale.
pub(super) fn to_ref(dom: NonnullDomain) -> Option<api::DomainRef> {
    Some(api::DomainRef { uuid: Bytes::copy_from_slice(&dom.uuid), name: dom.name, id: None })
}

/// A request that needs no more than the domain.
pub(super) fn only(dom: NonnullDomain) -> api::DomainRequest {
    api::DomainRequest { domain: to_ref(dom) }
}

/// A daemon's domain as clients get it; inactive domains have id -1.
pub(crate) fn to_wire(dom: Option<api::DomainRef>) -> Result<NonnullDomain> {
    let dom = dom.ok_or_else(|| malformed("domain"))?;
    let uuid = dom.uuid.as_ref().try_into().map_err(|_| malformed("domain's UUID"))?;
    let id = dom.id.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1);
    Ok(NonnullDomain { name: dom.name, uuid, id })
}
