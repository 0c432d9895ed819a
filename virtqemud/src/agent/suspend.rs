//! A guest that suspends itself because its agent was asked to.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use virt_error::Result;

use super::{Patience, ask, was_sent};
use crate::guest::Guest;
use crate::guest::state::Kind;

/// How long a guest may take from the command to its sleep.
const SLEEP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Where the guest's memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It stays in memory.
    Memory,
    /// It is written to the guest's disk and the guest powers off.
    Disk,
    /// Both.
    Hybrid,
}

impl Target {
    fn command(self) -> &'static str {
        match self {
            Self::Memory => "guest-suspend-ram",
            Self::Disk => "guest-suspend-disk",
            Self::Hybrid => "guest-suspend-hybrid",
        }
    }
}

/// Asks the agent and waits until the guest sleeps. An agent that succeeds gives no answer.
///
/// # Errors
/// As [`super::call`].
pub async fn suspend(guest: &Arc<Guest>, target: Target) -> Result<()> {
    let command = json!({"execute": target.command()});
    let asked = ask(guest, &command, Patience::Seconds(SLEEP.as_secs() as u32));
    let sleeps = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let state = guest.published().value.state;
            if state.kind() == Kind::PmSuspended || !state.is_active() {
                return;
            }
        }
    };
    tokio::select! {
        done = asked => match done {
            // The answer, or the connection's end, may come before QEMU's own word.
            Err(e) if !was_sent(&e) => Err(e),
            _ => Ok(()),
        },
        () = sleeps => Ok(()),
    }
}
