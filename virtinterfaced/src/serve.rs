//! The daemon's start: definitions are read, the service offered.

use virt_api::interface::v1alpha1::interface_service_server::InterfaceServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Domain, Error, Result};
use virt_object::blocking;
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::InterfaceApi;
use crate::backend::Backend;
use crate::driver::{Driver, Folders};

/// Reads all definitions and offers the service.
///
/// # Errors
/// Code 38 when a folder cannot be made or read.
pub async fn start(context: Context) -> Result<Running> {
    let paths = &context.paths;
    let lib = paths.lib.join("interface");
    std::fs::create_dir_all(&lib).map_err(|e| {
        Error::system(Domain::Interface, format!("cannot create directory {}", lib.display()), e)
    })?;
    let folders = Folders { config: paths.etc.join("interface"), transaction: lib.join("transaction") };
    let etc = paths.etc.parent().unwrap_or(&paths.etc);
    let backend = Backend::find(etc);
    tracing::info!(tool = ?backend.tool, "host interfaces");
    let driver = Driver::new(folders, backend, context.work.clone(), context.busy.clone());
    let loader = driver.clone();
    blocking::run(move || loader.load()).await?;
    Ok(Running::new(Services::new().add(service!(InterfaceServiceServer, InterfaceApi::new(driver)))))
}
