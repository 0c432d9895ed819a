//! vCPUs of a running guest: plugged in and out one after another.

use std::time::Duration;

use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};

use super::{affinity, ask, cpu, invalid, invalid_state, plug, sched};
use crate::config::vcpus;
use crate::guest::{Work, status};
use crate::qmp::commands::QueryCpusFast;

/// How long QEMU may take until a plugged vCPU shows up.
const APPEAR: Duration = Duration::from_secs(5);

/// One place for vCPUs, as QEMU tells it.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    driver: String,
    props: Value,
    /// Id of the device that is there, if one is and it was plugged.
    plugged: Option<String>,
    /// Something is there.
    filled: bool,
    count: u32,
}

/// Brings the number of vCPUs to `count`.
///
/// # Errors
/// Code 8 above the maximum or where places hold several vCPUs that do not come out even; code 55 when vCPUs cannot be
/// taken out; code 9 when the guest keeps one; code 1 with QEMU's text.
pub async fn set(work: &mut Work, count: u32) -> Result<()> {
    let live = &work.run()?.live;
    let max = vcpus::maximum(live);
    if count > max {
        let text = format!(
            "requested vcpus is greater than max allowable vcpus for the live domain: {count} > {max}"
        );
        return Err(invalid(text));
    }
    let places = places(&ask(work, "query-hotpluggable-cpus", Value::Null).await?);
    let now: u32 = places.iter().filter(|p| p.filled).map(|p| p.count).sum();
    let done = if count > now {
        plug(work, &places, count - now).await
    } else {
        unplug(work, &places, now - count).await
    };
    // What was done before a failure stays, and is told.
    let told = settle(work, false).await;
    done.and(told)
}

/// Turns single vCPUs on or off. One place of the machine at a time, as in the reference: what a place holds comes and goes
/// together.
///
/// # Errors
/// Code 8 for one that there cannot be or that is so already; code 84 for several places and for one that belongs to
/// the machine; code 9 when the guest keeps it; code 1 with QEMU's text.
pub async fn set_each(work: &mut Work, ids: Vec<u32>, on: bool) -> Result<()> {
    let live = &work.run()?.live;
    let (max, now) = (vcpus::maximum(live), vcpus::enabled(live));
    let places = places(&ask(work, "query-hotpluggable-cpus", Value::Null).await?);
    let mut chosen: Option<usize> = None;
    for id in &ids {
        if *id >= max {
            return Err(invalid(format!("vcpu {id} is not present in live config")));
        }
        if now.contains(id) == on {
            return Err(invalid(format!("vcpu '{id}' is already in requested state")));
        }
        let at = place_of(&places, *id);
        if at.is_none() || chosen.is_some() && chosen != at {
            return Err(unsupported("only one hotpluggable entity can be selected".to_string()));
        }
        chosen = at;
    }
    let (Some(at), Some(first)) = (chosen, ids.first()) else {
        return Err(invalid("no vcpus selected for modification"));
    };
    let place = &places[at];
    if place.count as usize != ids.len() {
        return Err(unsupported(format!("vcpu '{first}' belongs to a larger hotpluggable entity")));
    }
    let done = if on {
        fill(work, &places, at).await
    } else if let Some(id) = &place.plugged {
        take_out(work, id).await
    } else {
        return Err(unsupported(format!("vcpu '{first}' can't be unplugged")));
    };
    // What was done before a failure stays, and is told.
    let told = settle(work, true).await;
    done.and(told)
}

/// Plugs in what the document of a guest that is being started lists as there and removable, in its order.
///
/// # Errors
/// Code 1 with QEMU's text; code 67 for one that the machine has no place for.
pub async fn begin(work: &mut Work) -> Result<()> {
    let mut wanted: Vec<(u32, u32)> = (work.run()?.live.vcpus.vcpus.iter())
        .filter(|v| v.enabled && v.hotpluggable == Some(true))
        .map(|v| (v.order.unwrap_or(u32::MAX), v.id))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    wanted.sort_unstable();
    let mut places = places(&ask(work, "query-hotpluggable-cpus", Value::Null).await?);
    for (_, id) in wanted {
        let at = place_of(&places, id).ok_or_else(|| {
            let text = format!("the machine has no place for vcpu '{id}'");
            Error::new(Code::ConfigUnsupported, From::Qemu, text)
        })?;
        if !places[at].filled {
            fill(work, &places, at).await?;
            places[at].filled = true;
        }
    }
    settle(work, true).await
}

fn unsupported(text: String) -> Error {
    Error::new(Code::OperationUnsupported, From::Qemu, text)
}

/// The place that holds a vCPU.
fn place_of(places: &[Place], id: u32) -> Option<usize> {
    let mut before = 0;
    places.iter().position(|p| {
        before += p.count;
        id < before
    })
}

/// QEMU tells the highest place first.
fn places(answer: &Value) -> Vec<Place> {
    let one = |p: &Value| {
        let path = p["qom-path"].as_str();
        let id = path.and_then(|path| path.strip_prefix("/machine/peripheral/"));
        Some(Place {
            driver: p["type"].as_str()?.into(),
            props: p["props"].clone(),
            plugged: id.map(str::to_string),
            filled: path.is_some(),
            count: u32::try_from(p["vcpus-count"].as_u64()?).ok()?,
        })
    };
    answer.as_array().into_iter().flatten().rev().filter_map(one).collect()
}

async fn plug(work: &mut Work, places: &[Place], more: u32) -> Result<()> {
    let mut left = more;
    for (at, place) in places.iter().enumerate().filter(|(_, p)| !p.filled) {
        if left == 0 {
            break;
        }
        left = left.checked_sub(place.count).ok_or_else(uneven)?;
        fill(work, places, at).await?;
    }
    if left == 0 { Ok(()) } else { Err(uneven()) }
}

/// Plugs in what a place is for.
async fn fill(work: &Work, places: &[Place], at: usize) -> Result<()> {
    let mut device = places[at].props.clone();
    let (Some(map), id) = (device.as_object_mut(), id_at(places, at)) else {
        return Err(invalid_state("vcpu hotplug is not supported by this machine"));
    };
    map.insert("driver".into(), json!(places[at].driver));
    map.insert("id".into(), json!(id));
    ask(work, "device_add", device).await.map(drop)
}

/// Asks the guest to let go of what was plugged in, and waits for that.
async fn take_out(work: &mut Work, id: &str) -> Result<()> {
    ask(work, "device_del", json!({ "id": id })).await?;
    plug::wait_gone(work, id).await.map_err(|_| {
        let text = "vcpu unplug request timed out. Unplug result must be manually inspected in the domain";
        Error::new(Code::OperationTimeout, From::Qemu, text)
    })
}

/// "vcpu3" for the place whose first vCPU has that number.
fn id_at(places: &[Place], at: usize) -> String {
    let before: u32 = places.iter().take(at).map(|p| p.count).sum();
    format!("vcpu{before}")
}

async fn unplug(work: &mut Work, places: &[Place], fewer: u32) -> Result<()> {
    let mut left = fewer;
    for place in places.iter().rev() {
        if left == 0 {
            break;
        }
        let Some(id) = &place.plugged else { continue };
        left = left.checked_sub(place.count).ok_or_else(uneven)?;
        take_out(work, id).await?;
    }
    if left == 0 {
        return Ok(());
    }
    let text = "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count";
    Err(Error::new(Code::InvalidArg, From::Qemu, text))
}

fn uneven() -> Error {
    invalid("target vm vcpu granularity does not allow the desired vcpu count")
}

/// Makes document and status file what QEMU has now. `named`: single vCPUs were asked for.
async fn settle(work: &mut Work, named: bool) -> Result<()> {
    let end = tokio::time::Instant::now() + APPEAR;
    let monitor = work.monitor()?;
    let cpus = loop {
        let filled: u32 = places(&ask(work, "query-hotpluggable-cpus", Value::Null).await?)
            .iter()
            .filter(|p| p.filled)
            .map(|p| p.count)
            .sum();
        let cpus = monitor.run(&QueryCpusFast {}).await?;
        if cpus.len() == filled as usize || tokio::time::Instant::now() >= end {
            break cpus;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let run = work.run()?;
    let before = std::mem::take(&mut run.vcpus);
    run.vcpus = cpus.iter().map(|c| status::Vcpu { id: c.cpu_index, pid: c.thread_id }).collect();
    let on: Vec<u32> = cpus.iter().map(|c| c.cpu_index).collect();
    vcpus::follow(&mut run.live, &on, named);
    work.publish_live()?;
    let run = work.run()?;
    let new: Vec<_> = run.vcpus.iter().filter(|v| !before.contains(v)).copied().collect();
    affinity::vcpus(&run.live, &new)?;
    sched::vcpus(&run.live, &new)?;
    if new.is_empty() { Ok(()) } else { cpu::renew(run).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_order() {
        let answer = json!([
            {"type": "qemu64-x86_64-cpu", "vcpus-count": 1, "props": {"core-id": 0, "socket-id": 1}},
            {"type": "qemu64-x86_64-cpu", "vcpus-count": 1, "props": {"core-id": 0, "socket-id": 0},
             "qom-path": "/machine/unattached/device[0]"},
        ]);
        let found = places(&answer);
        assert_eq!(
            found.iter().map(|p| (p.filled, p.plugged.is_some())).collect::<Vec<_>>(),
            [(true, false), (false, false)]
        );
        assert_eq!(id_at(&found, 1), "vcpu1");
        assert!(places(&json!({"x": 1})).is_empty());
        assert_eq!([0, 1, 2].map(|id| place_of(&found, id)), [Some(0), Some(1), None]);
    }
}
