//! Changes of a running guest's network card: its cable, its limits, its filter, and the network or bridge at the other end.

use serde_json::json;
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::interface::{FilterRef, Interface, LinkState, NetSource};
use virt_object::blocking;

use super::{ask, limits};
use crate::config::devices::{self, Device};
use crate::guest::Work;
use crate::net::{self, Holding, connect, replug};

/// Changes a card of a running guest: the state of its cable, its limits and filter, the network or bridge it is in.
///
/// # Errors
/// Code 99 when there is no such card, code 3 for other changes; those of the new network.
pub async fn update(work: &mut Work, mut wanted: Interface) -> Result<()> {
    wanted.forget_run();
    let mut live = work.run()?.live.clone();
    let at = devices::find_interface(&live.devices, &wanted)?;
    let old = live.devices.interfaces[at].clone();
    let link = wanted.link;
    let source = wanted.source.clone();
    let (bandwidth, filterref) = (wanted.bandwidth.clone(), wanted.filterref.clone());
    devices::update(&mut live, Device::Interface(Box::new(wanted)))?;
    // What a document leaves out, or cannot know of a running guest, stays.
    let mut same = live.devices.interfaces[at].clone();
    same.link = old.link;
    same.bandwidth.clone_from(&old.bandwidth);
    same.filterref.clone_from(&old.filterref);
    same.info.clone_from(&old.info);
    same.source.clone_from(&old.source);
    same.target.clone_from(&old.target);
    same.actual.clone_from(&old.actual);
    same.model = same.model.or_else(|| old.model.clone());
    if same != old {
        return Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags"));
    }
    if is_elsewhere(&old, &source) {
        r#move(work, at, source).await?;
    }
    if bandwidth != old.bandwidth {
        limits::apply(work, at, bandwidth).await?;
    }
    if filterref != old.filterref {
        filter(work, at, filterref).await?;
    }
    let down = |state: Option<LinkState>| state == Some(LinkState::Down);
    if down(link) != down(old.link) {
        let alias = old.info.alias.clone().unwrap_or_default();
        ask(work, "set_link", json!({"name": alias, "up": !down(link)})).await?;
    }
    let run = work.run()?;
    run.live.devices.interfaces[at].link = link;
    work.publish_live()
}

/// Puts another filter on the card, or takes it off.
async fn filter(work: &mut Work, at: usize, wanted: Option<FilterRef>) -> Result<()> {
    let owner = connect::owner(&work.run()?.live);
    let old = work.run()?.live.devices.interfaces[at].clone();
    let mut new = old.clone();
    new.filterref = wanted;
    net::filter::exchange(&old, &new, &owner, &work.driver.networks).await?;
    let run = work.run()?;
    run.live.devices.interfaces[at] = new;
    run.held.cards = Holding::all(&run.live.devices.interfaces);
    work.publish_live()
}

/// Whether the document names another network, portgroup or bridge.
fn is_elsewhere(old: &Interface, wanted: &NetSource) -> bool {
    match (&old.source, wanted) {
        (NetSource::Network(old), NetSource::Network(new)) => {
            (&old.network, &old.portgroup) != (&new.network, &new.portgroup)
        }
        (NetSource::Bridge(old), NetSource::Bridge(new)) => old.bridge != new.bridge,
        // A document may leave the source of a card out when it changes something else.
        (_, NetSource::User(user)) => user.dev.is_some(),
        (old, new) => old.tag() != new.tag() || old != new,
    }
}

/// Plugs the card's tap into another bridge; the guest notices nothing but the traffic.
async fn r#move(work: &mut Work, at: usize, source: NetSource) -> Result<()> {
    let old = work.run()?.live.devices.interfaces[at].clone();
    let mut card = old.clone();
    card.source = source;
    card.actual = None;
    if let NetSource::Network(network) = &mut card.source {
        network.port_id = Some(uuid::Uuid::new_v4());
    }
    let (driver, owner) = (work.driver.clone(), connect::owner(&work.run()?.live));
    if matches!(card.source, NetSource::Network(_)) {
        card.actual = Some(driver.networks.take(&card, &owner).await?);
    }
    let taken = Holding::of(&card).and_then(Holding::only_port);
    let (from, to) = (old.connection(), card.connection());
    let plugged = match (replug::bridge_of(&from), replug::bridge_of(&to)) {
        (Some(_), Some(_)) => {
            let card = card.clone();
            blocking::run(move || replug::plug(&card)).await
        }
        _ => Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags")),
    };
    if let Err(error) = plugged {
        if let Some(taken) = taken {
            taken.release(&driver.networks).await;
        }
        return Err(error);
    }
    let run = work.run()?;
    run.live.devices.interfaces[at] = card;
    run.held.cards = Holding::all(&run.live.devices.interfaces);
    work.publish_live()?;
    if let Some(given) = Holding::of(&old).and_then(Holding::only_port) {
        given.release(&driver.networks).await;
    }
    replug::follow(&driver);
    Ok(())
}
