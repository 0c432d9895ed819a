//! What survives a kill of the daemon: /run/libvirt/storage/NAME.xml of each active pool, in libvirt's own form.

use std::path::Path;
use std::sync::Arc;

use virt_error::{Domain, Error, Result};
use virt_model::storage::Pool as Document;
use virt_model::storage::pool::PoolState;
use virt_object::store::{load_whole, write_whole};

use crate::driver::Driver;
use crate::pool::{Pool, Published, Work, WorkExt};

/// Writes the status file of a pool that is about to be active.
///
/// # Errors
/// Code 38 when it cannot be written.
pub fn save(work: &Work, live: &Document) -> Result<()> {
    let path = work.status_file();
    write_whole(&path, &[PoolState::format(live).as_bytes()], false).map_err(|e| {
        Error::system(Domain::Storage, format!("cannot write status file '{}'", path.display()), e)
    })
}

/// Removes a pool's status file.
pub fn remove(work: &Work) {
    if let Err(error) = std::fs::remove_file(work.status_file())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, pool = %work.uuid, "a status file stays");
    }
}

/// Publishes the pools that were active when the daemon ended. Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<Vec<Arc<Pool>>> {
    load_whole(&driver.folders.run, Domain::Storage, |path| load_one(driver, path))
}

fn load_one(driver: &Arc<Driver>, path: &Path) -> Result<Arc<Pool>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::system(Domain::Storage, format!("cannot read '{}'", path.display()), e))?;
    let live = PoolState::parse(&text)?;
    virt_object::names::POOL.check(live.name())?;
    let name = live.name().to_string();
    let uuid = live.uuid.ok_or_else(|| Error::internal(Domain::Storage, "status file has no UUID"))?;
    let mut published = match driver.pools.by_uuid(&uuid) {
        Some(pool) => pool.published().value.clone(),
        None => Published::inactive(&name, None),
    };
    published.live = Some(Arc::new(live));
    published.adopting = true;
    driver.pools.remove(&uuid);
    driver.pools.insert(&name, uuid, Pool::new(driver, uuid, published))
}
