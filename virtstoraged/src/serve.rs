//! The daemon's start: definitions are read, active pools found again, the services offered.

use std::sync::Arc;

use virt_api::storage::v1alpha1::storage_data_service_server::StorageDataServiceServer;
use virt_api::storage::v1alpha1::storage_pool_service_server::StoragePoolServiceServer;
use virt_api::storage::v1alpha1::storage_volume_service_server::StorageVolumeServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Domain, Error, Result};
use virt_host::tool::HostTools;
use virt_object::blocking;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::{DataApi, StorageApi};
use crate::driver::{Driver, Folders};
use crate::{definitions, lifecycle};

/// Made when the pools that start with the host were started; it lives until the next boot, as the reference's.
const AUTOSTARTED: &str = "autostarted";

/// Reads all definitions, finds active pools again, and offers the services.
pub async fn start(context: Context) -> Result<Running> {
    let paths = &context.paths;
    let folders = Folders { config: paths.etc.join("storage"), run: paths.run.join("storage") };
    let kind = Kind::new(Domain::Storage, context.work.clone(), context.busy.clone());
    std::fs::create_dir_all(&folders.run).map_err(|e| {
        Error::system(Domain::Storage, format!("cannot create directory {}", folders.run.display()), e)
    })?;
    let journal = Journal::open(&folders.run.join("virtd-events"), Limits::default(), context.busy.clone())?;
    let journal = Arc::new(journal);
    let driver = Driver::new(folders.clone(), kind, journal.clone(), Arc::new(HostTools))?;
    let loader = driver.clone();
    let known = blocking::run(move || definitions::load(&loader)).await?;
    let active = lifecycle::adopt(&driver).await?;
    tracing::info!(known, active, "storage pools");
    let marker = folders.run.join(AUTOSTARTED);
    if !marker.exists() {
        let mark = |e| Error::system(Domain::Storage, format!("cannot create '{}'", marker.display()), e);
        std::fs::write(&marker, b"").map_err(mark)?;
        let driver = driver.clone();
        // Beside the service: a pool that hangs must not keep the others from being seen.
        context.work.spawn(async move { lifecycle::autostart(&driver).await });
    }
    let api = StorageApi::new(driver);
    let services = Services::new()
        .add(service!(StorageDataServiceServer, DataApi::new(api.clone(), context.descriptors.clone())))
        .add(service!(StoragePoolServiceServer, api.clone()))
        .add(service!(StorageVolumeServiceServer, api));
    Ok(Running::new(services).epoch(journal.epoch()))
}
