//! Plugging disks and network cards into a running guest, and out of it; media of removable drives.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_model::domain::disk::{Disk, DiskDevice};
use virt_object::blocking;
use virt_object::undo::Undo;

use super::{ask, cards, line, link};
use crate::config::devices::{self, Device};
use crate::document::{self, alias, nodes};
use crate::emulator::Emulators;
use crate::guest::Work;
use crate::guest::plan::disk_files;
use crate::net::{Holding, replug};

/// How long a guest may take to let a device go, as in the reference.
const UNPLUG: Duration = Duration::from_secs(5);

/// Plugs a device in.
///
/// # Errors
/// As [`devices::attach`] and completion; code 3 for kinds that cannot be plugged yet; code 1 with QEMU's text.
pub async fn attach(work: &mut Work, emulators: Arc<Emulators>, xml: &str) -> Result<()> {
    let mut device = devices::read(xml, Mode::LIVE)?;
    if !matches!(device, Device::Disk(_) | Device::Interface(_)) {
        return Err(Error::no_support(From::Qemu, "virDomainAttachDeviceFlags"));
    }
    match &mut device {
        Device::Disk(disk) => {
            work.driver.volumes.resolve_disk(disk).await?;
            line::check_image(work, disk).await?;
        }
        Device::Interface(card) => card.forget_run(),
        _ => {}
    }
    let before = work.run()?.live.clone();
    let mut new = before.clone();
    devices::attach(&mut new, device)?;
    let new = blocking::run(move || {
        document::complete(&mut new, &emulators)?;
        Ok(new)
    })
    .await?;
    if new.devices.controllers.len() != before.devices.controllers.len() {
        // It would need a bus that the guest does not have.
        return Err(Error::no_support(From::Qemu, "virDomainAttachDeviceFlags"));
    }
    // Completion is for the new device only: what runs already stays as it is.
    let mut new = graft(&before, new);
    let files = name_new(&mut new, &before);
    let mut undo = Undo::new("plugging a device in");
    let plugged = plug(work, &before, &mut new, &files, &mut undo).await;
    undo.guard(plugged).await?;
    let run = work.run()?;
    run.held.cards = Holding::all(&new.devices.interfaces);
    run.live = new;
    work.publish_live()?;
    if work.run()?.held.cards.iter().any(|c| c.port().is_some()) {
        replug::follow(&work.driver);
    }
    Ok(())
}

async fn plug(
    work: &mut Work,
    before: &Domain,
    new: &mut Domain,
    files: &[String],
    undo: &mut Undo,
) -> Result<()> {
    let card = new.devices.interfaces.iter().position(|c| !has(before, c.info.alias.as_deref()));
    let fresh = match card {
        Some(at) => cards::connect(work, new, at, undo).await?,
        None => None,
    };
    let names = fresh.as_ref().map(|f| (f.alias.clone(), f.names()));
    let difference = line::difference(work, new, names).await?;
    if !difference.removed.is_empty() {
        let text = "the change reaches devices that the guest has";
        return Err(Error::fault(From::Qemu, text).with("removed", format!("{:?}", difference.removed)));
    }
    line::lend(work, files).await?;
    let added = match fresh {
        Some(fresh) => cards::add(work, fresh, &difference.added).await,
        None => line::add(work, &difference.added).await,
    };
    if added.is_err() {
        line::take_back(work, files);
    }
    added
}

fn has(domain: &Domain, alias: Option<&str>) -> bool {
    domain.devices.interfaces.iter().any(|c| c.info.alias.as_deref() == alias)
}

/// The running document with the devices of another that have no name yet, each in its place.
fn graft(before: &Domain, completed: Domain) -> Domain {
    let mut new = before.clone();
    for (at, disk) in completed.devices.disks.into_iter().enumerate().filter(|(_, d)| d.info.alias.is_none())
    {
        new.devices.disks.insert(at.min(new.devices.disks.len()), disk);
    }
    let cards = completed.devices.interfaces.into_iter().filter(|i| i.info.alias.is_none());
    new.devices.interfaces.extend(cards);
    new
}

/// Gives new devices names, and new images numbers, that no other has. Returns the images' files.
fn name_new(new: &mut Domain, before: &Domain) -> Vec<String> {
    let mut files = Vec::new();
    let next_image = nodes::next_index(before);
    for disk in new.devices.disks.iter_mut().filter(|d| d.info.alias.is_none()) {
        disk.info.alias = Some(alias::disk_alias(disk, &[]));
        if !disk.source.is_empty() {
            disk.source.common_mut().index = Some(next_image);
            files.extend(owned(disk_files(disk)));
        }
    }
    let number = |alias: &Option<String>| alias.as_deref()?.strip_prefix("net")?.parse::<u32>().ok();
    let next_card =
        before.devices.interfaces.iter().filter_map(|i| number(&i.info.alias)).max().map_or(0, |n| n + 1);
    for card in new.devices.interfaces.iter_mut().filter(|i| i.info.alias.is_none()) {
        card.info.alias = Some(format!("net{next_card}"));
    }
    files
}

/// Asks the guest to let a device go and waits a while for it.
///
/// # Errors
/// As [`devices::detach`]; code 3 for kinds that cannot be unplugged yet; code 9 when the guest keeps it.
pub async fn detach(work: &mut Work, xml: &str) -> Result<()> {
    let device = devices::read(xml, Mode::LIVE)?;
    if !matches!(device, Device::Disk(_) | Device::Interface(_)) {
        return Err(Error::no_support(From::Qemu, "virDomainDetachDeviceFlags"));
    }
    let mut new = work.run()?.live.clone();
    devices::detach(&mut new, &device)?;
    let difference = line::difference(work, &new, None).await?;
    if !difference.added.is_empty() {
        let text = "the change reaches devices that stay";
        return Err(Error::fault(From::Qemu, text).with("added", format!("{:?}", difference.added)));
    }
    let (plugs, behind): (Vec<_>, Vec<_>) = difference.removed.into_iter().partition(|p| p.flag == "-device");
    for plug in &plugs {
        ask(work, "device_del", json!({"id": plug.value["id"]})).await?;
        let id = plug.value["id"].as_str().unwrap_or_default();
        wait_gone(work, id).await?;
    }
    line::remove(work, &behind).await;
    let stays = |d: &Disk| new.devices.disks.iter().any(|n| n.info.alias == d.info.alias);
    let gone = work.run()?.live.devices.disks.iter().filter(|d| !stays(d));
    let freed: Vec<String> = gone.flat_map(disk_files).map(str::to_string).collect();
    line::take_back(work, &freed);
    let run = work.run()?;
    let gone = std::mem::replace(&mut run.held.cards, Holding::all(&new.devices.interfaces));
    let gone: Vec<_> = gone.into_iter().filter(|c| !run.held.cards.contains(c)).collect();
    run.live = new;
    work.publish_live()?;
    for card in gone {
        card.release(&work.driver.networks).await;
    }
    Ok(())
}

/// Waits until the guest has let a device go.
pub(super) async fn wait_gone(work: &Work, id: &str) -> Result<()> {
    let end = tokio::time::Instant::now() + UNPLUG;
    loop {
        let list = ask(work, "qom-list", json!({"path": "/machine/peripheral"})).await?;
        if !list.as_array().is_some_and(|l| l.iter().any(|e| e["name"] == id)) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            let text = "Unable to detach the device from the guest: the guest did not release it in time";
            return Err(Error::new(Code::OperationFailed, From::Qemu, text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Changes a device: the cable of a card, the medium of a drive.
///
/// # Errors
/// Code 8 or 99 when there is no such device; code 3 for other kinds and changes.
pub async fn update(work: &mut Work, xml: &str) -> Result<()> {
    match devices::read(xml, Mode::LIVE)? {
        Device::Interface(card) => Box::pin(link::update(work, *card)).await,
        Device::Disk(disk) => Box::pin(change_medium(work, *disk)).await,
        _ => Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags")),
    }
}

async fn change_medium(work: &mut Work, mut wanted: Disk) -> Result<()> {
    let mut new = work.run()?.live.clone();
    let dev = wanted.target.dev.clone().unwrap_or_default();
    let next = nodes::next_index(&new);
    let disk =
        new.devices.disks.iter_mut().find(|d| d.target.dev.as_deref() == Some(&dev)).ok_or_else(|| {
            Error::new(Code::InvalidArg, From::Qemu, format!("target {dev} doesn't exist."))
        })?;
    if !matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
        return Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags"));
    }
    let (had, old_files) = (!disk.source.is_empty(), owned(disk_files(disk)));
    if wanted.source.is_empty() {
        wanted.driver.format = None;
        wanted.backing = None;
    } else {
        let format = wanted.driver.format.or(disk.driver.format);
        wanted.driver.format = format.or(Some(virt_model::domain::source::ImageFormat::Raw));
        line::check_image(work, &mut wanted).await?;
        wanted.source.common_mut().index = Some(next);
    }
    disk.source = wanted.source;
    disk.driver.format = wanted.driver.format;
    disk.backing = wanted.backing;
    let (has, files) = (!disk.source.is_empty(), owned(disk_files(disk)));
    let alias = disk.info.alias.clone().unwrap_or_default();
    let difference = line::difference(work, &new, None).await?;
    let images =
        |parts: &[line::Part]| parts.iter().filter(|p| p.flag == "-blockdev").cloned().collect::<Vec<_>>();
    let (added, removed) = (images(&difference.added), images(&difference.removed));
    ask(work, "blockdev-open-tray", json!({"id": alias, "force": false})).await?;
    if had {
        ask(work, "blockdev-remove-medium", json!({ "id": alias })).await?;
        line::remove(work, &removed).await;
    }
    line::take_back(work, &old_files);
    if has {
        line::lend(work, &files).await?;
        line::add(work, &added).await?;
        let drive = difference
            .added
            .iter()
            .find(|p| p.value["id"] == alias.as_str())
            .map(|p| p.value["drive"].clone());
        ask(work, "blockdev-insert-medium", json!({"id": alias, "node-name": drive})).await?;
        ask(work, "blockdev-close-tray", json!({ "id": alias })).await?;
    }
    work.run()?.live = new;
    work.publish_live()
}

fn owned(paths: Vec<&str>) -> Vec<String> {
    paths.into_iter().map(str::to_string).collect()
}
