//! `StoragePoolService`.

use tonic::Request;
use virt_api::storage::v1alpha1::storage_pool_service_server::StoragePoolService;
use virt_api::storage::v1alpha1::*;
use virt_consts::*;
use virt_error::Result;
use virt_host::schema::Schema;
use virt_model::Mode;
use virt_model::storage::source::Sources;
use virt_model::storage::{PoolSource, PoolType, Told, capabilities};
use virt_rpc::{answer, watch};

use super::{Answer, StorageApi, flags, validate};
use crate::backend::{Cx, no_support};
use crate::driver::missing;
use crate::pool::{Pool as Handle, PoolExt};
use crate::{definitions, lifecycle};

/// virConnectListAllStoragePoolsFlags: the bit of each kind.
const KINDS: [(PoolType, u32); 14] = [
    (PoolType::Dir, VIR_CONNECT_LIST_STORAGE_POOLS_DIR),
    (PoolType::Fs, VIR_CONNECT_LIST_STORAGE_POOLS_FS),
    (PoolType::Netfs, VIR_CONNECT_LIST_STORAGE_POOLS_NETFS),
    (PoolType::Logical, VIR_CONNECT_LIST_STORAGE_POOLS_LOGICAL),
    (PoolType::Disk, VIR_CONNECT_LIST_STORAGE_POOLS_DISK),
    (PoolType::Iscsi, VIR_CONNECT_LIST_STORAGE_POOLS_ISCSI),
    (PoolType::Scsi, VIR_CONNECT_LIST_STORAGE_POOLS_SCSI),
    (PoolType::Mpath, VIR_CONNECT_LIST_STORAGE_POOLS_MPATH),
    (PoolType::Rbd, VIR_CONNECT_LIST_STORAGE_POOLS_RBD),
    (PoolType::Sheepdog, VIR_CONNECT_LIST_STORAGE_POOLS_SHEEPDOG),
    (PoolType::Gluster, VIR_CONNECT_LIST_STORAGE_POOLS_GLUSTER),
    (PoolType::Zfs, VIR_CONNECT_LIST_STORAGE_POOLS_ZFS),
    (PoolType::Vstorage, VIR_CONNECT_LIST_STORAGE_POOLS_VSTORAGE),
    (PoolType::IscsiDirect, VIR_CONNECT_LIST_STORAGE_POOLS_ISCSI_DIRECT),
];

fn row(pool: &Handle) -> Pool {
    let published = pool.published();
    let p = &published.value;
    let state = if p.is_active() { VIR_STORAGE_POOL_RUNNING } else { VIR_STORAGE_POOL_INACTIVE };
    Pool {
        pool: Some(pool.reference()),
        r#type: p.document().map(|d| d.kind.to_string()).unwrap_or_default(),
        state: state.unsigned_abs(),
        persistent: p.config.is_some(),
        autostart: p.autostart,
        capacity: p.sizes.capacity,
        allocation: p.sizes.allocation,
        available: p.sizes.available,
        volumes: u32::try_from(p.volumes.len()).unwrap_or(u32::MAX),
        generation: published.generation,
    }
}

/// Whether a row passes: in each group of filters, no bit means all.
fn passes(row: &Pool, filter: u32) -> bool {
    let active = row.state != VIR_STORAGE_POOL_INACTIVE.unsigned_abs();
    let groups = [
        (VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE, VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE, active),
        (VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT, VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT, row.persistent),
        (
            VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART,
            VIR_CONNECT_LIST_STORAGE_POOLS_NO_AUTOSTART,
            row.autostart,
        ),
    ];
    let wanted = groups
        .iter()
        .all(|(yes, no, is)| filter & (yes | no) == 0 || filter & if *is { *yes } else { *no } != 0);
    let kinds = KINDS.iter().fold(0, |all, (_, bit)| all | bit) & filter;
    let kind = KINDS.iter().find(|(kind, _)| kind.as_str() == row.r#type).map_or(0, |(_, bit)| *bit);
    wanted && (kinds == 0 || kinds & kind != 0)
}

#[tonic::async_trait]
impl StoragePoolService for StorageApi {
    type WatchStream = watch::Watched<WatchResponse>;

    async fn define(&self, request: Request<DefinePoolRequest>) -> Answer<PoolResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_STORAGE_POOL_DEFINE_VALIDATE, "storagePoolDefineXML")?;
            let asked = request.flags & VIR_STORAGE_POOL_DEFINE_VALIDATE != 0;
            validate(asked, Schema::StoragePool, &request.xml).await?;
            let pool = definitions::define(&self.driver, request.xml).await?;
            Ok(PoolResponse { pool: Some(pool.reference()) })
        })
        .await
    }

    async fn create(&self, request: Request<CreatePoolRequest>) -> Answer<PoolResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, ALL_STORAGE_POOL_CREATE_FLAGS, "storagePoolCreateXML")?;
            let pool = lifecycle::create(&self.driver, request.xml, request.flags).await?;
            Ok(PoolResponse { pool: Some(pool.reference()) })
        })
        .await
    }

    async fn start(&self, request: Request<StartPoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, ALL_STORAGE_POOL_CREATE_FLAGS, "storagePoolCreate")?;
            lifecycle::start(&*self.find(&request.pool)?, request.flags).await.map(|()| Empty {})
        })
        .await
    }

    async fn build(&self, request: Request<BuildPoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let known = VIR_STORAGE_POOL_BUILD_OVERWRITE | VIR_STORAGE_POOL_BUILD_NO_OVERWRITE;
            flags(request.flags, known, "storagePoolBuild")?;
            lifecycle::build(&*self.find(&request.pool)?, request.flags).await.map(|()| Empty {})
        })
        .await
    }

    async fn destroy(&self, request: Request<PoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { lifecycle::destroy(&*self.find(&request.pool)?).await.map(|()| Empty {}) }).await
    }

    async fn delete(&self, request: Request<DeletePoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storagePoolDelete")?;
            lifecycle::delete(&*self.find(&request.pool)?).await.map(|()| Empty {})
        })
        .await
    }

    async fn undefine(&self, request: Request<PoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { definitions::undefine(&*self.find(&request.pool)?).await.map(|()| Empty {}) }).await
    }

    async fn refresh(&self, request: Request<RefreshPoolRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storagePoolRefresh")?;
            lifecycle::refresh(&*self.find(&request.pool)?).await.map(|()| Empty {})
        })
        .await
    }

    async fn set_autostart(&self, request: Request<SetPoolAutostartRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let pool = self.find(&request.pool)?;
            definitions::set_autostart(&pool, request.autostart).await.map(|()| Empty {})
        })
        .await
    }

    async fn list(&self, request: Request<ListPoolsRequest>) -> Answer<ListPoolsResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.filter, ALL_CONNECT_LIST_ALL_STORAGE_POOLS_FLAGS, "connectListAllStoragePools")?;
            let all = self.driver.pools.list();
            let mut pools: Vec<Pool> =
                all.iter().map(|p| row(p)).filter(|r| passes(r, request.filter)).collect();
            let count = u32::try_from(pools.len()).unwrap_or(u32::MAX);
            if request.count_only {
                pools.clear();
            }
            Ok(ListPoolsResponse { pools, count })
        })
        .await
    }

    async fn get(&self, request: Request<PoolRequest>) -> Answer<Pool> {
        let request = request.into_inner();
        answer(async { Ok(row(&*self.find(&request.pool)?)) }).await
    }

    async fn get_by_target_path(&self, request: Request<GetByTargetPathRequest>) -> Answer<Pool> {
        let path = virt_model::storage::sanitize(&request.into_inner().path);
        answer(async {
            let all = self.driver.pools.list();
            let found =
                all.iter().find(|p| p.published().value.live.as_ref().is_some_and(|d| d.path() == path));
            let none = || missing(format!("no storage pool with matching target path '{path}'"));
            Ok(row(found.ok_or_else(none)?))
        })
        .await
    }

    async fn get_xml(&self, request: Request<GetPoolXmlRequest>) -> Answer<GetPoolXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_STORAGE_XML_INACTIVE, "storagePoolGetXMLDesc")?;
            let published = self.find(&request.pool)?.published();
            let p = &published.value;
            let inactive = request.flags & VIR_STORAGE_XML_INACTIVE != 0;
            // As in the reference an active pool that was not defined anew since shows what it runs with.
            let config = p.config.as_ref().filter(|_| inactive && p.is_redefined());
            let mut shown = (**config.map_or_else(|| p.document(), Ok)?).clone();
            if p.is_active() && config.is_none() {
                shown.capacity = Told { bytes: p.sizes.capacity };
                shown.allocation = Told { bytes: p.sizes.allocation };
                shown.available = Told { bytes: p.sizes.available };
                if let Some(now) = &p.permissions {
                    let label = shown.target.permissions.label.take();
                    shown.target.permissions = now.clone();
                    shown.target.permissions.label = label;
                }
            }
            let mode = if config.is_some() { Mode::CONFIG } else { Mode::LIVE };
            Ok(GetPoolXmlResponse { xml: shown.format(mode) })
        })
        .await
    }

    async fn find_sources(&self, request: Request<FindSourcesRequest>) -> Answer<FindSourcesResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "connectFindStoragePoolSources")?;
            Ok(FindSourcesResponse { xml: find(self, request).await?.format() })
        })
        .await
    }

    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Answer<GetCapabilitiesResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storageConnectGetStoragePoolCapabilities")?;
            let driver = self.driver.clone();
            // Looks for programs in folders that may hang.
            let look = move |_| Ok(capabilities::format(|kind| driver.backends.supports(kind)));
            let xml = self.driver.calls.run("a look", self.driver.calls.look(), look).await?;
            Ok(GetCapabilitiesResponse { xml })
        })
        .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        answer(async {
            let only = match &request.pool {
                Some(wanted) => Some(*self.driver.find(Some(wanted))?.uuid()),
                None => None,
            };
            watch::watch(&self.driver.journal, request.after, move |told: &WatchResponse| {
                only.is_none_or(|uuid| told.pool.as_ref().is_some_and(|p| p.uuid.as_ref() == uuid.as_bytes()))
            })
        })
        .await
    }
}

async fn find(api: &StorageApi, request: FindSourcesRequest) -> Result<Sources> {
    let kind = PoolType::from_name(&request.r#type).ok_or_else(|| {
        let text = format!("unknown storage pool type {}", request.r#type);
        virt_error::Error::internal(virt_error::Domain::Storage, text)
    })?;
    let backend = api.driver.backends.of(kind)?;
    let spec = request.source.as_deref().filter(|s| !s.is_empty());
    let spec = spec.map(|xml| PoolSource::parse(xml, kind)).transpose()?;
    if !backend.finds_sources(kind) {
        let server = match kind {
            PoolType::Gluster => Some("gluster"),
            PoolType::IscsiDirect => Some("iscsi"),
            _ => None,
        };
        if let Some(server) = server.filter(|_| spec.as_ref().is_none_or(|s| s.hosts.is_empty())) {
            let text = format!("hostname must be specified for {server} sources");
            return Err(virt_error::Error::new(
                virt_error::Code::InvalidArg,
                virt_error::Domain::Storage,
                text,
            ));
        }
        return Err(no_support(&format!("pool type '{kind}' does not support source discovery")));
    }
    let tools = api.driver.backends.tools().clone();
    let keys = api.driver.backends.keys().clone();
    let look = move |cancel| backend.find_sources(&Cx::new(&*tools, &*keys, cancel), spec.as_ref());
    Ok(Sources { sources: api.driver.calls.run("a search", api.driver.calls.look(), look).await? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_groups() {
        let row = Pool { r#type: "fs".into(), state: 2, persistent: true, ..Pool::default() };
        assert!(passes(&row, 0) && passes(&row, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE));
        assert!(!passes(&row, VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE));
        assert!(passes(&row, VIR_CONNECT_LIST_STORAGE_POOLS_FS | VIR_CONNECT_LIST_STORAGE_POOLS_DIR));
        assert!(!passes(&row, VIR_CONNECT_LIST_STORAGE_POOLS_DIR));
        assert!(!passes(&row, VIR_CONNECT_LIST_STORAGE_POOLS_FS | VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT));
    }
}
