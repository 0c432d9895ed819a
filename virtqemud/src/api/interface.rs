//! Network cards of running guests.

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_interface_service_server::DomainInterfaceService;
use virt_api::domain::v1alpha1::{InterfaceStatsRequest, InterfaceStatsResponse};
use virt_rpc::answer;

use crate::config::affect::not_running;
use crate::config::params::interface::find;
use crate::definitions::Definitions;
use crate::stats::net;

/// Answers [`DomainInterfaceService`].
#[derive(Clone)]
pub struct InterfaceApi {
    definitions: Definitions,
}

impl InterfaceApi {
    /// A service for these guests.
    pub fn new(definitions: Definitions) -> Self {
        Self { definitions }
    }
}

#[tonic::async_trait]
impl DomainInterfaceService for InterfaceApi {
    async fn get_stats(
        &self,
        request: Request<InterfaceStatsRequest>,
    ) -> Result<Response<InterfaceStatsResponse>, Status> {
        let r = request.into_inner();
        answer(async {
            let guest = self.definitions.driver().find(r.domain.as_ref())?;
            let published = guest.published();
            let live = published.value.live.clone().ok_or_else(not_running)?;
            let at = find(&live, &r.device)?;
            let figures = net::of_card(live.devices.interfaces[at].clone()).await?;
            Ok(InterfaceStatsResponse {
                rx_bytes: Some(figures.rx_bytes),
                rx_packets: Some(figures.rx_packets),
                rx_errors: Some(figures.rx_errors),
                rx_dropped: Some(figures.rx_dropped),
                tx_bytes: Some(figures.tx_bytes),
                tx_packets: Some(figures.tx_packets),
                tx_errors: Some(figures.tx_errors),
                tx_dropped: Some(figures.tx_dropped),
            })
        })
        .await
    }
}
