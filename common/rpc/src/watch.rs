//! The event stream of a daemon's `Watch` method: what the journal holds, one subscriber at a time.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use prost::Message;
use tonic::Status;
use virt_api::common::v1alpha1::Cursor as ApiCursor;
use virt_error::{Domain, Error, Result};
use virt_object::events::{Cursor, Journal, Subscription};

use crate::to_status;

/// What a `Watch` method answers with.
pub type Watched<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// A daemon's event message. The journal keeps it without its cursor.
pub trait Told: Message + Default + 'static {
    /// The message that says that the stream is established.
    fn ready() -> Self;
    /// Sets where the event stands.
    fn set_cursor(&mut self, cursor: ApiCursor);
}

macro_rules! told {
    ($($package:ident),*) => {$(
        impl Told for virt_api::$package::v1alpha1::WatchResponse {
            fn ready() -> Self {
                use virt_api::$package::v1alpha1::{Empty, watch_response::Event};
                Self { event: Some(Event::Ready(Empty {})), ..Default::default() }
            }
            fn set_cursor(&mut self, cursor: ApiCursor) {
                self.cursor = Some(cursor);
            }
        }
    )*};
}

// Every package whose service has a `Watch`.
told!(domain, network, storage);

/// Begins a watch after a cursor, of the events that `wanted` lets through.
///
/// # Errors
/// An error that says why events were lost, also in the middle of the stream.
pub fn watch<M: Told>(
    journal: &Arc<Journal>,
    after: Option<ApiCursor>,
    wanted: impl Fn(&M) -> bool + Send + 'static,
) -> Result<Watched<M>> {
    let from = after.map(|c| Cursor { epoch: c.epoch, number: c.number });
    let subscription = journal.subscribe(from).map_err(|gap| gap.error())?;
    let mut ready = M::ready();
    ready.set_cursor(wire(subscription.cursor()));
    let rest = stream::unfold(Some(subscription), next::<M>).filter_map(move |item| {
        let pass = item.as_ref().map_or(true, &wanted);
        std::future::ready(pass.then_some(item))
    });
    Ok(Box::pin(stream::once(std::future::ready(Ok(ready))).chain(rest)))
}

async fn next<M: Told>(
    subscription: Option<Subscription>,
) -> Option<(Result<M, Status>, Option<Subscription>)> {
    let mut subscription = subscription?;
    let event = match subscription.next().await {
        Ok(event) => event,
        // The stream ends with the reason: a silent hole would be worse.
        Err(gap) => return Some((Err(to_status(&gap.error())), None)),
    };
    match M::decode(event.payload.as_slice()) {
        Ok(mut told) => {
            told.set_cursor(wire(event.cursor));
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
