//! Guests that start with the host.

use std::sync::Arc;

use futures_util::StreamExt as _;
use virt_error::Result;
use virt_object::owner::{Class, Spec};

use super::Guest;
use super::start::Start;
use crate::driver::Driver;

/// How many start at a time: one that hangs does not hold up the others, and a host that boots is not flooded.
const AT_A_TIME: usize = 4;

/// Starts every guest that is marked for it and does not run; a failure is logged. The networks and pools they need are
/// started by their own daemons before those answer.
pub async fn all(driver: Arc<Driver>) {
    let guests: Vec<_> =
        driver.guests.list().iter().filter(|g| g.published().value.autostart).cloned().collect();
    let starts = guests.into_iter().map(|guest| async move {
        if let Err(error) = start(&guest).await {
            tracing::error!(?error, name = %guest.published().value.name, "cannot start a guest with the host");
        }
    });
    futures_util::stream::iter(starts).for_each_concurrent(AT_A_TIME, |start| start).await;
}

async fn start(guest: &Arc<Guest>) -> Result<()> {
    guest
        .work(Spec::new("autostart", Class::Lifecycle), |work| {
            Box::pin(async move {
                let config = work.published().value.config.clone();
                match config {
                    Some(config) if !work.state().is_active() => {
                        Box::pin(work.start(config, Start::default())).await
                    }
                    _ => Ok(()),
                }
            })
        })
        .await
}
