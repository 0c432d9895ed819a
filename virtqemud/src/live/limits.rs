//! Traffic limits of a running guest's network card.

use virt_error::Result;
use virt_model::domain::net::Bandwidth;
use virt_object::blocking;

use crate::config::params::{Param, interface};
use crate::guest::Work;
use crate::net::limits;

/// Sets limits of one card.
///
/// # Errors
/// As [`interface::set`]; code 38 when the kernel cannot limit, and the limits are as before.
pub async fn set(work: &mut Work, device: String, params: Vec<Param>) -> Result<()> {
    let live = &work.run()?.live;
    let at = interface::find(live, &device)?;
    let old = live.devices.interfaces[at].clone();
    // The new limits start from those in force, which may be the network's.
    let mut new = old.shown();
    interface::set(&mut new, &params)?;
    apply(work, at, new.bandwidth).await
}

/// Puts limits of a card into force and into its document.
///
/// # Errors
/// Code 38 when the kernel cannot limit, and the limits are as before.
pub(super) async fn apply(work: &mut Work, at: usize, bandwidth: Option<Bandwidth>) -> Result<()> {
    let (card, wanted) = (work.run()?.live.devices.interfaces[at].clone(), bandwidth.clone());
    blocking::run(move || {
        let done = limits::set(&card, wanted.as_ref());
        if done.is_err()
            && let Err(error) = limits::set(&card, card.limits())
        {
            tracing::warn!(%error, "limits of a network card are not as before");
        }
        done
    })
    .await?;
    let card = &mut work.run()?.live.devices.interfaces[at];
    if let Some(actual) = &mut card.actual {
        actual.bandwidth.clone_from(&bandwidth);
    }
    card.bandwidth = bandwidth;
    work.publish_live()
}
