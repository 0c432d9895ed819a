//! The event stream of domains.

use std::sync::Arc;

use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::*;
use virt_error::Result;
use virt_object::events::Journal;
use virt_rpc::watch;

use crate::driver::{Driver, EventSink};

/// The stream of `DomainService.Watch`.
pub type Watched = watch::Watched<WatchResponse>;

/// Appends events to the journal in their wire form, without the cursor that the journal gives them.
pub struct JournalSink(pub Arc<Journal>);

impl EventSink for JournalSink {
    fn append(&self, domain: DomainRef, event: Event) {
        watch::tell(&self.0, &WatchResponse { cursor: None, domain: Some(domain), event: Some(event) });
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
    watch::watch(journal, request.after, move |told: &WatchResponse| {
        only.is_none_or(|uuid| told.domain.as_ref().is_some_and(|d| d.uuid.as_ref() == uuid.as_bytes()))
    })
}
