//! Calls about storage pools and volumes.

mod change;
mod data;
mod listed;
mod lookup;
mod volume;

pub(crate) use listed::Listed;

use bytes::Bytes;
use virt_api::storage::v1alpha1 as api;
use virt_api::storage::v1alpha1::storage_pool_service_client::StoragePoolServiceClient as Pools;
use virt_api::storage::v1alpha1::storage_volume_service_client::StorageVolumeServiceClient as Volumes;
use virt_error::Result;
use virt_wire::remote::{NonnullStoragePool, NonnullStorageVol};

use super::{Call, malformed};

/// All tables of the concern.
pub(super) fn all() -> impl Iterator<Item = &'static [Call]> {
    [change::CALLS, data::CALLS, lookup::CALLS, volume::CALLS].into_iter()
}

/// A client's pool object in a request: the UUID decides, the name helps the error text.
fn to_ref(pool: NonnullStoragePool) -> Option<api::PoolRef> {
    Some(api::PoolRef { uuid: Bytes::copy_from_slice(&pool.uuid), name: pool.name })
}

/// A request that needs no more than the pool.
fn only(pool: NonnullStoragePool) -> api::PoolRequest {
    api::PoolRequest { pool: to_ref(pool) }
}

/// A daemon's pool as clients get it.
pub(crate) fn to_wire(pool: Option<api::PoolRef>) -> Result<NonnullStoragePool> {
    let pool = pool.ok_or_else(|| malformed("storage pool"))?;
    let uuid = pool.uuid.as_ref().try_into().map_err(|_| malformed("storage pool's UUID"))?;
    Ok(NonnullStoragePool { name: pool.name, uuid })
}

/// A client's volume object in a request.
fn vol_ref(vol: NonnullStorageVol) -> Option<api::VolumeRef> {
    Some(api::VolumeRef { pool: vol.pool, name: vol.name, key: vol.key })
}

/// A daemon's volume as clients get it.
fn vol_to_wire(volume: Option<api::VolumeRef>) -> Result<NonnullStorageVol> {
    let volume = volume.ok_or_else(|| malformed("storage volume"))?;
    Ok(NonnullStorageVol { pool: volume.pool, name: volume.name, key: volume.key })
}
