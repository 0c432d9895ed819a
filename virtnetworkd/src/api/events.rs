//! The event stream: what the journal holds, one subscriber at a time.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};
use prost::Message;
use tonic::Status;
use virt_api::common::v1alpha1::Cursor as ApiCursor;
use virt_api::network::v1alpha1::watch_response::Event;
use virt_api::network::v1alpha1::{Empty, WatchRequest, WatchResponse};
use virt_error::{Domain, Error, Result};
use virt_object::events::{Cursor, Subscription};
use virt_rpc::to_status;

use crate::driver::Driver;

/// The stream of `NetworkService.Watch`.
pub type Watched = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// Begins a watch.
///
/// # Errors
/// Code 43 for a network that is not there; an error that says why events were lost, also in the middle of the stream.
pub(super) fn watch(driver: &Driver, request: WatchRequest) -> Result<Watched> {
    let only = match &request.network {
        Some(wanted) => Some(*driver.find(Some(wanted))?.uuid()),
        None => None,
    };
    let from = request.after.map(|c| Cursor { epoch: c.epoch, number: c.number });
    let subscription = driver.journal.subscribe(from).map_err(|gap| gap.error())?;
    let cursor = Some(wire(subscription.cursor()));
    let ready = WatchResponse { cursor, network: None, event: Some(Event::Ready(Empty {})) };
    let rest = stream::unfold(Some(subscription), next).filter_map(move |item| {
        let wanted = match (&item, &only) {
            (Ok(told), Some(uuid)) => {
                told.network.as_ref().is_some_and(|n| n.uuid.as_ref() == uuid.as_bytes())
            }
            _ => true,
        };
        std::future::ready(wanted.then_some(item))
    });
    Ok(Box::pin(stream::once(std::future::ready(Ok(ready))).chain(rest)))
}

async fn next(
    subscription: Option<Subscription>,
) -> Option<(Result<WatchResponse, Status>, Option<Subscription>)> {
    let mut subscription = subscription?;
    let event = match subscription.next().await {
        Ok(event) => event,
        // The stream ends with the reason: a silent hole would be worse.
        Err(gap) => return Some((Err(to_status(&gap.error())), None)),
    };
    match WatchResponse::decode(event.payload.as_slice()) {
        Ok(told) => {
            let told = WatchResponse { cursor: Some(wire(event.cursor)), ..told };
            Some((Ok(told), Some(subscription)))
        }
        Err(e) => {
            let error = Error::internal(Domain::Event, "an event in the journal is damaged").with_source(e);
            Some((Err(to_status(&error)), None))
        }
    }
}

fn wire(cursor: Cursor) -> ApiCursor {
    ApiCursor { epoch: cursor.epoch, number: cursor.number }
}
