//! The balloon.

use serde_json::json;
use virt_error::Result;
use virt_model::domain::misc::BalloonModel;

use super::{ask, invalid, invalid_state};
use crate::config::memory;
use crate::guest::Work;
use crate::qmp::commands::SetBalloon;

/// Asks the guest to shrink or grow to this many KiB. The document follows when the guest has done it.
///
/// # Errors
/// Code 8 above the maximum, code 55 without a balloon.
pub async fn set_current(work: &mut Work, kib: u64) -> Result<()> {
    let live = &work.run()?.live;
    if kib > memory::maximum(live) {
        return Err(invalid("cannot set memory higher than max memory"));
    }
    if balloon_alias(work)?.is_none() {
        let text =
            "Unable to change memory of active domain without the balloon device and guest OS balloon driver";
        return Err(invalid_state(text));
    }
    work.monitor()?.run(&SetBalloon { value: kib.saturating_mul(1024) }).await?;
    Ok(())
}

/// Sets how often the guest reports its memory, in seconds; 0 turns it off.
///
/// # Errors
/// Code 55 without a balloon.
pub async fn set_stats_period(work: &mut Work, seconds: i32) -> Result<()> {
    let Some(alias) = balloon_alias(work)? else {
        return Err(invalid_state("Memory balloon model must be virtio to set the collection period"));
    };
    let arguments = json!({
        "path": format!("/machine/peripheral/{alias}"),
        "property": "guest-stats-polling-interval",
        "value": seconds,
    });
    ask(work, "qom-set", arguments).await?;
    memory::set_stats_period(&mut work.run()?.live, seconds)?;
    work.publish_live()
}

fn balloon_alias(work: &mut Work) -> Result<Option<String>> {
    let balloon = work.run()?.live.devices.memballoon.as_ref();
    Ok(balloon.filter(|b| b.model != BalloonModel::None).and_then(|b| b.info.alias.clone()))
}
