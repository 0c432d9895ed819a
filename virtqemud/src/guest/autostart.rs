//! Guests that start with the host.

use std::sync::Arc;

use futures_util::StreamExt as _;
use virt_error::Result;
use virt_object::owner::{Class, Spec};

use super::Guest;
use super::start::Start;
use crate::definitions::Definitions;

/// How many start at a time: one that hangs does not hold up the others, and a host that boots is not flooded.
const AT_A_TIME: usize = 4;

/// Starts every guest that is marked for it and does not run; a failure is logged. The networks and pools they need are
/// started by their own daemons before those answer.
///
/// A mark for one start is taken away before it: a daemon that dies in the middle does not start the guest twice.
pub async fn all(definitions: Definitions) {
    let marked = |guest: &&Arc<Guest>| {
        let now = guest.published();
        now.value.autostart || now.value.autostart_once
    };
    let guests: Vec<_> = definitions.driver().guests.list().iter().filter(marked).cloned().collect();
    let starts = guests.into_iter().map(|guest| (guest, definitions.clone())).map(|(guest, definitions)| async move {
        let mut started = Ok(());
        if guest.published().value.autostart_once {
            started = definitions.set_autostart(&guest, true, false).await;
        }
        if started.is_ok() {
            started = start(&definitions, &guest).await;
        }
        if let Err(error) = started {
            tracing::error!(?error, name = %guest.published().value.name, "cannot start a guest with the host");
        }
    });
    futures_util::stream::iter(starts).for_each_concurrent(AT_A_TIME, |start| start).await;
}

async fn start(definitions: &Definitions, guest: &Arc<Guest>) -> Result<()> {
    let starter = definitions.clone();
    guest
        .work(Spec::new("autostart", Class::Lifecycle), move |work| {
            Box::pin(async move {
                match work.published().value.config.is_some() && !work.state().is_active() {
                    true => Box::pin(starter.start(work, Start::default(), false)).await,
                    false => Ok(()),
                }
            })
        })
        .await
}
