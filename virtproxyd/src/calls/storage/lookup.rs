//! Lists of storage pools, looking one up, and what is known of it.

use virt_api::storage::v1alpha1::*;
use virt_consts::{VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE, VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Pools, only, to_ref, to_wire};

pub(super) const CALLS: &[Call] = calls! {
    keep(Storage) procs::ConnectListAllStoragePools => list_all;
    keep(Storage) procs::ConnectNumOfStoragePools => num_active;
    keep(Storage) procs::ConnectNumOfDefinedStoragePools => num_defined;
    keep(Storage) procs::ConnectListStoragePools => list_active;
    keep(Storage) procs::ConnectListDefinedStoragePools => list_defined;
    ask procs::ConnectFindStoragePoolSources => find_sources;
    ask procs::ConnectGetStoragePoolCapabilities => capabilities;
    keep(Storage) procs::StoragePoolLookupByName => by_name;
    keep(Storage) procs::StoragePoolLookupByUuid => by_uuid;
    ask procs::StoragePoolLookupByVolume => by_volume;
    ask procs::StoragePoolLookupByTargetPath => by_target_path;
    ask procs::StoragePoolGetXmlDesc => get_xml;
    ask procs::StoragePoolGetInfo => get_info;
    keep(Storage) procs::StoragePoolGetAutostart => get_autostart;
    keep(Storage) procs::StoragePoolIsActive => is_active;
    keep(Storage) procs::StoragePoolIsPersistent => is_persistent;
};

async fn list_all(c: Ctx, a: ConnectListAllStoragePoolsArgs) -> Result<ConnectListAllStoragePoolsRet> {
    let request = ListPoolsRequest { filter: a.flags, count_only: a.need_results == 0 };
    let list = rpc!(c, Storage: Pools.list(request)).await?;
    let pools = list.pools.into_iter().map(|p| to_wire(p.pool)).collect::<Result<_>>()?;
    Ok(ConnectListAllStoragePoolsRet { pools, ret: list.count })
}

async fn number(c: Ctx, filter: u32) -> Result<i32> {
    let list = rpc!(c, Storage: Pools.list(ListPoolsRequest { filter, count_only: true })).await?;
    Ok(i32::try_from(list.count).unwrap_or(i32::MAX))
}

async fn names(c: Ctx, filter: u32, most: i32) -> Result<Vec<String>> {
    let list = rpc!(c, Storage: Pools.list(ListPoolsRequest { filter, count_only: false })).await?;
    let names = list.pools.into_iter().filter_map(|p| Some(p.pool?.name));
    Ok(names.take(usize::try_from(most).unwrap_or(0)).collect())
}

async fn num_active(c: Ctx, (): ()) -> Result<ConnectNumOfStoragePoolsRet> {
    Ok(ConnectNumOfStoragePoolsRet { num: number(c, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE).await? })
}

async fn num_defined(c: Ctx, (): ()) -> Result<ConnectNumOfDefinedStoragePoolsRet> {
    Ok(ConnectNumOfDefinedStoragePoolsRet { num: number(c, VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE).await? })
}

async fn list_active(c: Ctx, a: ConnectListStoragePoolsArgs) -> Result<ConnectListStoragePoolsRet> {
    let names = names(c, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE, a.maxnames).await?;
    Ok(ConnectListStoragePoolsRet { names })
}

async fn list_defined(
    c: Ctx,
    a: ConnectListDefinedStoragePoolsArgs,
) -> Result<ConnectListDefinedStoragePoolsRet> {
    let names = names(c, VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE, a.maxnames).await?;
    Ok(ConnectListDefinedStoragePoolsRet { names })
}

async fn find_sources(
    c: Ctx,
    a: ConnectFindStoragePoolSourcesArgs,
) -> Result<ConnectFindStoragePoolSourcesRet> {
    let request = FindSourcesRequest { r#type: a.r#type, source: a.src_spec, flags: a.flags };
    Ok(ConnectFindStoragePoolSourcesRet { xml: rpc!(c, Storage: Pools.find_sources(request)).await?.xml })
}

async fn capabilities(
    c: Ctx,
    a: ConnectGetStoragePoolCapabilitiesArgs,
) -> Result<ConnectGetStoragePoolCapabilitiesRet> {
    let request = GetCapabilitiesRequest { flags: a.flags };
    let capabilities = rpc!(c, Storage: Pools.get_capabilities(request)).await?.xml;
    Ok(ConnectGetStoragePoolCapabilitiesRet { capabilities })
}

async fn by_name(c: Ctx, a: StoragePoolLookupByNameArgs) -> Result<StoragePoolLookupByNameRet> {
    Ok(StoragePoolLookupByNameRet { pool: named(c, a.name).await? })
}

async fn by_volume(c: Ctx, a: StoragePoolLookupByVolumeArgs) -> Result<StoragePoolLookupByVolumeRet> {
    Ok(StoragePoolLookupByVolumeRet { pool: named(c, a.vol.pool).await? })
}

async fn named(c: Ctx, name: String) -> Result<NonnullStoragePool> {
    let pool = Some(PoolRef { name, ..Default::default() });
    to_wire(rpc!(c, Storage: Pools.get(PoolRequest { pool })).await?.pool)
}

async fn by_uuid(c: Ctx, a: StoragePoolLookupByUuidArgs) -> Result<StoragePoolLookupByUuidRet> {
    let found = row(c, NonnullStoragePool { uuid: a.uuid, name: String::new() }).await?;
    Ok(StoragePoolLookupByUuidRet { pool: to_wire(found.pool)? })
}

async fn by_target_path(
    c: Ctx,
    a: StoragePoolLookupByTargetPathArgs,
) -> Result<StoragePoolLookupByTargetPathRet> {
    let found = rpc!(c, Storage: Pools.get_by_target_path(GetByTargetPathRequest { path: a.path })).await?;
    Ok(StoragePoolLookupByTargetPathRet { pool: to_wire(found.pool)? })
}

async fn get_xml(c: Ctx, a: StoragePoolGetXmlDescArgs) -> Result<StoragePoolGetXmlDescRet> {
    let request = GetPoolXmlRequest { pool: to_ref(a.pool), flags: a.flags };
    Ok(StoragePoolGetXmlDescRet { xml: rpc!(c, Storage: Pools.get_xml(request)).await?.xml })
}

async fn row(c: Ctx, pool: NonnullStoragePool) -> Result<Pool> {
    rpc!(c, Storage: Pools.get(only(pool))).await
}

async fn get_info(c: Ctx, a: StoragePoolGetInfoArgs) -> Result<StoragePoolGetInfoRet> {
    let row = row(c, a.pool).await?;
    let (capacity, allocation, available) = (row.capacity, row.allocation, row.available);
    let state = u8::try_from(row.state).unwrap_or(u8::MAX);
    Ok(StoragePoolGetInfoRet { state, capacity, allocation, available })
}

async fn get_autostart(c: Ctx, a: StoragePoolGetAutostartArgs) -> Result<StoragePoolGetAutostartRet> {
    Ok(StoragePoolGetAutostartRet { autostart: row(c, a.pool).await?.autostart.into() })
}

async fn is_active(c: Ctx, a: StoragePoolIsActiveArgs) -> Result<StoragePoolIsActiveRet> {
    Ok(StoragePoolIsActiveRet { active: (row(c, a.pool).await?.state != 0).into() })
}

async fn is_persistent(c: Ctx, a: StoragePoolIsPersistentArgs) -> Result<StoragePoolIsPersistentRet> {
    Ok(StoragePoolIsPersistentRet { persistent: row(c, a.pool).await?.persistent.into() })
}
