//! A daemon's stream of domain events.

use std::sync::Arc;

use tonic::{Code as Grpc, Status, Streaming};
use virt_api::common::v1alpha1::Cursor;
use virt_api::domain::v1alpha1::domain_service_client::DomainServiceClient;
use virt_api::domain::v1alpha1::{WatchRequest, WatchResponse, watch_response::Event};
use virt_error::Error;
use virt_wire::program::ProcInfo;

use crate::link::Link;
use crate::refusal;
use crate::route::Object;

/// A running watch and where it stands.
pub(crate) struct Watch {
    stream: Streaming<WatchResponse>,
    /// The last event that was seen.
    pub cursor: Cursor,
}

/// Why a watch cannot begin or go on.
pub(crate) enum Lost {
    /// The daemon no longer has the events after the cursor.
    Gap,
    /// Worth another try.
    Away(Error),
}

impl Watch {
    /// Begins after the cursor, or with the next event. When this returns, every later event will be seen.
    pub async fn begin(
        link: &Arc<Link>,
        info: &'static ProcInfo,
        after: Option<Cursor>,
    ) -> Result<Self, Lost> {
        let session = link.session(info, Object::Domain).await.map_err(Lost::Away)?;
        let failed = |status: Status| match status.code() {
            Grpc::OutOfRange => Lost::Gap,
            _ => {
                if super::is_unknown_session(&status) {
                    link.forget(&session);
                }
                Lost::Away(super::error(info, &session, &status))
            }
        };
        let mut client = virt_rpc::client!(DomainServiceClient, session.daemon());
        let request = session.request(WatchRequest { after, domain: None });
        let mut stream = client.watch(request).await.map_err(failed)?.into_inner();
        let first = stream.message().await.map_err(failed)?;
        let Some(WatchResponse { cursor: Some(cursor), event: Some(Event::Ready(_)), .. }) = first else {
            return Err(Lost::Away(refusal::rpc("the daemon began a watch without saying where")));
        };
        Ok(Self { stream, cursor })
    }

    /// The next event; `None` when the daemon has ended the watch, whatever the reason.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        match self.stream.message().await {
            Ok(Some(event)) => {
                self.cursor = event.cursor.unwrap_or(self.cursor);
                Some(event)
            }
            ended => {
                tracing::info!(?ended, "the watch for events ended");
                None
            }
        }
    }
}
