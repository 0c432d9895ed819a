//! Images of running guests' disks.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_block_service_server::DomainBlockService;
use virt_api::domain::v1alpha1::*;
use virt_consts::{VIR_DOMAIN_BLOCK_RESIZE_BYTES, VIR_DOMAIN_BLOCK_RESIZE_CAPACITY};
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::owner::{Class, Spec};
use virt_rpc::answer;

use super::check::flags;
use crate::driver::Driver;
use crate::guest::not_running;
use crate::live;

/// Answers [`DomainBlockService`].
#[derive(Clone)]
pub struct BlockApi {
    driver: Arc<Driver>,
}

impl BlockApi {
    /// A service for these guests.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    async fn new_size(&self, r: BlockResizeRequest) -> Result<Empty> {
        let known = VIR_DOMAIN_BLOCK_RESIZE_BYTES | VIR_DOMAIN_BLOCK_RESIZE_CAPACITY;
        flags(r.flags, known, "qemuDomainBlockResize")?;
        let capacity = r.flags & VIR_DOMAIN_BLOCK_RESIZE_CAPACITY != 0;
        let unit = if r.flags & VIR_DOMAIN_BLOCK_RESIZE_BYTES == 0 { 1024 } else { 1 };
        let bytes = r.size.checked_mul(unit).filter(|b| i64::try_from(*b).is_ok()).ok_or_else(|| {
            let text = format!("size must be less than {}", i64::MAX as u64 / unit);
            Error::new(Code::Overflow, From::Qemu, text)
        })?;
        let guest = self.driver.find(r.domain.as_ref())?;
        if !guest.published().value.is_active() {
            return Err(not_running());
        }
        guest
            .work(Spec::new("block resize", Class::Modify), move |work| {
                Box::pin(async move { live::resize::resize(work, &r.disk, bytes, capacity).await })
            })
            .await?;
        Ok(Empty {})
    }

    async fn set_threshold(&self, r: BlockThresholdRequest) -> Result<Empty> {
        flags(r.flags, 0, "qemuDomainSetBlockThreshold")?;
        let guest = self.driver.find(r.domain.as_ref())?;
        if !guest.published().value.is_active() {
            return Err(not_running());
        }
        guest
            .work(Spec::new("block threshold", Class::Modify), move |work| {
                Box::pin(async move { live::threshold::set(work, &r.disk, r.threshold).await })
            })
            .await?;
        Ok(Empty {})
    }
}

#[tonic::async_trait]
impl DomainBlockService for BlockApi {
    async fn resize(&self, request: Request<BlockResizeRequest>) -> Result<Response<Empty>, Status> {
        answer(self.new_size(request.into_inner())).await
    }

    async fn set_threshold(
        &self,
        request: Request<BlockThresholdRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.set_threshold(request.into_inner())).await
    }
}
