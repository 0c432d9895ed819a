//! Devices: attach, detach, change.

use futures_util::future::BoxFuture;
use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_device_service_server::DomainDeviceService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::Result;
use virt_model::Mode;
use virt_model::domain::Domain as Document;
use virt_rpc::answer;

use super::check::{affect, affect_flags, flags};
use crate::config::devices;
use crate::definitions::{Announce, Change, Completion, Definitions};
use crate::guest::Work;
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

    /// Runs the live form of a change where the running guest is asked for, then the same for the configuration.
    async fn change<L, F>(
        &self,
        domain: Option<DomainRef>,
        bits: u32,
        name: &'static str,
        live: L,
        edit: F,
    ) -> Result<Empty>
    where
        L: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<()>> + Send + 'static,
        F: FnOnce(&mut Document) -> Result<()> + Send + 'static,
    {
        let guest = self.definitions.driver().find(domain.as_ref())?;
        let affect = affect(&guest.published().value, bits)?;
        let change = Change { name, completion: Completion::Complete, announce: Announce::Updated };
        self.definitions.both(&guest, affect, change, live, edit).await?;
        Ok(Empty {})
    }
}

#[tonic::async_trait]
impl DomainDeviceService for DeviceApi {
    async fn attach(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        answer(async {
            affect_flags(r.flags, "qemuDomainAttachDeviceLiveAndConfig")?;
            let (xml, emulators) = (r.xml.clone(), self.definitions.emulators().clone());
            let edit = move |d: &mut Document| devices::attach(d, devices::read(&r.xml, Mode::CONFIG)?);
            let name = "attach device";
            self.change(
                r.domain,
                r.flags,
                name,
                move |w| Box::pin(async move { Box::pin(live::plug::attach(w, emulators, &xml)).await }),
                edit,
            )
            .await
        })
        .await
    }

    async fn detach(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        answer(async {
            affect_flags(r.flags, "qemuDomainDetachDeviceLiveAndConfig")?;
            let xml = r.xml.clone();
            let edit = move |d: &mut Document| devices::detach(d, &devices::read(&r.xml, Mode::CONFIG)?);
            let name = "detach device";
            self.change(
                r.domain,
                r.flags,
                name,
                move |w| Box::pin(async move { Box::pin(live::plug::detach(w, &xml)).await }),
                edit,
            )
            .await
        })
        .await
    }

    async fn detach_alias(&self, request: Request<DetachAliasRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        answer(async {
            affect_flags(r.flags, "qemuDomainDetachDeviceAlias")?;
            let alias = r.alias.clone();
            let edit = move |d: &mut Document| devices::detach_alias(d, &r.alias);
            self.change(
                r.domain,
                r.flags,
                "detach device",
                move |w| Box::pin(async move { Box::pin(live::plug::detach_alias(w, &alias)).await }),
                edit,
            )
            .await
        })
        .await
    }

    async fn update(&self, request: Request<DeviceRequest>) -> Result<Response<Empty>, Status> {
        let r = request.into_inner();
        answer(async {
            flags(r.flags, ALL_DOMAIN_DEVICE_MODIFY_FLAGS, "qemuDomainUpdateDeviceFlags")?;
            let xml = r.xml.clone();
            let edit = move |d: &mut Document| devices::update(d, devices::read(&r.xml, Mode::CONFIG)?);
            let name = "update device";
            self.change(
                r.domain,
                r.flags,
                name,
                move |w| Box::pin(async move { Box::pin(live::plug::update(w, &xml)).await }),
                edit,
            )
            .await
        })
        .await
    }
}
