//! Looks after what running networks need: a server that ended is started again, rules that somebody flushed are put
//! back. Checking costs a few reads of /proc and one question to the kernel, so it is done by the clock: nothing tells
//! of all the ways in which such things go.

use std::sync::Arc;
use std::time::Duration;

use virt_error::Result;
use virt_host::link;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};

use crate::dnsmasq::{conf, process};
use crate::driver::Driver;
use crate::firewall::{foreign, forwards, zones};
use crate::network::{Work, WorkExt};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Looks for as long as the driver is there.
pub async fn keep(driver: Arc<Driver>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        if let Err(error) = look(&driver).await {
            tracing::warn!(?error, "looking after networks");
        }
    }
}

/// Looks once, and repairs.
///
/// # Errors
/// What a repair fails with; the next look tries again.
pub async fn look(driver: &Arc<Driver>) -> Result<()> {
    if driver.firewall.look().await? {
        zones::rejoin(driver).await;
        foreign::warn(driver).await;
    }
    for network in driver.networks.list().iter() {
        let published = network.published();
        let Some(live) = published.value.live.clone() else { continue };
        let files = driver.files(live.name());
        let ended = move || Ok(conf::needed(&live) && process::running(&files).is_none());
        if blocking::run(ended).await? {
            network.work(Spec::new("repair", Class::Modify), |work| Box::pin(server(work))).await?;
        }
        let ports = &published.value.ports;
        if let Some(live) = published.value.live.as_ref().filter(|l| !forwards::all(l, ports).is_empty())
            && !driver.firewall.has(network.uuid(), &driver.rules(live, ports).await?).await
        {
            network.work(Spec::new("repair", Class::Modify), |work| Box::pin(rules(work))).await?;
        }
    }
    Ok(())
}

/// Starts the network's server again, if it is still gone when the network's other jobs are done.
async fn server(work: &mut Work) -> Result<()> {
    let published = work.published();
    let Some(live) = published.value.live.clone() else { return Ok(()) };
    let bridge = live.bridge.name.clone().unwrap_or_default();
    let files = work.files();
    if process::running(&files).is_some() || !link::exists(&bridge) {
        return Ok(());
    }
    tracing::warn!(network = live.name(), "the DHCP and DNS server ended; it is started again");
    process::write(&files, &conf::texts(&live, &files, true)?)?;
    process::start(&files, &bridge, &work.driver.helper).await
}

/// Sets a network's rules again, when they are others than those in force by then: a guest it forwards to has moved.
async fn rules(work: &mut Work) -> Result<()> {
    let published = work.published();
    let Some(live) = &published.value.live else { return Ok(()) };
    work.driver.enforce(work.uuid, live, &published.value.ports).await
}
