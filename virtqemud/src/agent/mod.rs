//! The client of the agent inside a guest: JSON lines over a socket of QEMU.
//!
//! The other end is the guest: it may be silent, slow, hostile, or in the middle of an old answer. So every command
//! has its own connection, begins with a synchronisation (a random number behind a byte that no JSON text holds), and
//! has a deadline. One command at a time per guest.

pub mod filesystems;
pub mod info;
pub mod interfaces;
mod link;
pub mod login;
pub mod suspend;
pub mod time;
pub mod vcpus;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use virt_error::{Code, Domain, Error, Result};
use virt_model::domain::chardev::{ChannelTarget, PortState};

use crate::guest::start::agent_channel;
use crate::guest::state::Kind;
use crate::guest::{Guest, not_running_qemu};
use link::Link;

/// How long an agent may take when the caller names no time.
const DEFAULT: Duration = Duration::from_secs(5);
/// How long a call that waits "for ever" waits: a day keeps a lost call from living on without end.
const BLOCK: Duration = Duration::from_secs(24 * 3600);

/// Ways to power a guest off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Off.
    Down,
    /// Off and on.
    Reboot,
}

/// How long a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The usual time.
    Default,
    /// As long as it takes.
    Block,
    /// Only that the command was sent.
    NoWait,
    /// So many seconds.
    Seconds(u32),
}

impl Patience {
    /// From virDomainQemuAgentCommandTimeoutValues.
    ///
    /// Errors: another negative number.
    pub fn from_number(number: i32) -> Result<Self> {
        Ok(match number {
            -2 => Self::Block,
            -1 => Self::Default,
            0 => Self::NoWait,
            n => Self::Seconds(u32::try_from(n).map_err(|_| {
                let text = format!("guest agent timeout '{n}' is less than the minimum '-2'");
                Error::new(Code::InvalidArg, Domain::Qemu, text)
            })?),
        })
    }
}

/// Runs a whole command object and returns the agent's whole answer.
///
/// Errors: code 55 when the guest does not run, 74 when it has no channel for an agent, 86 when the agent does not
/// answer, 113 when it refuses, 1 when the command is no JSON.
pub async fn command(guest: &Arc<Guest>, text: &str, patience: Patience) -> Result<Option<String>> {
    let object: Value = serde_json::from_str(text).map_err(|e| {
        Error::internal(Domain::None, "failed to parse JSON: unexpected character").with_source(e)
    })?;
    let answer = ask(guest, &object, patience).await?;
    Ok(answer.map(|a| a.to_string()))
}

/// Powers the guest off or on again by its agent. The agent may end before it answers.
pub async fn power(guest: &Arc<Guest>, power: Power) -> Result<()> {
    let mode = match power {
        Power::Down => "powerdown",
        Power::Reboot => "reboot",
    };
    let object = json!({"execute": "guest-shutdown", "arguments": {"mode": mode}});
    match ask(guest, &object, Patience::Default).await {
        Err(e) if was_sent(&e) => Ok(()),
        done => done.map(drop),
    }
}

/// Whether the command left and its answer did not come: a guest that ends or suspends itself gives none.
fn was_sent(error: &Error) -> bool {
    error.code() == Code::AgentUnresponsive && error.context().iter().any(|(k, _)| *k == "sent")
}

/// Whether the agent does not know the command, or may not run it.
pub fn is_unsupported(error: &Error) -> bool {
    let class = |(key, value): &(&str, String)| {
        *key == "class" && matches!(value.as_str(), "CommandNotFound" | "CommandDisabled")
    };
    error.code() == Code::AgentCommandFailed && error.context().iter().any(class)
}

/// An answer whose form is not what the command promises.
fn malformed(command: &str, what: &str) -> Error {
    Error::internal(Domain::Qemu, format!("'{what}' missing in reply of {command}"))
}

/// One command's `return`.
pub async fn call(guest: &Arc<Guest>, name: &str, arguments: Value) -> Result<Value> {
    let object = if arguments.is_null() {
        json!({"execute": name})
    } else {
        json!({"execute": name, "arguments": arguments})
    };
    let answer = ask(guest, &object, waited(guest)).await?;
    answer.and_then(|mut a| a.get_mut("return").map(Value::take)).ok_or_else(|| {
        Error::internal(Domain::Qemu, format!("unexpected answer of guest agent command '{name}'"))
    })
}

/// The guest's own time limit; a call whose answer is wanted waits for it even when told not to.
fn waited(guest: &Guest) -> Patience {
    match guest.shared().agent_patience() {
        Patience::NoWait => Patience::Seconds(DEFAULT.as_secs() as u32),
        patience => patience,
    }
}

async fn ask(guest: &Arc<Guest>, object: &Value, patience: Patience) -> Result<Option<Value>> {
    let path = socket(guest)?;
    let shared = guest.shared().clone();
    let _turn = shared.agent_turn().lock().await;
    let patience = if patience == Patience::Default { shared.agent_patience() } else { patience };
    let limit = match patience {
        Patience::Default => DEFAULT,
        Patience::Block => BLOCK,
        Patience::NoWait => DEFAULT,
        Patience::Seconds(n) => Duration::from_secs(n.into()),
    };
    let mut link = Link::open(&path, limit.min(DEFAULT)).await?;
    let name = object.get("execute").and_then(Value::as_str).unwrap_or_default();
    link.send(object).await?;
    if patience == Patience::NoWait {
        return Ok(None);
    }
    let answer = link.receive(limit, name).await.map_err(|e| e.with("sent", true))?;
    match answer.get("error") {
        None => Ok(Some(answer)),
        Some(error) => {
            let desc = error.get("desc").and_then(Value::as_str).unwrap_or("unknown QEMU command error");
            let text = format!("unable to execute QEMU agent command '{name}': {desc}");
            let class = error.get("class").and_then(Value::as_str).unwrap_or_default();
            Err(Error::new(Code::AgentCommandFailed, Domain::Qemu, text).with("class", class))
        }
    }
}

/// The socket of the agent's channel, if somebody in the guest has opened it.
fn socket(guest: &Guest) -> Result<String> {
    let snapshot = guest.published();
    let p = &snapshot.value;
    if !p.is_active() {
        return Err(crate::guest::not_running());
    }
    if p.state.kind() != Kind::Running {
        return Err(not_running_qemu());
    }
    let channel = p.live.as_ref().and_then(|d| agent_channel(d)).ok_or_else(|| {
        Error::new(Code::ArgumentUnsupported, Domain::Qemu, "QEMU guest agent is not configured")
    })?;
    let connected =
        matches!(&channel.target, Some(ChannelTarget::Virtio(t)) if t.state == Some(PortState::Connected));
    match channel.backend.path() {
        Some(path) if connected => Ok(path.to_string()),
        _ => Err(unresponsive("QEMU guest agent is not connected")),
    }
}

/// Code 86.
fn unresponsive(text: &str) -> Error {
    Error::new(Code::AgentUnresponsive, Domain::Qemu, text)
}
