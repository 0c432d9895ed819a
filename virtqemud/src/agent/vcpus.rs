//! Processors as the guest's own system sees them.

use std::sync::Arc;

use serde_json::{Value, json};
use virt_error::{Code, Domain, Error, Result};
use virt_model::Bitmap;

use super::{call, malformed};
use crate::config::params::{self, Param};
use crate::guest::Guest;

/// One processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vcpu {
    id: u32,
    online: bool,
    can_offline: bool,
}

async fn all(guest: &Arc<Guest>) -> Result<Vec<Vcpu>> {
    let answer = call(guest, "guest-get-vcpus", Value::Null).await?;
    read(&answer).ok_or_else(|| malformed("guest-get-vcpus", "logical-id"))
}

fn read(answer: &Value) -> Option<Vec<Vcpu>> {
    let one = |v: &Value| {
        let id = u32::try_from(v["logical-id"].as_u64()?).ok()?;
        Some(Vcpu {
            id,
            online: v["online"].as_bool()?,
            can_offline: v["can-offline"].as_bool().unwrap_or(false),
        })
    };
    answer.as_array()?.iter().map(one).collect()
}

/// All processors, those that run, and those that can be switched off.
///
/// # Errors
/// As [`call`].
pub async fn get(guest: &Arc<Guest>) -> Result<Vec<Param>> {
    let vcpus = all(guest).await?;
    let row = |name: &str, fits: fn(&Vcpu) -> bool| {
        let map: Bitmap = vcpus.iter().filter(|v| fits(v)).map(|v| v.id).collect();
        Param { name: name.into(), value: params::Value::String(map.to_string()) }
    };
    Ok(vec![row("vcpus", |_| true), row("online", |v| v.online), row("offlinable", |v| v.can_offline)])
}

/// Switches processors on or off.
///
/// # Errors
/// As [`call`]; code 8 for a processor that the guest has not or cannot switch off.
pub async fn set(guest: &Arc<Guest>, wanted: &Bitmap, online: bool) -> Result<()> {
    let vcpus = all(guest).await?;
    let mut change = Vec::new();
    for id in wanted.iter() {
        let invalid = |text: String| Error::new(Code::InvalidArg, Domain::Qemu, text);
        let vcpu = vcpus.iter().find(|v| v.id == id);
        let vcpu = vcpu.ok_or_else(|| invalid(format!("guest is missing vCPUs '{id}'")))?;
        if !online && !vcpu.can_offline {
            let text = format!("vCPU '{id}' is not offlinable");
            return Err(Error::new(Code::OperationUnsupported, Domain::Qemu, text));
        }
        if vcpu.online != online {
            change.push(json!({"logical-id": id, "online": online}));
        }
    }
    set_all(guest, change).await
}

/// Makes the first `count` of the processors run, as far as the guest can switch them.
///
/// # Errors
/// As [`call`]; code 8 when the guest cannot have that many or that few.
pub async fn set_count(guest: &Arc<Guest>, count: u32) -> Result<()> {
    let vcpus = all(guest).await?;
    let mut now = u32::try_from(vcpus.iter().filter(|v| v.online).count()).unwrap_or(u32::MAX);
    let mut change = Vec::new();
    for vcpu in vcpus.iter().filter(|v| !v.online) {
        if now < count {
            change.push(json!({"logical-id": vcpu.id, "online": true}));
            now += 1;
        }
    }
    for vcpu in vcpus.iter().rev().filter(|v| v.online && v.can_offline) {
        if now > count {
            change.push(json!({"logical-id": vcpu.id, "online": false}));
            now -= 1;
        }
    }
    if now != count {
        let enabled = guest.published().value.vcpus.len();
        let text = match usize::try_from(count) {
            Ok(wanted) if wanted > enabled => format!(
                "requested vcpu count is greater than the count of enabled vcpus in the domain: {wanted} > {enabled}"
            ),
            _ => "failed to find enough offlinable or onlinable vcpus in the guest".to_string(),
        };
        return Err(Error::new(Code::InvalidArg, Domain::Qemu, text));
    }
    set_all(guest, change).await
}

/// The agent may stop in the middle and tell how many it did.
async fn set_all(guest: &Arc<Guest>, mut change: Vec<Value>) -> Result<()> {
    while !change.is_empty() {
        let answer = call(guest, "guest-set-vcpus", json!({ "vcpus": change })).await?;
        let done =
            answer.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=change.len()).contains(n));
        let done = done
            .ok_or_else(|| Error::internal(Domain::Qemu, "guest agent returned an invalid count of vCPUs"))?;
        change.drain(..done);
    }
    Ok(())
}

/// How many run; with `maximum`, how many there are.
///
/// # Errors
/// As [`call`].
pub async fn count(guest: &Arc<Guest>, maximum: bool) -> Result<u32> {
    let vcpus = all(guest).await?;
    Ok(u32::try_from(vcpus.iter().filter(|v| maximum || v.online).count()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_answers_are_none() {
        for answer in
            [json!(null), json!([{"logical-id": -1, "online": true}]), json!([{"online": true}]), json!([7])]
        {
            assert_eq!(read(&answer), None, "{answer}");
        }
        let one = read(&json!([{"logical-id": 3, "online": true}])).unwrap();
        assert_eq!(one, [Vcpu { id: 3, online: true, can_offline: false }]);
    }
}
