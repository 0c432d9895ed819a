//! Devices: attach, detach, change.

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_device_service_server::DomainDeviceService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::Result;
use virt_model::Mode;
use virt_model::domain::Domain as Document;
use virt_object::owner::{Class, Spec};
use virt_rpc::answer;

use super::check::{affect, affect_flags, flags, live_unsupported};
use crate::config::devices::{self, Device};
use crate::definitions::{Announce, Completion, Definitions};
use crate::live;

/// Answers [`DomainDeviceService`].
#[derive(Clone)]
pub struct DeviceApi {
    definitions: Definitions,
}

impl DeviceApi {
    /// A service for these guests.
    pub fn new(definitions: Definitions) -> Self {
        Self { definitions }
    }

    async fn change<F>(&self, domain: Option<DomainRef>, bits: u32, call: Call, edit: F) -> Result<Empty>
    where
        F: FnOnce(&mut Document) -> Result<()> + Send + 'static,
    {
        let guest = self.definitions.driver().find(domain.as_ref())?;
        let affect = affect(&guest.published().value, bits)?;
        if affect.live {
            return Err(live_unsupported(call.api));
        }
        self.definitions.change(&guest, call.name, Completion::Complete, Announce::Updated, edit).await?;
        Ok(Empty {})
    }
}

/// How a call is named for people: public function, job.
#[derive(Clone, Copy)]
struct Call {
    api: &'static str,
    name: &'static str,
}

#[tonic::async_trait]
impl DomainDeviceService for DeviceApi {
    async fn attach(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        let call = Call { api: "virDomainAttachDeviceFlags", name: "attach device" };
        answer(async {
            affect_flags(r.flags, "qemuDomainAttachDeviceLiveAndConfig")?;
            let edit = move |d: &mut Document| devices::attach(d, devices::read(&r.xml, Mode::CONFIG)?);
            self.change(r.domain, r.flags, call, edit).await
        })
        .await
    }

    async fn detach(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        let call = Call { api: "virDomainDetachDeviceFlags", name: "detach device" };
        answer(async {
            affect_flags(r.flags, "qemuDomainDetachDeviceLiveAndConfig")?;
            let edit = move |d: &mut Document| devices::detach(d, &devices::read(&r.xml, Mode::CONFIG)?);
            self.change(r.domain, r.flags, call, edit).await
        })
        .await
    }

    async fn detach_alias(&self, request: Request<DetachAliasRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        let call = Call { api: "virDomainDetachDeviceAlias", name: "detach device" };
        answer(async {
            affect_flags(r.flags, "qemuDomainDetachDeviceAlias")?;
            let edit = move |d: &mut Document| devices::detach_alias(d, &r.alias);
            self.change(r.domain, r.flags, call, edit).await
        })
        .await
    }

    async fn update(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        let call = Call { api: "virDomainUpdateDeviceFlags", name: "update device" };
        answer(async {
            flags(r.flags, ALL_DOMAIN_DEVICE_MODIFY_FLAGS, "qemuDomainUpdateDeviceFlags")?;
            let guest = self.definitions.driver().find(r.domain.as_ref())?;
            let affect = affect(&guest.published().value, r.flags)?;
            if affect.live {
                // Only what has a live form goes on; the rest is refused before anything is changed.
                let Device::Interface(card) = devices::read(&r.xml, Mode::LIVE)? else {
                    return Err(live_unsupported(call.api));
                };
                guest
                    .work(Spec::new(call.name, Class::Modify), move |w| {
                        Box::pin(live::link::update(w, *card))
                    })
                    .await?;
            }
            if !affect.config {
                return Ok(Empty {});
            }
            let edit = move |d: &mut Document| devices::update(d, devices::read(&r.xml, Mode::CONFIG)?);
            self.change(r.domain, VIR_DOMAIN_AFFECT_CONFIG, call, edit).await
        })
        .await
    }
}
