//! The daemon's start: definitions are read, running networks found again, the service offered.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use virt_api::network::v1alpha1::network_service_server::NetworkServiceServer;
use virt_daemon::{Context, Running};
use virt_error::{Code, Domain, Error, Result};
use virt_host::sriov::Sysfs;
use virt_object::events::{Journal, Limits};
use virt_object::owner::Kind;
use virt_object::{autostart, blocking};
use virt_rpc::server::Services;
use virt_rpc::service;

use crate::api::NetworkApi;
use crate::driver::{Driver, Folders};
use crate::firewall::zones;
use crate::{definitions, keeper, lifecycle};

/// The lease helper's file name.
const HELPER: &str = "virt-leaseshelper";
/// Where packages put it.
const HELPER_FOLDERS: [&str; 2] = ["/usr/libexec/virtd", "/usr/lib/virtd"];

/// Reads all definitions, finds running networks again, and offers the service.
pub async fn start(context: Context) -> Result<Running> {
    let paths = &context.paths;
    let folders = Folders {
        config: paths.etc.join("qemu/networks"),
        run: paths.run.join("network"),
        dnsmasq: paths.lib.join("dnsmasq"),
        hook: paths.etc.join("hooks/network"),
        sys: Sysfs::default(),
        firewalld: zones::PROGRAM.into(),
    };
    let kind = Kind::new(Domain::Network, context.work.clone(), context.busy.clone());
    std::fs::create_dir_all(&folders.run).map_err(|e| {
        Error::system(Domain::Network, format!("cannot create directory {}", folders.run.display()), e)
    })?;
    let journal = Journal::open(&folders.run.join("virtd-events"), Limits::default(), context.busy.clone())?;
    let journal = Arc::new(journal);
    let driver = Driver::new(folders.clone(), kind, journal.clone(), helper()?)?;
    let loader = driver.clone();
    let known = blocking::run(move || definitions::load(&loader)).await?;
    let active = lifecycle::adopt(&driver).await?;
    tracing::info!(known, active, "networks");
    // Waited for, so that a guest that starts with the host finds its networks.
    let starter = driver.clone();
    let job = async move { lifecycle::autostart(&starter).await };
    autostart::once_per_boot(&context.work, &folders.run, Domain::Network, autostart::PATIENCE, job).await?;
    context.work.spawn(keeper::keep(driver.clone()));
    let services = Services::new().add(service!(NetworkServiceServer, NetworkApi::new(driver)));
    Ok(Running::new(services).epoch(journal.epoch()))
}

fn helper() -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(HELPER)));
    let packaged = HELPER_FOLDERS.iter().map(|dir| Path::new(dir).join(HELPER));
    packaged.chain(beside).find(|path| path.exists()).ok_or_else(|| {
        let text = format!("Failed to find '{HELPER}': leases could not be kept");
        Error::new(Code::ConfigUnsupported, Domain::Network, text)
    })
}
