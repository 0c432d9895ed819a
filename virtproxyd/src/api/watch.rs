//! A daemon's stream of events.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::{Code as Grpc, Response, Status, Streaming};
use virt_api::common::v1alpha1::Cursor;
use virt_error::Error;
use virt_rpc::client::ClientSession;
use virt_rpc::watch::Told;
use virt_wire::frame::OutFrame;
use virt_wire::program::ProcInfo;

use crate::events::Registration;
use crate::link::Link;
use crate::refusal;
use crate::route::Object;

/// The events of one kind of object: where they come from and what they are on the wire.
pub(crate) trait Feed: Told + Sync {
    /// Whose daemon tells them.
    const OBJECT: Object;

    /// The daemon's `Watch` method.
    fn open(
        session: Arc<ClientSession>,
        after: Option<Cursor>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self>>, Status>>;

    /// The messages for everyone who wants to hear of the event.
    fn messages(&self, registered: &[Registration]) -> Vec<OutFrame>;
}

/// A running watch and where it stands.
pub(crate) struct Watch<T> {
    stream: Streaming<T>,
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

impl<T: Feed> Watch<T> {
    /// Begins after the cursor, or with the next event. When this returns, every later event will be seen.
    pub async fn begin(
        link: &Arc<Link>,
        info: &'static ProcInfo,
        after: Option<Cursor>,
    ) -> Result<Self, Lost> {
        let session = link.session(info, T::OBJECT).await.map_err(Lost::Away)?;
        let failed = |status: Status| match status.code() {
            Grpc::OutOfRange => Lost::Gap,
            _ => {
                if super::is_unknown_session(&status) {
                    link.forget(&session);
                }
                Lost::Away(super::error(info, &session, &status))
            }
        };
        let mut stream = T::open(session.clone(), after).await.map_err(failed)?.into_inner();
        let first = stream.message().await.map_err(failed)?;
        match first.filter(Told::is_ready).and_then(|ready| ready.cursor()) {
            Some(cursor) => Ok(Self { stream, cursor }),
            None => Err(Lost::Away(refusal::rpc("the daemon began a watch without saying where"))),
        }
    }

    /// The next event; `None` when the daemon has ended the watch, whatever the reason.
    pub async fn next(&mut self) -> Option<T> {
        match self.stream.message().await {
            Ok(Some(event)) => {
                self.cursor = event.cursor().unwrap_or(self.cursor);
                Some(event)
            }
            ended => {
                tracing::info!(?ended, "the watch for events ended");
                None
            }
        }
    }
}
