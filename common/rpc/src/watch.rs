//! `Watch`: a journal as a gRPC stream, one subscriber at a time.
//!
//! The first message says that the stream is established and where it stands; every event after that cursor follows, in
//! order. A subscriber that missed events, or that reads too slowly, gets the reason as the stream's end.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use prost::Message;
use tonic::Status;
use virt_api::common::v1alpha1::Cursor as ApiCursor;
use virt_error::{Domain, Error, Result};
use virt_object::events::{Cursor, Journal, Subscription};

use crate::status::to_status;

/// What a `Watch` method answers.
pub type Watched<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A package's `WatchResponse`: one event, as the journal keeps it and as the stream tells it.
pub trait Told: Message + std::fmt::Debug + Default + Send + 'static {
    /// The stream's first message.
    fn ready() -> Self;
    /// Whether it is the stream's first message.
    fn is_ready(&self) -> bool;
    /// Says where the event stands. The journal keeps events without it.
    fn set_cursor(&mut self, cursor: ApiCursor);
    /// Where it stands.
    fn cursor(&self) -> Option<ApiCursor>;
}

/// Implements [`Told`] for packages that follow the house's form.
macro_rules! told {
    ($($package:ident),*) => {$(
        impl Told for virt_api::$package::v1alpha1::WatchResponse {
            fn ready() -> Self {
                use virt_api::$package::v1alpha1::{Empty, watch_response::Event};
                Self { event: Some(Event::Ready(Empty {})), ..Self::default() }
            }
            fn is_ready(&self) -> bool {
                use virt_api::$package::v1alpha1::watch_response::Event;
                matches!(self.event, Some(Event::Ready(_)))
            }
            fn set_cursor(&mut self, cursor: ApiCursor) {
                self.cursor = Some(cursor);
            }
            fn cursor(&self) -> Option<ApiCursor> {
                self.cursor
            }
        }
    )*};
}

// Every package whose service has a `Watch`.
told!(domain, network, secret, storage);

/// Appends an event to the journal.
pub fn tell<T: Told>(journal: &Journal, event: &T) {
    journal.append(event.encode_to_vec());
}

/// Begins a watch after a cursor, or with the next event; `wanted` chooses the events.
///
/// # Errors
/// Code 78 when what follows the cursor is no longer kept.
pub fn watch<T: Told>(
    journal: &Arc<Journal>,
    after: Option<ApiCursor>,
    wanted: impl Fn(&T) -> bool + Send + 'static,
) -> Result<Watched<T>> {
    let from = after.map(|c| Cursor { epoch: c.epoch, number: c.number });
    let subscription = journal.subscribe(from).map_err(|gap| gap.error())?;
    let mut ready = T::ready();
    ready.set_cursor(wire(subscription.cursor()));
    let rest = stream::unfold(Some(subscription), next::<T>).filter_map(move |item| {
        let keep = item.as_ref().map_or(true, &wanted);
        std::future::ready(keep.then_some(item))
    });
    Ok(Box::pin(stream::once(std::future::ready(Ok(ready))).chain(rest)))
}

async fn next<T: Told>(
    subscription: Option<Subscription>,
) -> Option<(Result<T, Status>, Option<Subscription>)> {
    let mut subscription = subscription?;
    let event = match subscription.next().await {
        Ok(event) => event,
        // The stream ends with the reason: a silent hole would be worse.
        Err(gap) => return Some((Err(to_status(&gap.error())), None)),
    };
    match T::decode(event.payload) {
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
