//! The daemon's start: secrets are read, the service offered.

use std::path::PathBuf;
use std::sync::Arc;

use virt_api::secret::v1alpha1::secret_service_server::SecretServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Domain, Error, Result};
use virt_object::blocking;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::SecretApi;
use crate::definitions;
use crate::driver::Driver;
use crate::vault::Vault;

/// Reads all secrets and offers the service.
///
/// # Errors
/// Code 38 when a folder cannot be used; a key that is not one.
pub async fn start(context: Context) -> Result<Running> {
    let (dir, run) = (context.paths.etc.join("secrets"), context.paths.run.join("secrets"));
    std::fs::create_dir_all(&run).map_err(|e| {
        Error::system(Domain::Secret, format!("cannot create directory {}", run.display()), e)
    })?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let vault = Vault::open(&dir, credentials.as_deref())?;
    let encrypted = vault.has_key();
    let kind = Kind::new(Domain::Secret, context.work.clone(), context.busy.clone());
    let journal = Journal::open(&run.join("virtd-events"), Limits::default(), context.busy.clone())?;
    let journal = Arc::new(journal);
    let driver = Driver::new(&dir, vault, kind, journal.clone(), context.busy.clone());
    let loader = driver.clone();
    let known = blocking::run(move || definitions::load(&loader)).await?;
    tracing::info!(known, encrypted, "secrets");
    let api = SecretApi::new(driver, context.descriptors.clone());
    let services = Services::new().add(service!(SecretServiceServer, api));
    Ok(Running::new(services).epoch(journal.epoch()))
}
