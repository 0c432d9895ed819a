//! What happens when a running guest powers off, reboots or crashes.
//!
//! QEMU stops at every power off and panic, and we decide. A reboot it does by itself, unless the guest shall end there.

use virt_error::Result;
use virt_model::domain::Domain;
use virt_model::domain::tuning::LifecycleAction;

use crate::config::lifecycle::{self, Event};
use crate::guest::Work;
use crate::qmp::Client;
use crate::qmp::commands::SetAction;

/// Sets the action of an event.
///
/// # Errors
/// As [`lifecycle::set`]; what QEMU refuses.
pub async fn set(work: &mut Work, event: Event, action: LifecycleAction) -> Result<()> {
    let mut live = work.run()?.live.clone();
    lifecycle::set(&mut live, event, action)?;
    if event == Event::Reboot {
        tell(&work.monitor()?, action).await?;
    }
    work.run()?.live = live;
    work.publish_live()
}

/// Tells QEMU of a guest that is being started where a reboot shall stop.
///
/// # Errors
/// What QEMU refuses.
pub async fn begin(live: &Domain, monitor: &Client) -> Result<()> {
    match live.on_reboot {
        Some(LifecycleAction::Destroy) => tell(monitor, LifecycleAction::Destroy).await,
        _ => Ok(()),
    }
}

async fn tell(monitor: &Client, action: LifecycleAction) -> Result<()> {
    let reboot = if action == LifecycleAction::Destroy { "shutdown" } else { "reset" };
    let command = SetAction { reboot: Some(reboot.into()), shutdown: None, panic: None };
    monitor.run(&command).await?;
    Ok(())
}
