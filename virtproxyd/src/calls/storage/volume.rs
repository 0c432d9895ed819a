//! Volumes of storage pools.

use virt_api::storage::v1alpha1::get_volume_request::By;
use virt_api::storage::v1alpha1::*;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, malformed, rpc};
use super::{Volumes, to_ref, vol_ref, vol_to_wire};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::StoragePoolNumOfVolumes => count_of;
    ask procs::StoragePoolListVolumes => names;
    ask procs::StoragePoolListAllVolumes => list_all;
    ask procs::StorageVolLookupByName => by_name;
    ask procs::StorageVolLookupByKey => by_key;
    ask procs::StorageVolLookupByPath => by_path;
    ask procs::StorageVolCreateXml => create;
    ask procs::StorageVolCreateXmlFrom => create_from;
    ask procs::StorageVolDelete => delete;
    ask procs::StorageVolResize => resize;
    ask procs::StorageVolGetXmlDesc => get_xml;
    ask procs::StorageVolGetInfo => get_info;
    ask procs::StorageVolGetInfoFlags => get_info_flags;
    ask procs::StorageVolGetPath => get_path;
};

async fn list(
    c: Ctx,
    pool: NonnullStoragePool,
    fields: VolumeFields,
    flags: u32,
) -> Result<ListVolumesResponse> {
    let request = ListVolumesRequest { pool: to_ref(pool), count_only: false, flags, fields: fields.into() };
    rpc!(c, Storage: Volumes.list(request)).await
}

async fn count(c: Ctx, pool: NonnullStoragePool, flags: u32) -> Result<u32> {
    let request = ListVolumesRequest { pool: to_ref(pool), count_only: true, flags, ..Default::default() };
    Ok(rpc!(c, Storage: Volumes.list(request)).await?.count)
}

async fn count_of(c: Ctx, a: StoragePoolNumOfVolumesArgs) -> Result<StoragePoolNumOfVolumesRet> {
    let count = count(c, a.pool, 0).await?;
    Ok(StoragePoolNumOfVolumesRet { num: i32::try_from(count).unwrap_or(i32::MAX) })
}

async fn names(c: Ctx, a: StoragePoolListVolumesArgs) -> Result<StoragePoolListVolumesRet> {
    let all = list(c, a.pool, VolumeFields::Names, 0).await?.names;
    let most = usize::try_from(a.maxnames).unwrap_or(0);
    Ok(StoragePoolListVolumesRet { names: texts(&all).take(most).collect::<Result<_>>()? })
}

async fn list_all(c: Ctx, a: StoragePoolListAllVolumesArgs) -> Result<StoragePoolListAllVolumesRet> {
    if a.need_results == 0 {
        return Ok(StoragePoolListAllVolumesRet { vols: Vec::new(), ret: count(c, a.pool, a.flags).await? });
    }
    let before = c.link.count(c.info, crate::route::Object::Storage).await;
    let all = list(c.clone(), a.pool, VolumeFields::Keys, a.flags).await?;
    c.link.listed.keep(before, &all);
    let mut keys = texts(&all.keys);
    let prefixed = all.keys.is_empty();
    let mut vol = |name: String| {
        let key = match prefixed {
            true => [all.key_prefix.as_str(), &name].concat(),
            false => keys.next().ok_or_else(|| malformed("list of storage volumes"))??,
        };
        Ok(NonnullStorageVol { pool: all.pool.clone(), name, key })
    };
    let vols = texts(&all.names).map(|name| vol(name?)).collect::<Result<Vec<_>>>()?;
    // Clients trust this number to be that of the volumes.
    let ret = u32::try_from(vols.len()).unwrap_or(u32::MAX);
    Ok(StoragePoolListAllVolumesRet { vols, ret })
}

/// The texts of a field that has a zero byte after each.
fn texts(list: &[u8]) -> impl Iterator<Item = Result<String>> {
    let texts = list.strip_suffix(b"\0").map(|list| list.split(|byte| *byte == 0));
    texts.into_iter().flatten().map(|text| {
        str::from_utf8(text).map(str::to_string).map_err(|_| malformed("list of storage volumes"))
    })
}

async fn get(c: Ctx, by: By) -> Result<Volume> {
    rpc!(c, Storage: Volumes.get(GetVolumeRequest { by: Some(by) })).await
}

async fn by_name(c: Ctx, a: StorageVolLookupByNameArgs) -> Result<StorageVolLookupByNameRet> {
    let by = By::Name(NameInPool { pool: to_ref(a.pool), name: a.name });
    Ok(StorageVolLookupByNameRet { vol: vol_to_wire(get(c, by).await?.volume)? })
}

async fn by_key(c: Ctx, a: StorageVolLookupByKeyArgs) -> Result<StorageVolLookupByKeyRet> {
    Ok(StorageVolLookupByKeyRet { vol: vol_to_wire(get(c, By::Key(a.key)).await?.volume)? })
}

async fn by_path(c: Ctx, a: StorageVolLookupByPathArgs) -> Result<StorageVolLookupByPathRet> {
    Ok(StorageVolLookupByPathRet { vol: vol_to_wire(get(c, By::Path(a.path)).await?.volume)? })
}

async fn get_path(c: Ctx, a: StorageVolGetPathArgs) -> Result<StorageVolGetPathRet> {
    if let Some(name) = c.link.listed.path(&a.vol) {
        return Ok(StorageVolGetPathRet { name });
    }
    let pool = Some(PoolRef { name: a.vol.pool, ..Default::default() });
    let by = By::Name(NameInPool { pool, name: a.vol.name });
    Ok(StorageVolGetPathRet { name: get(c, by).await?.path })
}

async fn create(c: Ctx, a: StorageVolCreateXmlArgs) -> Result<StorageVolCreateXmlRet> {
    let request = CreateVolumeRequest { pool: to_ref(a.pool), xml: a.xml, flags: a.flags };
    let made = rpc!(c, Storage: Volumes.create(request)).await?;
    Ok(StorageVolCreateXmlRet { vol: vol_to_wire(made.volume)? })
}

async fn create_from(c: Ctx, a: StorageVolCreateXmlFromArgs) -> Result<StorageVolCreateXmlFromRet> {
    let from = vol_ref(a.clonevol);
    let request = CreateVolumeFromRequest { pool: to_ref(a.pool), xml: a.xml, from, flags: a.flags };
    let made = rpc!(c, Storage: Volumes.create_from(request)).await?;
    Ok(StorageVolCreateXmlFromRet { vol: vol_to_wire(made.volume)? })
}

async fn delete(c: Ctx, a: StorageVolDeleteArgs) -> Result<()> {
    let request = DeleteVolumeRequest { volume: vol_ref(a.vol), flags: a.flags };
    rpc!(c, Storage: Volumes.delete(request)).await?;
    Ok(())
}

async fn resize(c: Ctx, a: StorageVolResizeArgs) -> Result<()> {
    let request = ResizeVolumeRequest { volume: vol_ref(a.vol), capacity: a.capacity, flags: a.flags };
    rpc!(c, Storage: Volumes.resize(request)).await?;
    Ok(())
}

async fn get_xml(c: Ctx, a: StorageVolGetXmlDescArgs) -> Result<StorageVolGetXmlDescRet> {
    let request = GetVolumeXmlRequest { volume: vol_ref(a.vol), flags: a.flags };
    Ok(StorageVolGetXmlDescRet { xml: rpc!(c, Storage: Volumes.get_xml(request)).await?.xml })
}

async fn info(c: Ctx, vol: NonnullStorageVol, flags: u32) -> Result<(i8, VolumeInfo)> {
    let request = GetVolumeInfoRequest { volume: vol_ref(vol), flags };
    let info = rpc!(c, Storage: Volumes.get_info(request)).await?;
    Ok((i8::try_from(info.r#type).unwrap_or(i8::MAX), info))
}

async fn get_info(c: Ctx, a: StorageVolGetInfoArgs) -> Result<StorageVolGetInfoRet> {
    let (kind, info) = info(c, a.vol, 0).await?;
    Ok(StorageVolGetInfoRet { r#type: kind, capacity: info.capacity, allocation: info.allocation })
}

async fn get_info_flags(c: Ctx, a: StorageVolGetInfoFlagsArgs) -> Result<StorageVolGetInfoFlagsRet> {
    let (kind, info) = info(c, a.vol, a.flags).await?;
    Ok(StorageVolGetInfoFlagsRet { r#type: kind, capacity: info.capacity, allocation: info.allocation })
}
