//! The guest's clock.

use std::sync::Arc;

use serde_json::{Value, json};
use virt_error::{Code, Domain, Error, Result};

use super::{call, malformed};
use crate::guest::Guest;

const BILLION: i64 = 1_000_000_000;

/// Seconds since 1970, and nanoseconds.
///
/// # Errors
/// As [`call`].
pub async fn get(guest: &Arc<Guest>) -> Result<(i64, u32)> {
    let answer = call(guest, "guest-get-time", Value::Null).await?;
    let now = answer.as_i64().ok_or_else(|| malformed("guest-get-time", "return"))?;
    Ok((now.div_euclid(BILLION), u32::try_from(now.rem_euclid(BILLION)).unwrap_or(0)))
}

/// Sets the clock to the time given, or to the machine's own clock.
///
/// # Errors
/// As [`call`]; code 8 for a time that the agent cannot take.
pub async fn set(guest: &Arc<Guest>, time: Option<(i64, u32)>) -> Result<()> {
    let arguments = match time {
        None => Value::Null,
        Some((seconds, nanoseconds)) => {
            let whole = seconds.checked_mul(BILLION).and_then(|s| s.checked_add(nanoseconds.into()));
            let time = whole.ok_or_else(|| {
                let text = format!("Time '{seconds}' is too big for guest agent");
                Error::new(Code::InvalidArg, Domain::Qemu, text)
            })?;
            json!({ "time": time })
        }
    };
    call(guest, "guest-set-time", arguments).await.map(drop)
}
