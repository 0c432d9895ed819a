//! Looks after what running networks need: a server that ended is started again, rules that somebody flushed are put
//! back. Checking costs a few reads of /proc and one question to the kernel, so it is done by the clock: nothing tells
//! of all the ways in which such things go.

use std::sync::Arc;
use std::time::Duration;

use virt_error::{Domain, Error, Result};
use virt_host::{link, netfilter};
use virt_object::blocking;
use virt_object::owner::{Class, Spec};

use crate::dnsmasq::{conf, process};
use crate::driver::Driver;
use crate::firewall::{self, Family, TABLE};
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
    rules(driver).await?;
    for network in driver.networks.list().iter() {
        let published = network.published();
        let Some(live) = published.value.live.clone() else { continue };
        let files = driver.files(live.name());
        let ended = move || Ok(conf::needed(&live) && process::running(&files).is_none());
        if blocking::run(ended).await? {
            network.work(Spec::new("repair", Class::Modify), |work| Box::pin(server(work))).await?;
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

async fn rules(driver: &Arc<Driver>) -> Result<()> {
    let mut wanted = [false; 2];
    for network in driver.networks.list().iter() {
        if let Some(live) = &network.published().value.live {
            for rule in firewall::rules(live) {
                wanted[usize::from(rule.family == Family::V6)] = true;
            }
        }
    }
    let missing = move || {
        let gone = |family| {
            netfilter::has_table(family, TABLE)
                .map(|there| !there)
                .map_err(|e| Error::system(Domain::Firewall, "cannot look for rules", e))
        };
        Ok(wanted[0] && gone(netfilter::Family::Ip)? || wanted[1] && gone(netfilter::Family::Ip6)?)
    };
    if blocking::run(missing).await? {
        tracing::warn!("the rules of networks were removed; they are put back");
        driver.sync_firewall(None, None).await?;
    }
    Ok(())
}
