//! The daemon's start: definitions are read, bindings put into force again, the service offered.

use virt_api::nwfilter::v1alpha1::nwfilter_service_server::NwfilterServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Domain, Error, Result};
use virt_object::blocking;
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::NwfilterApi;
use crate::driver::{Driver, Folders};
use crate::{bindings, definitions};

/// Reads all definitions, puts bindings into force, and offers the service.
///
/// # Errors
/// Code 38 when a folder cannot be made or read, code 1 when the rules of running guests cannot be put into force.
pub async fn start(context: Context) -> Result<Running> {
    let paths = &context.paths;
    let folders = Folders {
        config: paths.etc.join("nwfilter"),
        bindings: paths.run.join("nwfilter-binding"),
        run: paths.run.join("nwfilter"),
    };
    crate::stock::install(&folders.config)?;
    for dir in [&folders.config, &folders.bindings, &folders.run] {
        std::fs::create_dir_all(dir).map_err(|e| {
            Error::system(Domain::Nwfilter, format!("cannot create directory {}", dir.display()), e)
        })?;
    }
    let driver = Driver::new(folders, context.work.clone(), context.busy.clone());
    let loader = driver.clone();
    let known = blocking::run(move || definitions::load(&loader)).await?;
    let active = bindings::adopt(&driver).await?;
    tracing::info!(known, active, "network filters");
    Ok(Running::new(Services::new().add(service!(NwfilterServiceServer, NwfilterApi::new(driver)))))
}
