//! The event stream: what the journal holds, one subscriber at a time.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use prost::Message;
use tonic::Status;
use virt_api::common::v1alpha1::Cursor as ApiCursor;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::*;
use virt_error::{Domain as From, Error, Result};
use virt_object::events::{Cursor, Journal, Subscription};
use virt_rpc::to_status;

use crate::driver::{Driver, EventSink};

/// The stream of `DomainService.Watch`.
pub type Watched = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// Appends events to the journal in their wire form, without the cursor that the journal gives them.
pub struct JournalSink(pub Arc<Journal>);

impl EventSink for JournalSink {
    fn append(&self, domain: DomainRef, event: Event) {
        let told = WatchResponse { cursor: None, domain: Some(domain), event: Some(event) };
        self.0.append(told.encode_to_vec());
    }
}

/// `DomainService.Watch`.
///
/// # Errors
/// Code 42 for a domain that is not there; an error that says why events were lost, also in the middle of the stream.
pub fn watch(driver: &Driver, journal: &Arc<Journal>, request: WatchRequest) -> Result<Watched> {
    let only = match &request.domain {
        Some(wanted) => Some(*driver.find(Some(wanted))?.uuid()),
        None => None,
    };
    let from = request.after.map(|c| Cursor { epoch: c.epoch, number: c.number });
    let subscription = journal.subscribe(from).map_err(|gap| gap.error())?;
    let cursor = Some(wire(subscription.cursor()));
    let ready = WatchResponse { cursor, domain: None, event: Some(Event::Ready(Empty {})) };
    let rest = stream::unfold(Some(subscription), next).filter_map(move |item| {
        let wanted = match (&item, &only) {
            (Ok(told), Some(uuid)) => {
                told.domain.as_ref().is_some_and(|d| d.uuid.as_ref() == uuid.as_bytes())
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
            let error = Error::internal(From::Event, "an event in the journal is damaged").with_source(e);
            Some((Err(to_status(&error)), None))
        }
    }
}

fn wire(cursor: Cursor) -> ApiCursor {
    ApiCursor { epoch: cursor.epoch, number: cursor.number }
}
