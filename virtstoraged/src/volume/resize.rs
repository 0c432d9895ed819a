//! Changing a volume's capacity, and looking at one volume anew.

use std::sync::Arc;

use virt_consts::{
    VIR_STORAGE_VOL_RESIZE_ALLOCATE, VIR_STORAGE_VOL_RESIZE_DELTA, VIR_STORAGE_VOL_RESIZE_SHRINK,
};
use virt_error::{Code, Domain, Error, Result};

use super::Volume;
use super::jobs::{Hold, Job};
use super::tasks::Kind;
use crate::backend::{Cx, Resize};
use crate::driver::Driver;
use crate::pool::Pool;

/// The new size a request means.
///
/// # Errors
/// Code 8 for one that shrinks without saying so, or below what is taken; code 9 when the pool has not so much.
fn target(volume: &Volume, capacity: u64, flags: u32, available: u64) -> Result<Resize> {
    let bad = |text: &str| Err(Error::new(Code::InvalidArg, Domain::Storage, text));
    let (delta, shrink) =
        (flags & VIR_STORAGE_VOL_RESIZE_DELTA != 0, flags & VIR_STORAGE_VOL_RESIZE_SHRINK != 0);
    let allocate = flags & VIR_STORAGE_VOL_RESIZE_ALLOCATE != 0;
    let old = volume.capacity();
    let new = match (delta, shrink) {
        (false, _) => Some(capacity),
        (true, false) => old.checked_add(capacity),
        (true, true) => Some(old.saturating_sub(capacity)),
    };
    let Some(capacity) = new.filter(|n| i64::try_from(*n).is_ok()) else {
        return bad("capacity is too large");
    };
    if capacity < volume.allocation() {
        return bad("can't shrink capacity below existing allocation");
    }
    if capacity < old && !shrink {
        return bad("Can't shrink capacity below current capacity unless shrink flag explicitly specified");
    }
    if allocate && capacity > old && capacity - old > available {
        let text = "Not enough space left in storage pool";
        return Err(Error::new(Code::OperationFailed, Domain::Storage, text));
    }
    Ok(Resize { capacity, shrink: capacity < old, allocate })
}

/// Changes a volume's capacity.
///
/// # Errors
/// Code 50 when it is not there, code 55 when it is busy, code 8 for a size that loses data unasked.
pub async fn resize(
    driver: &Arc<Driver>,
    pool: &Arc<Pool>,
    name: String,
    capacity: u64,
    flags: u32,
) -> Result<()> {
    let job = Job::new(driver, pool, Kind::Resize, &name)?;
    let available = pool.published().value.sizes.available;
    job.detached(async move |job| {
        let volume = job.hold(name.clone(), Hold::Alone).await?;
        let wanted = target(&volume, capacity, flags, available);
        let done = match wanted {
            Ok(wanted) => {
                job.call(move |backend, pool, cx| {
                    backend.resize(cx, pool, &volume, wanted)?;
                    Ok((backend.look(cx, pool, &volume)?, backend.sizes(cx, pool).ok()))
                })
                .await
            }
            Err(error) => Err(error),
        };
        let (now, sizes, result) = match done {
            Ok((now, sizes)) => (Some(now), sizes, Ok(())),
            Err(error) => (None, None, Err(error)),
        };
        job.release(name, Hold::Alone, now, sizes).await?;
        result
    })
    .await
}

/// One volume as it is now. A volume that does not answer in time is told as it was.
///
/// # Errors
/// Code 50 when it is not there, what the backend says.
pub async fn look(driver: &Arc<Driver>, pool: &Arc<Pool>, name: &str) -> Result<Volume> {
    let document = pool.published().value.active()?.clone();
    let backend = driver.backends.of(document.kind)?;
    let volume = pool.published().value.volumes.find(name)?.clone();
    if volume.check_whole().is_err() {
        return Ok((*volume).clone());
    }
    let (tools, keys) = (driver.backends.tools().clone(), driver.backends.keys().clone());
    driver
        .calls
        .run("a look at a volume", driver.calls.look(), move |cancel| {
            backend.look(&Cx::new(&*tools, &*keys, cancel), &document, &volume)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(capacity: u64, allocation: u64) -> Volume {
        let mut volume = Volume::default();
        volume.set_sizes(capacity, allocation, None);
        volume
    }

    #[test]
    fn sizes_are_checked_as_the_reference_does() {
        let (shrink, delta) = (VIR_STORAGE_VOL_RESIZE_SHRINK, VIR_STORAGE_VOL_RESIZE_DELTA);
        assert_eq!(target(&volume(10, 2), 20, 0, 0).unwrap().capacity, 20);
        assert_eq!(target(&volume(10, 2), 5, delta, 0).unwrap().capacity, 15);
        assert_eq!(target(&volume(10, 2), 3, delta | shrink, 0).unwrap().capacity, 7);
        assert_eq!(target(&volume(10, 2), 5, 0, 0).unwrap_err().code(), Code::InvalidArg);
        assert!(target(&volume(10, 2), 5, shrink, 0).unwrap().shrink);
        assert!(target(&volume(10, 2), u64::MAX, delta, 0).is_err());
        let error = target(&volume(10, 2), 100, VIR_STORAGE_VOL_RESIZE_ALLOCATE, 50).unwrap_err();
        assert_eq!(error.message(), "operation failed: Not enough space left in storage pool");
    }
}
