//! I/O threads of a running guest.

use serde_json::json;
use virt_error::Result;

use super::ask;
use crate::config::iothreads;
use crate::guest::Work;

/// Adds a thread.
///
/// # Errors
/// Code 8 for a number that is taken.
pub async fn add(work: &mut Work, id: u32) -> Result<()> {
    let mut live = work.run()?.live.clone();
    iothreads::add(&mut live, id)?;
    ask(work, "object-add", json!({"qom-type": "iothread", "id": format!("iothread{id}")})).await?;
    work.run()?.live = live;
    work.publish_live()
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
