//! The same calls natively by gRPC, without the libvirt protocol and without the proxy.

use crate::cases::{guest_xml, percentiles};
use crate::table::Figure;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Instant;
use virt_api::domain::v1alpha1::domain_service_client::DomainServiceClient;
use virt_api::domain::v1alpha1::{DefineRequest, DomainRef, GetRequest, UndefineRequest};
use virt_api::host::v1alpha1::Empty;
use virt_api::host::v1alpha1::host_service_client::HostServiceClient;
use virt_rpc::client;
use virt_rpc::client::Daemon;

/// The hypervisor's version: a call that the daemon answers at once.
pub async fn rpc(dir: &Path, daemon: &str, calls: usize) -> Result<Vec<Figure>> {
    let daemon = Daemon::new(dir, daemon);
    let mut host = client!(HostServiceClient, daemon);
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        host.get_version(Empty {}).await?;
        times.push(start.elapsed());
    }
    Ok(percentiles(times))
}

/// A guest by name.
pub async fn lookup(dir: &Path, daemon: &str, calls: usize) -> Result<Vec<Figure>> {
    let daemon = Daemon::new(dir, daemon);
    let mut domains = client!(DomainServiceClient, daemon);
    let defined = domains.define(DefineRequest { xml: guest_xml(0), flags: 0 }).await?.into_inner();
    let full = defined.domain.context("an answer without the domain")?;
    let by_name = DomainRef { name: full.name.clone(), ..DomainRef::default() };
    let result = async {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            domains.get(GetRequest { domain: Some(by_name.clone()) }).await?;
            times.push(start.elapsed());
        }
        Ok(percentiles(times))
    }
    .await;
    domains.undefine(UndefineRequest { domain: Some(full), flags: 0 }).await?;
    result
}
