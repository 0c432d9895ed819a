//! I/O threads of a running guest.

use serde_json::{Value, json};
use virt_error::Result;

use super::{affinity, ask, cpu, sched};
use crate::config::iothreads;
use crate::config::params::{self, Param, Value as Number};
use crate::guest::Work;
use crate::qmp::Client;

/// Adds a thread.
///
/// # Errors
/// Code 8 for a number that is taken.
pub async fn add(work: &mut Work, id: u32) -> Result<()> {
    let mut live = work.run()?.live.clone();
    iothreads::add(&mut live, id)?;
    ask(work, "object-add", json!({"qom-type": "iothread", "id": format!("iothread{id}")})).await?;
    work.run()?.live = live;
    work.publish_live()?;
    let mut new = threads(&work.monitor()?).await?;
    new.retain(|(number, _)| *number == id);
    let run = work.run()?;
    affinity::iothreads(&run.live, &new)?;
    sched::iothreads(&run.live, &new)?;
    cpu::renew(run).await
}

/// Changes how a thread works.
///
/// # Errors
/// As [`params::iothread::set`]; code 1 with QEMU's text.
pub async fn set(work: &mut Work, number: &str, params: &[Param]) -> Result<()> {
    let mut live = work.run()?.live.clone();
    let thread = params::iothread::find(&mut live, number)?;
    let old_most = thread.thread_pool_max;
    params::iothread::set(thread, params)?;
    let path = format!("/objects/iothread{}", thread.id);
    let mut rows = params::iothread::get(thread);
    rows.retain(|row| params.iter().any(|p| p.name == row.name));
    // QEMU keeps the least below the most at every moment.
    if thread.thread_pool_max < old_most {
        rows.sort_by_key(|row| row.name == "thread_pool_max");
    } else {
        rows.sort_by_key(|row| row.name != "thread_pool_max");
    }
    for Param { name, value } in rows {
        let property = name.replace('_', "-");
        let value = match value {
            Number::Ullong(v) => json!(v),
            Number::Uint(v) => json!(v),
            Number::Int(v) => json!(v),
            _ => continue,
        };
        ask(work, "qom-set", json!({"path": path, "property": property, "value": value})).await?;
    }
    work.run()?.live = live;
    work.publish_live()
}

/// Numbers and threads of all I/O threads that the document may name.
///
/// # Errors
/// What QEMU says.
pub async fn threads(monitor: &Client) -> Result<Vec<(u32, i32)>> {
    let answer = monitor.run_untyped("query-iothreads", &Value::Null).await?;
    let one = |row: &Value| {
        let id = row["id"].as_str()?.strip_prefix("iothread")?.parse().ok()?;
        Some((id, i32::try_from(row["thread-id"].as_i64()?).ok()?))
    };
    Ok(answer.as_array().into_iter().flatten().filter_map(one).collect())
}

/// Takes a thread out.
///
/// # Errors
/// Code 8 when it is not there or used.
pub async fn remove(work: &mut Work, id: u32) -> Result<()> {
    let mut live = work.run()?.live.clone();
    iothreads::remove(&mut live, id)?;
    ask(work, "object-del", json!({"id": format!("iothread{id}")})).await?;
    work.run()?.live = live;
    work.publish_live()
}
