//! Making volumes: empty ones, and ones with another's content.

use std::sync::Arc;

use virt_consts::{VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA, VIR_STORAGE_VOL_CREATE_REFLINK};
use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::Volume as Document;

use super::jobs::{Hold, Job};
use super::tasks::Kind;
use super::{Busy, Volume};
use crate::backend::{Create, Source};
use crate::driver::Driver;
use crate::paths;
use crate::pool::Pool;

/// What a caller asks for besides the document.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// qcow2: its tables are written at once.
    pub preallocate: bool,
    /// Share blocks with the source, or fail.
    pub reflink: bool,
}

impl How {
    /// As virStorageVolCreateFlags.
    pub fn flags(self) -> u32 {
        let bit = |on, flag| if on { flag } else { 0 };
        bit(self.preallocate, VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA)
            | bit(self.reflink, VIR_STORAGE_VOL_CREATE_REFLINK)
    }

    /// From virStorageVolCreateFlags.
    pub fn from_flags(flags: u32) -> Self {
        Self {
            preallocate: flags & VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA != 0,
            reflink: flags & VIR_STORAGE_VOL_CREATE_REFLINK != 0,
        }
    }
}

/// Makes a volume.
///
/// # Errors
/// Code 55 for a pool that is not active; code 90 when there is one of this name; what the backend says.
pub async fn create(driver: &Arc<Driver>, pool: &Arc<Pool>, xml: String, how: How) -> Result<Arc<Volume>> {
    let kind = pool.published().value.active()?.kind;
    let wanted = Document::parse(&xml, kind, false)?;
    let job = Job::new(driver, pool, Kind::Create, wanted.name())?;
    job.detached(async move |job| make(&job, wanted, how, None).await).await
}

/// Makes a volume with the content of another one, of any active pool.
///
/// # Errors
/// As [`create`]; code 1 when there is one of this name; code 55 when the other is busy.
pub async fn create_from(
    driver: &Arc<Driver>,
    pool: &Arc<Pool>,
    xml: String,
    (from_pool, from): (Arc<Pool>, String),
    how: How,
) -> Result<Arc<Volume>> {
    let kind = pool.published().value.active()?.kind;
    let mut wanted = Document::parse(&xml, kind, true)?;
    if pool.published().value.volumes.get(wanted.name()).is_some() {
        let text = format!("storage volume name '{}' already in use.", wanted.name());
        return Err(Error::internal(Domain::Storage, text));
    }
    let job = Job::new(driver, pool, Kind::Copy, wanted.name())?;
    job.detached(async move |job| {
        let other = job.beside(&from_pool)?;
        let source = other.hold(from.clone(), Hold::Shared).await?;
        // Never smaller than what it is to hold.
        let capacity = wanted.capacity.get_or_insert_default();
        capacity.0 = capacity.0.max(source.capacity());
        let given = Source { kind: other.document.kind, volume: source };
        let done = make(&job, wanted, how, Some(given)).await;
        other.release(from, Hold::Shared, None, None).await?;
        done
    })
    .await
}

/// "storage volume '...' exists already".
fn check_new(there: Option<&Arc<Volume>>) -> Result<()> {
    let Some(volume) = there else { return Ok(()) };
    let text = format!("storage volume '{}' exists already", volume.name());
    Err(Error::new(Code::StorageVolExist, Domain::Storage, volume.name()).with_text(text))
}

async fn make(job: &Job, mut wanted: Document, how: How, from: Option<Source>) -> Result<Arc<Volume>> {
    let name = wanted.name().to_string();
    paths::check_name(job.document.kind, &name)?;
    check_new(job.pool.published().value.volumes.get(&name))?;
    if wanted.allocation.is_none() {
        wanted.allocation = wanted.capacity;
    }
    let (path, key) = job.backend.place(&job.document, &name)?;
    wanted.key = Some(key);
    wanted.target.path = Some(path);
    wanted.kind = Some(job.backend.volume_type(&job.document, &wanted));
    let building = Volume { busy: Busy::Building, ..Volume::new(wanted.clone()) };
    job.step("create", move |step| {
        check_new(step.volumes.get(building.name()))?;
        step.volumes.put(building);
        Ok(())
    })
    .await?;
    let made = job
        .call(move |backend, pool, cx| {
            let create = Create { wanted: &wanted, how, from: from.as_ref() };
            let volume = backend.create(cx, pool, &create)?;
            Ok((volume, backend.room(cx, pool)))
        })
        .await;
    let (volume, error, room) = match made {
        Ok((volume, room)) => (Some(volume), None, Some(room)),
        Err(error) => (None, Some(error), None),
    };
    let done = job
        .step("created", move |step| {
            if let Some(room) = room {
                step.has_room(room);
            }
            match volume {
                Some(volume) => step.volumes.put(volume),
                None => step.volumes.remove(&name),
            }
            Ok(step.volumes.get(&name).cloned())
        })
        .await;
    match (error, done?) {
        (Some(error), _) => Err(error),
        (None, Some(volume)) => Ok(volume),
        (None, None) => Err(Error::internal(Domain::Storage, "the new volume is gone")),
    }
}
