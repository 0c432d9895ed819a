//! Networks come and go under running guests: a network that starts again gets its guests' cards back.
//!
//! ```text
//!   guest takes a port --> follow: Watch of virtnetworkd --ready--> every guest's cards are looked after
//!                                    |  ^                 --started--> those of one network
//!                                    v  | stream ended, guests still hold ports
//!                                   pause
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use virt_api::network::v1alpha1::WatchRequest;
use virt_api::network::v1alpha1::network_service_client::NetworkServiceClient;
use virt_api::network::v1alpha1::watch_response::Event;
use virt_consts::VIR_NETWORK_EVENT_STARTED;
use virt_error::{Code, Result};
use virt_host::link;
use virt_model::domain::interface::{Interface, NetSource};
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_rpc::{client, from_status};

use super::connect::owner;
use super::{Holding, tap};
use crate::driver::Driver;
use crate::guest::Work;

/// Between two tries to reach virtnetworkd.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks after the ports of running guests until none has any. Called again and again, it follows once.
pub fn follow(driver: &Arc<Driver>) {
    if !driver.following.swap(true, Ordering::AcqRel) {
        let this = driver.clone();
        driver.kind.runtime.spawn(async move { keep_following(this).await });
    }
}

async fn keep_following(driver: Arc<Driver>) {
    loop {
        if let Err(error) = watch(&driver).await {
            tracing::debug!(%error, "events of networks");
        }
        if !any_ports(&driver) {
            driver.following.store(false, Ordering::Release);
            // One may have been taken since the look.
            if !any_ports(&driver) || driver.following.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn any_ports(driver: &Driver) -> bool {
    driver.guests.list().iter().any(|guest| {
        let published = guest.published();
        let live = published.value.live.as_ref();
        live.is_some_and(|l| l.devices.interfaces.iter().any(|card| network_of(card).is_some()))
    })
}

fn network_of(card: &Interface) -> Option<&str> {
    match &card.source {
        NetSource::Network(n) if n.port_id.is_some() => n.network.as_deref(),
        _ => None,
    }
}

async fn watch(driver: &Arc<Driver>) -> Result<()> {
    let mut client = client!(NetworkServiceClient, driver.networks.daemon());
    let stream = client.watch(WatchRequest::default()).await.map_err(|s| from_status(&s))?;
    let mut stream = stream.into_inner();
    while let Some(told) = stream.message().await.map_err(|s| from_status(&s))? {
        match told.event {
            Some(Event::Ready(_)) => guests(driver, None).await,
            Some(Event::Lifecycle(e)) if e.event == VIR_NETWORK_EVENT_STARTED => {
                guests(driver, told.network.map(|n| n.name)).await;
            }
            _ => {}
        }
        if !any_ports(driver) {
            break;
        }
    }
    Ok(())
}

/// Looks after all guests with cards in a network, or in any.
async fn guests(driver: &Arc<Driver>, network: Option<String>) {
    for guest in driver.guests.list().iter() {
        let wanted = network.clone();
        let job = guest.work(Spec::new("network", Class::Modify), move |work| {
            Box::pin(async move { cards(work, wanted.as_deref()).await })
        });
        if let Err(error) = job.await {
            tracing::warn!(%error, guest = %guest.uuid(), "a guest's network cards");
        }
    }
}

async fn cards(work: &mut Work, network: Option<&str>) -> Result<()> {
    let Some(run) = &work.run else { return Ok(()) };
    let mut live = run.live.clone();
    let owner = owner(&live);
    let driver = work.driver.clone();
    let mut changed = false;
    for card in &mut live.devices.interfaces {
        let Some(own) = network_of(card).filter(|own| network.is_none_or(|n| n == *own)).map(str::to_string)
        else {
            continue;
        };
        match look_after(&driver, card, &owner, &own).await {
            Ok(now) => changed |= now,
            // It is not active: its start will be told.
            Err(e) if matches!(e.code(), Code::OperationInvalid | Code::NoNetwork) => {}
            Err(error) => tracing::warn!(%error, network = own, "a network card stays unplugged"),
        }
    }
    if changed && let Some(run) = &mut work.run {
        run.held.cards = Holding::all(&live.devices.interfaces);
        run.live = live;
        work.publish_live()?;
    }
    Ok(())
}

/// Makes the card's port known again if it is not, and plugs its tap in if it is not. True: the document changed.
async fn look_after(
    driver: &Driver,
    card: &mut Interface,
    owner: &virt_model::network::port::PortOwner,
    network: &str,
) -> Result<bool> {
    let NetSource::Network(source) = &card.source else { return Ok(false) };
    let Some(port) = source.port_id else { return Ok(false) };
    let mut changed = false;
    if !driver.networks.knows(network, port).await? {
        if matches!(card.connection(), NetSource::Direct(_)) {
            driver.networks.reclaim(card, owner).await?;
        } else {
            // The network may have another bridge by now.
            let actual = driver.networks.take(card, owner).await?;
            changed = card.actual.as_ref() != Some(&actual);
            card.actual = Some(actual);
        }
    }
    let card = card.clone();
    blocking::run(move || plug_again(&card)).await?;
    Ok(changed)
}

/// The bridge of a connection, and whether it is told where guests are.
pub fn bridge_of(connection: &NetSource) -> Option<(&str, bool)> {
    let (bridge, manager) = match connection {
        NetSource::Network(n) => (&n.bridge, &n.mac_table_manager),
        NetSource::Bridge(b) => (&b.bridge, &b.mac_table_manager),
        _ => return None,
    };
    Some((bridge.as_deref()?, manager.as_deref() == Some("libvirt")))
}

/// Plugs a card's tap into the bridge of its connection. Blocking.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn plug(card: &Interface) -> Result<()> {
    match bridge_of(&card.connection()) {
        Some((bridge, told)) => tap::plug(card, bridge, told),
        None => Ok(()),
    }
}

fn plug_again(card: &Interface) -> Result<()> {
    let connection = card.connection();
    let (Some((bridge, _)), Some(name)) = (bridge_of(&connection), card.target.as_deref()) else {
        return Ok(());
    };
    let (tap, bridge_link) = (link::get(name)?, link::get(bridge)?);
    let (Some(tap), Some(bridge_link)) = (tap, bridge_link) else { return Ok(()) };
    if tap.master != Some(bridge_link.index) {
        tracing::info!(bridge, tap = name, "a network card is plugged in again");
        plug(card)?;
        link::set_up(name, true)?;
    }
    Ok(())
}
