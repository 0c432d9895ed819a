//! Deleting volumes.

use std::sync::Arc;

use virt_error::Result;

use super::jobs::{Hold, Job};
use super::tasks::Kind;
use crate::driver::Driver;
use crate::pool::Pool;

/// Deletes a volume.
///
/// # Errors
/// Code 50 when it is not there, code 55 when it is busy, what the backend says; it stays then.
pub async fn delete(driver: &Arc<Driver>, pool: &Arc<Pool>, name: String, flags: u32) -> Result<()> {
    let job = Job::new(driver, pool, Kind::Delete, &name)?;
    job.detached(async move |job| {
        let volume = job.hold(name.clone(), Hold::Alone).await?;
        let deleted = job
            .call(move |backend, pool, cx| {
                backend.delete_volume(cx, pool, &volume, flags)?;
                Ok(backend.room(cx, pool))
            })
            .await;
        match deleted {
            Ok(room) => {
                job.step("deleted", move |step| {
                    step.has_room(room);
                    step.volumes.remove(&name);
                    Ok(())
                })
                .await
            }
            Err(error) => {
                job.release(name, Hold::Alone, None, None).await?;
                Err(error)
            }
        }
    })
    .await
}
