//! Taking devices out of a running guest. The guest decides when: QEMU asks it, and tells when the device is gone.

use std::time::Duration;

use serde_json::json;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_model::domain::address::Address;
use virt_model::domain::info::DeviceInfo;

use super::{ask, files, find, line, more, sockets, strings};
use crate::config::devices;
use crate::guest::Work;
use crate::net::Holding;

/// How long a call waits for the guest, as in the reference.
const UNPLUG: Duration = Duration::from_secs(5);

/// Asks the guest to let the device go that a document describes, and waits a while for it. A guest that keeps it may let
/// it go later: then an event tells.
///
/// # Errors
/// Code 99 or 55 for one that is not there, code 9 when several fit or it is in use, code 84 for kinds that stay, code 1
/// with QEMU's text.
pub async fn detach(work: &mut Work, xml: &str) -> Result<()> {
    let device = devices::read(xml, Mode::LIVE)?;
    let alias = find::by_document(&work.run()?.live, &device)?;
    take_out(work, &alias).await
}

/// The same for the device of this name. It does not wait for the guest.
///
/// # Errors
/// As [`detach`]; code 1 for one that is not there.
pub async fn detach_alias(work: &mut Work, alias: &str) -> Result<()> {
    find::may_detach(&work.run()?.live, alias)?;
    ask_for(work, alias).await?;
    // What needs no guest is gone at once.
    if is_gone(work, alias).await? { gone(work, alias).await } else { Ok(()) }
}

async fn take_out(work: &mut Work, alias: &str) -> Result<()> {
    ask_for(work, alias).await?;
    match wait_gone(work, alias).await {
        Ok(()) => gone(work, alias).await,
        Err(error) if error.code() == Code::OperationFailed => {
            tracing::info!(uuid = %work.uuid, alias, "the guest keeps a device that it was asked to let go");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn ask_for(work: &Work, alias: &str) -> Result<()> {
    match ask(work, "device_del", json!({ "id": alias })).await {
        // Asked before, and still waiting for the guest.
        Err(error) if error.message().contains("already in the process of unplug") => Ok(()),
        Err(error) if error.message().contains(&format!("Device '{alias}' not found")) => Ok(()),
        answer => answer.map(drop),
    }
}

async fn is_gone(work: &Work, id: &str) -> Result<bool> {
    let list = ask(work, "qom-list", json!({"path": "/machine/peripheral"})).await?;
    Ok(!list.as_array().is_some_and(|l| l.iter().any(|e| e["name"] == id)))
}

/// Waits until the guest has let a device go.
///
/// # Errors
/// Code 9 when it does not in time.
pub(in crate::live) async fn wait_gone(work: &Work, id: &str) -> Result<()> {
    let end = tokio::time::Instant::now() + UNPLUG;
    loop {
        if is_gone(work, id).await? {
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            let text = "Unable to detach the device from the guest: the guest did not release it in time";
            return Err(Error::new(Code::OperationFailed, From::Qemu, text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// QEMU no longer has the device: what stood behind it is removed, on the host too. Nothing to do where that was done.
///
/// # Errors
/// What the rest of the document's command line refuses; the device stays in the document then.
pub async fn gone(work: &mut Work, alias: &str) -> Result<()> {
    let before = work.run()?.live.clone();
    let mut new = before.clone();
    if !devices::infos(&before.devices).any(|i| i.alias.as_deref() == Some(alias)) {
        return Ok(());
    }
    devices::detach_alias(&mut new, alias)?;
    give_memory_back(&before, &mut new);
    let difference = Box::pin(line::difference(work, &new, None)).await?.without_kept();
    if let Some(part) = difference.added.iter().find(|p| p.flag != "-watchdog-action") {
        let text = "the change reaches devices that stay";
        return Err(Error::fault(From::Qemu, text).with("added", &part.text));
    }
    let behind: Vec<_> = difference
        .removed
        .into_iter()
        .filter(|p| p.flag != "-device" || p.value["id"].as_str() != Some(alias))
        .collect();
    line::remove(work, &behind).await;
    line::take_back(work, &more(&strings(files(&before)), &strings(files(&new))));
    let mut closed = sockets::paths(&before);
    let open = sockets::paths(&new);
    closed.retain(|p| !open.contains(p));
    sockets::remove(&closed);
    let run = work.run()?;
    run.held.sockets.retain(|p| !closed.contains(p));
    let held = std::mem::replace(&mut run.held.cards, Holding::all(&new.devices.interfaces));
    let released: Vec<_> = held.into_iter().filter(|c| !run.held.cards.contains(c)).collect();
    run.live = new;
    work.publish_live()?;
    for card in released {
        card.release(&work.driver.networks).await;
    }
    Ok(())
}

/// A memory module takes its size along.
fn give_memory_back(before: &Domain, new: &mut Domain) {
    let total = |d: &Domain| {
        d.devices.memories.iter().filter_map(|m| m.target.size).fold(0u64, |sum, s| sum.saturating_add(s.kib))
    };
    let less = total(before).saturating_sub(total(new));
    if let (Some(memory), true) = (&mut new.memory, less > 0) {
        memory.size.kib = memory.size.kib.saturating_sub(less);
        let most = memory.size.kib;
        if let Some(current) = &mut new.current_memory {
            current.kib = current.kib.min(most);
        }
    }
}

/// After a time without a daemon: devices that QEMU never got, or has lost since, leave the document with what stood
/// behind them.
///
/// # Errors
/// QEMU does not say what it has.
pub async fn settle(work: &mut Work) -> Result<()> {
    let wanted = pluggable(&work.run()?.live);
    if wanted.is_empty() {
        return Ok(());
    }
    let list = ask(work, "qom-list", json!({"path": "/machine/peripheral"})).await?;
    let Some(list) = list.as_array() else { return Ok(()) };
    for alias in wanted.into_iter().filter(|alias| !list.iter().any(|e| e["name"] == alias.as_str())) {
        tracing::info!(uuid = %work.uuid, alias, "a device is gone");
        if let Err(error) = gone(work, &alias).await {
            tracing::error!(?error, alias, "a device that is gone stays in the document");
        }
    }
    Ok(())
}

/// Names of the devices that always have a `-device` of their name: all that come and go.
fn pluggable(live: &Domain) -> Vec<String> {
    use virt_model::domain::disk::DiskBus;
    let d = &live.devices;
    let on_pci = |i: &&DeviceInfo| matches!(i.address, Some(Address::Pci(_)));
    let on_bus = |i: &&DeviceInfo| {
        matches!(
            i.address,
            Some(Address::Pci(_) | Address::Usb(_) | Address::VirtioSerial(_) | Address::Dimm(_))
        )
    };
    let disks = d
        .disks
        .iter()
        .filter(|d| matches!(d.target.bus, Some(DiskBus::Virtio | DiskBus::Scsi | DiskBus::Usb)));
    let scsi = |c: &&virt_model::domain::controller::Controller| {
        c.kind == virt_model::domain::controller::ControllerKind::Scsi
    };
    let named =
        disks.map(|x| &x.info).chain(d.controllers.iter().filter(scsi).map(|x| &x.info).filter(on_pci));
    let named = named.chain(d.interfaces.iter().map(|x| &x.info).filter(on_bus));
    let others = d.channels.iter().map(|x| &x.info).chain(d.rngs.iter().map(|x| &x.info));
    let others = others.chain(d.watchdogs.iter().map(|x| &x.info)).chain(d.inputs.iter().map(|x| &x.info));
    let others = others.chain(d.shmems.iter().map(|x| &x.info)).chain(d.memories.iter().map(|x| &x.info));
    let others = others.chain(d.redirdevs.iter().map(|x| &x.info)).filter(on_bus);
    named.chain(others).filter_map(|i| i.alias.clone()).collect()
}
