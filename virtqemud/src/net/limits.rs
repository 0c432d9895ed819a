//! Traffic limits of a card, in the words of the host's end.

use virt_error::Result;
use virt_host::link::{self, Limit};
use virt_model::domain::interface::{Interface, NetSource};
use virt_model::domain::net::{Bandwidth, Rate};

fn limit(rate: Option<&Rate>) -> Option<Limit> {
    let rate = rate?;
    Some(Limit { average: rate.average?, peak: rate.peak, burst: rate.burst })
}

/// Sets what a card's document says. Blocking.
///
/// # Errors
/// Code 38 when the kernel cannot limit.
pub fn set(card: &Interface, bandwidth: Option<&Bandwidth>) -> Result<()> {
    let inbound = limit(bandwidth.and_then(|b| b.inbound.as_ref()));
    let outbound = limit(bandwidth.and_then(|b| b.outbound.as_ref()));
    let name = card.target.as_deref().unwrap_or_default();
    // A tap is the host's end: it sends what the guest gets. A macvtap is the guest's own end.
    match card.connection() {
        NetSource::Direct(_) => link::set_limits(name, outbound, inbound),
        _ => link::set_limits(name, inbound, outbound),
    }
}
