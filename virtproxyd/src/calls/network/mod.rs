//! Calls about networks.

mod change;
mod lookup;
mod ports;

use bytes::Bytes;
use virt_api::network::v1alpha1 as api;
use virt_api::network::v1alpha1::network_service_client::NetworkServiceClient as Networks;
use virt_error::Result;
use virt_wire::remote::NonnullNetwork;

use super::{Call, malformed};

/// All tables of the concern.
pub(super) fn all() -> impl Iterator<Item = &'static [Call]> {
    [change::CALLS, lookup::CALLS, ports::CALLS].into_iter()
}

/// A client's network object in a request: the UUID decides, the name helps the error text.
fn to_ref(net: NonnullNetwork) -> Option<api::NetworkRef> {
    Some(api::NetworkRef { uuid: Bytes::copy_from_slice(&net.uuid), name: net.name })
}

/// A request that needs no more than the network.
fn only(net: NonnullNetwork) -> api::NetworkRequest {
    api::NetworkRequest { network: to_ref(net) }
}

/// A daemon's network as clients get it.
pub(crate) fn to_wire(net: Option<api::NetworkRef>) -> Result<NonnullNetwork> {
    let net = net.ok_or_else(|| malformed("network"))?;
    let uuid = net.uuid.as_ref().try_into().map_err(|_| malformed("network's UUID"))?;
    Ok(NonnullNetwork { name: net.name, uuid })
}
