//! I/O threads of a running guest.

use serde_json::{Value, json};
use virt_error::Result;

use super::{affinity, ask, cpu, sched};
use crate::config::iothreads;
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
