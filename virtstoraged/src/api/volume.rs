//! `StorageVolumeService`.

use std::sync::Arc;

use tonic::Request;
use virt_api::storage::v1alpha1::get_volume_request::By;
use virt_api::storage::v1alpha1::storage_volume_service_server::StorageVolumeService;
use virt_api::storage::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_host::schema::Schema;
use virt_rpc::answer;

use super::{Answer, StorageApi, flags, validate};
use virt_model::storage::{Pool as Document, VolumeType};

use crate::image::mark;
use crate::pool::{Pool as Handle, PoolExt};
use crate::volume::create::{self, How};
use crate::volume::roll::Keys;
use crate::volume::{Volume as Vol, delete, missing, resize};

/// How callers name a volume of the pool of this name.
fn reference(pool: &str, volume: &Vol) -> VolumeRef {
    VolumeRef { pool: pool.to_string(), name: volume.name().to_string(), key: volume.key().to_string() }
}

fn row(pool: &str, volume: &Vol) -> Volume {
    Volume {
        volume: Some(reference(pool, volume)),
        path: volume.path().to_string(),
        r#type: volume.kind() as u32,
        capacity: volume.capacity(),
        allocation: volume.allocation(),
    }
}

impl StorageApi {
    /// The pool and the volume that a client's volume object names.
    pub(super) async fn find_volume(&self, wanted: &Option<VolumeRef>) -> Result<(Arc<Handle>, Arc<Vol>)> {
        let none = || Error::new(Code::InvalidArg, Domain::Storage, "no storage volume is named");
        let wanted = wanted.as_ref().ok_or_else(none)?;
        let pool = self.driver.by_name(&wanted.pool)?;
        pool.known().await?;
        let published = pool.published();
        published.value.active()?;
        let volume = published.value.volumes.find(&wanted.name)?.clone();
        Ok((pool, volume))
    }

    /// The first volume of an active pool that `pick` finds.
    async fn search(&self, pick: impl Fn(&Handle) -> Option<Arc<Vol>>, text: String) -> Result<Volume> {
        let pools = self.driver.pools.list();
        if let Some(found) =
            pools.iter().find_map(|pool| pick(pool).map(|v| row(&pool.published().value.name, &v)))
        {
            return Ok(found);
        }
        // Only then: a pool that does not answer holds up nobody who does not need it.
        for pool in pools.iter().filter(|pool| pool.published().value.adopting) {
            if pool.known().await.is_ok()
                && let Some(volume) = pick(pool)
            {
                return Ok(row(&pool.published().value.name, &volume));
            }
        }
        Err(missing(text))
    }

    /// A raw file that a guest is about to write is noted as raw: from now on its header is the guest's word.
    async fn hand_out(&self, pool: &Arc<Document>, volume: &Arc<Vol>) -> Result<()> {
        if volume.kind() != VolumeType::File || volume.format() != "raw" {
            return Ok(());
        }
        let (backend, pool, volume) = (self.driver.backends.of(pool.kind)?, pool.clone(), volume.clone());
        let note = move |_| {
            mark::set(&backend.content(&pool, &volume)?, "raw");
            Ok(())
        };
        self.driver.calls.run("a look at a volume", self.driver.calls.look(), note).await
    }

    async fn lookup(&self, by: By) -> Result<Volume> {
        match by {
            By::Name(by) => {
                let pool = self.find(&by.pool)?;
                pool.known().await?;
                let published = pool.published();
                published.value.active()?;
                Ok(row(&published.value.name, published.value.volumes.find(&by.name)?))
            }
            By::Key(key) => {
                let text = format!("no storage vol with matching key {key}");
                self.search(|p| p.published().value.volumes.with_key(&key).cloned(), text).await
            }
            By::Path(path) => {
                let clean = virt_model::storage::sanitize(&path);
                let text = format!("no storage vol with matching path '{path}'");
                self.search(|p| p.published().value.volumes.at_path(&clean).cloned(), text).await
            }
        }
    }
}

#[tonic::async_trait]
impl StorageVolumeService for StorageApi {
    async fn create(&self, request: Request<CreateVolumeRequest>) -> Answer<VolumeResponse> {
        let request = request.into_inner();
        answer(async {
            let known = VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA | VIR_STORAGE_VOL_CREATE_VALIDATE;
            flags(request.flags, known, "storageVolCreateXML")?;
            let asked = request.flags & VIR_STORAGE_VOL_CREATE_VALIDATE != 0;
            validate(asked, Schema::StorageVolume, &request.xml).await?;
            let pool = self.find(&request.pool)?;
            let how = How::from_flags(request.flags);
            let volume = create::create(&self.driver, &pool, request.xml, how).await?;
            Ok(VolumeResponse { volume: Some(reference(&pool.published().value.name, &volume)) })
        })
        .await
    }

    async fn create_from(&self, request: Request<CreateVolumeFromRequest>) -> Answer<VolumeResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, ALL_STORAGE_VOL_CREATE_FLAGS, "storageVolCreateXMLFrom")?;
            let asked = request.flags & VIR_STORAGE_VOL_CREATE_VALIDATE != 0;
            validate(asked, Schema::StorageVolume, &request.xml).await?;
            let pool = self.find(&request.pool)?;
            let (from_pool, from) = self.find_volume(&request.from).await?;
            let (how, from) = (How::from_flags(request.flags), (from_pool, from.name().to_string()));
            let volume = create::create_from(&self.driver, &pool, request.xml, from, how).await?;
            Ok(VolumeResponse { volume: Some(reference(&pool.published().value.name, &volume)) })
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteVolumeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let known = VIR_STORAGE_VOL_DELETE_ZEROED | VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS;
            flags(request.flags, known, "storageVolDelete")?;
            let (pool, volume) = self.find_volume(&request.volume).await?;
            let name = volume.name().to_string();
            delete::delete(&self.driver, &pool, name, request.flags).await.map(|()| Empty {})
        })
        .await
    }

    async fn resize(&self, request: Request<ResizeVolumeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, ALL_STORAGE_VOL_RESIZE_FLAGS, "storageVolResize")?;
            let (pool, volume) = self.find_volume(&request.volume).await?;
            let name = volume.name().to_string();
            resize::resize(&self.driver, &pool, name, request.capacity, request.flags).await?;
            Ok(Empty {})
        })
        .await
    }

    async fn list(&self, request: Request<ListVolumesRequest>) -> Answer<ListVolumesResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storagePoolListAllVolumes")?;
            let pool = self.find(&request.pool)?;
            pool.known().await?;
            let published = pool.published();
            published.value.active()?;
            let (all, pool) = (&published.value.volumes, published.value.name.to_string());
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let mut told = ListVolumesResponse { count, ..Default::default() };
            if !request.count_only {
                match request.fields() {
                    VolumeFields::All => told.volumes = all.iter().map(|v| row(&pool, v)).collect(),
                    VolumeFields::Keys => {
                        let roll = all.roll();
                        told.names = roll.names.clone();
                        told.keys_are_paths = roll.keys_are_paths;
                        match &roll.keys {
                            Keys::Prefix(prefix) => told.key_prefix.clone_from(prefix),
                            Keys::All(keys) => told.keys = keys.clone(),
                        }
                    }
                    VolumeFields::Names => told.names = all.roll().names.clone(),
                }
            }
            Ok(ListVolumesResponse { pool, ..told })
        })
        .await
    }

    async fn get(&self, request: Request<GetVolumeRequest>) -> Answer<Volume> {
        let request = request.into_inner();
        answer(async {
            let none = || Error::new(Code::InvalidArg, Domain::Storage, "no storage volume is named");
            self.lookup(request.by.ok_or_else(none)?).await
        })
        .await
    }

    async fn get_info(&self, request: Request<GetVolumeInfoRequest>) -> Answer<VolumeInfo> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, ALL_STORAGE_VOL_INFO_FLAGS, "storageVolGetInfoFlags")?;
            let (pool, volume) = self.find_volume(&request.volume).await?;
            let now = resize::look(&self.driver, &pool, volume.name()).await?;
            let physical = request.flags & VIR_STORAGE_VOL_GET_PHYSICAL != 0;
            let allocation = match (physical, &now.document.physical) {
                (true, Some(physical)) => physical.bytes,
                _ => now.allocation(),
            };
            Ok(VolumeInfo { r#type: now.kind() as u32, capacity: now.capacity(), allocation })
        })
        .await
    }

    async fn get_xml(&self, request: Request<GetVolumeXmlRequest>) -> Answer<GetVolumeXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "storageVolGetXMLDesc")?;
            let (pool, volume) = self.find_volume(&request.volume).await?;
            let now = resize::look(&self.driver, &pool, volume.name()).await?;
            Ok(GetVolumeXmlResponse { xml: now.document.format() })
        })
        .await
    }

    async fn resolve(&self, request: Request<ResolveVolumeRequest>) -> Answer<ResolveVolumeResponse> {
        let request = request.into_inner();
        answer(async {
            let pool = self.driver.by_name(&request.pool)?;
            pool.known().await?;
            let published = pool.published();
            let document = published.value.active()?;
            let volume = published.value.volumes.find(&request.volume)?.clone();
            volume.check_whole()?;
            self.hand_out(document, &volume).await?;
            Ok(ResolveVolumeResponse {
                pool_type: document.kind.to_string(),
                r#type: volume.kind() as u32,
                path: volume.path().to_string(),
                format: volume.format().to_string(),
                source: document.source.format_document(),
            })
        })
        .await
    }
}
