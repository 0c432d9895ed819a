//! The daemon's start: definitions are read, active pools found again, the services offered.

use std::sync::Arc;

use virt_api::storage::v1alpha1::storage_data_service_server::StorageDataServiceServer;
use virt_api::storage::v1alpha1::storage_pool_service_server::StoragePoolServiceServer;
use virt_api::storage::v1alpha1::storage_volume_service_server::StorageVolumeServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Domain, Error, Result};
use virt_host::tool::HostTools;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virt_object::{autostart, blocking};
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::{DataApi, StorageApi};
use crate::call::Calls;
use crate::driver::{Driver, Folders};
use crate::keys::HostKeys;
use crate::{definitions, lifecycle};

/// Reads all definitions, finds active pools again, and offers the services.
pub async fn start(context: Context) -> Result<Running> {
    let paths = &context.paths;
    let calls = Calls::from_conf(&context.conf)?;
    let folders = Folders { config: paths.etc.join("storage"), run: paths.run.join("storage") };
    let kind = Kind::new(Domain::Storage, context.work.clone(), context.busy.clone());
    std::fs::create_dir_all(&folders.run).map_err(|e| {
        Error::system(Domain::Storage, format!("cannot create directory {}", folders.run.display()), e)
    })?;
    let journal = Journal::open(&folders.run.join("virtd-events"), Limits::default(), context.busy.clone())?;
    let journal = Arc::new(journal);
    let keys = Arc::new(HostKeys::new(context.work.clone(), paths.grpc()));
    let driver = Driver::new(folders.clone(), kind, journal.clone(), Arc::new(HostTools), keys, calls)?;
    let loader = driver.clone();
    let known = blocking::run(move || definitions::load(&loader)).await?;
    let active = lifecycle::adopt(&driver).await?;
    tracing::info!(known, active, "storage pools");
    // Waited for, so that a guest that starts with the host finds its pools.
    let starter = driver.clone();
    let job = async move { lifecycle::autostart(&starter).await };
    autostart::once_per_boot(&context.work, &folders.run, Domain::Storage, autostart::PATIENCE, job).await?;
    let api = StorageApi::new(driver);
    let services = Services::new()
        .add(service!(StorageDataServiceServer, DataApi::new(api.clone(), context.descriptors.clone())))
        .add(service!(StoragePoolServiceServer, api.clone()))
        .add(service!(StorageVolumeServiceServer, api));
    Ok(Running::new(services).epoch(journal.epoch()))
}
