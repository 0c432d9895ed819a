//! The event stream of networks.

use virt_api::network::v1alpha1::{WatchRequest, WatchResponse};
use virt_error::Result;
use virt_rpc::watch;

use crate::driver::Driver;

/// The stream of `NetworkService.Watch`.
pub type Watched = watch::Watched<WatchResponse>;

/// Begins a watch.
///
/// # Errors
/// Code 43 for a network that is not there; see [`watch::watch`].
pub(super) fn watch(driver: &Driver, request: WatchRequest) -> Result<Watched> {
    let only = match &request.network {
        Some(wanted) => Some(*driver.find(Some(wanted))?.uuid()),
        None => None,
    };
    watch::watch(&driver.journal, request.after, move |told: &WatchResponse| {
        only.is_none_or(|uuid| told.network.as_ref().is_some_and(|n| n.uuid.as_ref() == uuid.as_bytes()))
    })
}
