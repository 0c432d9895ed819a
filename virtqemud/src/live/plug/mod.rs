//! Plugging devices into a running guest, and out of it; media of removable drives.
//!
//! ```text
//!   attach: checked -> completed -> in the status file -> in QEMU -> published -> event
//!   detach: found -> QEMU asks the guest -> gone: what stood behind it is removed -> published
//!                                        `> kept: the answer is OK, and the device's end is awaited as an event
//! ```
//!
//! The status file names a device before QEMU has it and until QEMU has lost it, so that a daemon that died on the way
//! leaves nothing: its successor removes what stands behind devices that QEMU does not have ([`settle`]).

pub(super) mod chardev;
mod find;
mod graft;
mod media;
mod unplug;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use virt_api::domain::v1alpha1::DeviceEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_error::{Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_model::domain::address::Address;
use virt_model::domain::info::DeviceInfo;
use virt_object::blocking;
use virt_object::undo::Undo;

use super::{ask, cards, line, link};
use crate::config::devices::{self, Device};
use crate::display;
use crate::document;
use crate::emulator::Emulators;
use crate::guest::Work;
use crate::guest::plan::files;
use crate::net::{Holding, replug};
use crate::process::{sockets, stage};
use crate::qmp::commands::QueryChardev;

pub(super) use unplug::wait_gone;
pub use unplug::{detach, detach_alias, gone, settle};

/// Plugs a device in.
///
/// # Errors
/// As [`devices::attach`] and completion; code 84 for kinds that cannot be plugged; code 3 for those that cannot yet; code
/// 1 with QEMU's text. Nothing is left of the attempt.
pub async fn attach(work: &mut Work, emulators: Arc<Emulators>, xml: &str) -> Result<()> {
    let mut device = devices::read(xml, Mode::LIVE)?;
    find::may_attach(&work.run()?.live, &device)?;
    // Only names of the user's own stay.
    if let Some(info) = device.info_mut() {
        info.alias = info.alias.take().filter(|a| a.starts_with("ua-"));
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
    let (mut completed, like) = (before.clone(), device.clone());
    devices::attach_unchecked(&mut completed, device)?;
    let completed = blocking::run(move || {
        document::complete(&mut completed, &emulators)?;
        Ok(completed)
    })
    .await?;
    // Completion is for the new device only: what runs already stays as it is.
    let mut new = graft::graft(&before, completed, &like)?;
    if new == before {
        return Err(Error::fault(From::Qemu, "a device got lost on its way"));
    }
    graft::name_new(&mut new, &before);
    let channels = work.run()?.held.paths.channels.display().to_string();
    document::live::channel_paths(&mut new, &channels);
    let mut undo = Undo::new("plugging a device in");
    let plugged = plug(work, &before, &mut new, &mut undo).await;
    if plugged.is_err() {
        // The file says again what runs.
        work.note_status();
    }
    undo.guard(plugged).await?;
    publish(work, new).await?;
    let had = |alias: &str| devices::infos(&before.devices).any(|i| i.alias.as_deref() == Some(alias));
    let live = work.run()?.live.clone();
    let asked =
        |alias: &&str| !had(alias) && (matches!(like, Device::Controller(_)) || !is_controller(&live, alias));
    if let Some(alias) = devices::infos(&live.devices).filter_map(|i| i.alias.as_deref()).find(asked) {
        work.emit(Event::DeviceAdded(DeviceEvent { alias: alias.into() }));
    }
    Ok(())
}

fn is_controller(live: &Domain, alias: &str) -> bool {
    live.devices.controllers.iter().any(|c| c.info.alias.as_deref() == Some(alias))
}

/// Everything up to a device that QEMU has.
async fn plug(work: &mut Work, before: &Domain, new: &mut Domain, undo: &mut Undo) -> Result<()> {
    let known = |alias: &Option<String>| before.devices.interfaces.iter().any(|c| c.info.alias == *alias);
    let card = new.devices.interfaces.iter().position(|c| !known(&c.info.alias));
    let fresh = match card {
        Some(at) => cards::connect(work, new, at, undo).await?,
        None => None,
    };
    let names = fresh.as_ref().map(|f| (f.alias.clone(), f.names()));
    let mut difference = line::difference(work, new, names).await?.without_kept();
    for part in &mut difference.added {
        // A place in the boot order that the document does not name is given at a start only.
        let is = |i: &DeviceInfo| i.alias.is_some() && i.alias.as_deref() == part.value["id"].as_str();
        let ordered = devices::infos(&new.devices).any(|i| is(i) && i.boot.is_some());
        if let (Some(object), false) = (part.value.as_object_mut(), ordered) {
            object.remove("bootindex");
        }
    }
    let reached = difference.removed.iter().find(|p| p.flag != "-watchdog-action");
    if let Some(part) = reached {
        let text = "the change reaches devices that the guest has";
        return Err(Error::fault(From::Qemu, text).with("removed", &part.text));
    }
    work.note_planned(new)?;
    let (listening, paths) = listen(work, before, new, undo).await?;
    make_files(before, new).await?;
    let lent = more(&strings(files(new)), &strings(files(before)));
    line::lend(work, &lent).await?;
    let added = match fresh {
        Some(fresh) => cards::add(work, fresh, &difference.added).await,
        None => line::add(work, &difference.added, listening).await,
    };
    match &added {
        Ok(()) => work.run()?.held.sockets.extend(paths),
        Err(_) => line::take_back(work, &lent),
    }
    added
}

/// Sockets that the new device's host side listens on: by path, and those paths for the guest's end.
async fn listen(
    work: &mut Work,
    before: &Domain,
    new: &Domain,
    undo: &mut Undo,
) -> Result<(HashMap<String, OwnedFd>, Vec<PathBuf>)> {
    let had = sockets::paths(before);
    let mut paths = sockets::paths(new);
    paths.retain(|p| !had.contains(p));
    if paths.is_empty() {
        return Ok((HashMap::new(), paths));
    }
    let owner = work.who()?.owner();
    let (mut made, wanted) = (HashMap::new(), paths.clone());
    for path in wanted {
        let at = path.clone();
        let socket = blocking::run(move || sockets::listen(&at, owner)).await?;
        made.insert(path.display().to_string(), socket);
        undo.add("socket of a port", move || {
            sockets::remove(&[path]);
            Ok(())
        });
    }
    Ok((made, paths))
}

/// Files that the new device's host side writes to.
async fn make_files(before: &Domain, new: &Domain) -> Result<()> {
    let had: Vec<_> = crate::guest::plan::output_files(before).cloned().collect();
    let fresh: Vec<_> = crate::guest::plan::output_files(new).filter(|b| !had.contains(b)).cloned().collect();
    if fresh.is_empty() {
        return Ok(());
    }
    blocking::run(move || fresh.iter().try_for_each(stage::make_output_file)).await
}

/// The document is what runs now: what only QEMU knows of it is asked, and all is told.
async fn publish(work: &mut Work, mut new: Domain) -> Result<()> {
    let monitor = work.monitor()?;
    match monitor.run(&QueryChardev {}).await {
        Ok(ports) => crate::guest::start::fill_ports(&mut new, &ports),
        Err(error) => tracing::warn!(%error, "the ports of a guest with a new device are not known"),
    }
    learn_memory(work, &mut new).await;
    let run = work.run()?;
    run.held.cards = Holding::all(&new.devices.interfaces);
    run.live = new;
    work.publish_live()?;
    if work.run()?.held.cards.iter().any(|c| c.port().is_some()) {
        replug::follow(&work.driver);
    }
    Ok(())
}

/// Where memory devices came to lie, and how much of a virtio-mem the guest has.
async fn learn_memory(work: &Work, live: &mut Domain) {
    if live.devices.memories.is_empty() {
        return;
    }
    let told = match ask(work, "query-memory-devices", Value::Null).await {
        Ok(told) => told,
        Err(error) => return tracing::warn!(%error, "the places of memory devices are not known"),
    };
    for row in told.as_array().into_iter().flatten() {
        let data = &row["data"];
        let is = |alias: &Option<String>| alias.is_some() && alias.as_deref() == data["id"].as_str();
        let Some(memory) = live.devices.memories.iter_mut().find(|m| is(&m.info.alias)) else { continue };
        match &mut memory.info.address {
            Some(Address::Dimm(place)) => place.base = data["addr"].as_u64(),
            _ => memory.target.base = data["memaddr"].as_u64(),
        }
        if let Some(bytes) = data["size"].as_u64().filter(|_| row["type"] == "virtio-mem") {
            memory.target.current = Some(virt_model::Size::from_kib(bytes / 1024));
        }
    }
}

/// Changes a device: the cable of a card, the medium of a drive, the password of a console.
///
/// # Errors
/// Code 1, 8 or 99 when there is no such device; code 67 for kinds that stay as they are; code 3 for other changes.
pub async fn update(work: &mut Work, xml: &str) -> Result<()> {
    match devices::read(xml, Mode::LIVE)? {
        Device::Interface(card) => Box::pin(link::update(work, *card)).await,
        Device::Disk(disk) => Box::pin(media::change(work, *disk)).await,
        Device::Graphics(graphics) => Box::pin(display::update::update(work, *graphics)).await,
        Device::Memory(_) => Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags")),
        device => {
            let text = format!("live update of device '{}' is not supported", device.kind());
            Err(document::unsupported(text))
        }
    }
}

/// What the first list has more than the second, each as often.
fn more(these: &[String], those: &[String]) -> Vec<String> {
    let mut rest = those.to_vec();
    let mut found = Vec::new();
    for one in these {
        match rest.iter().position(|r| r == one) {
            Some(at) => drop(rest.swap_remove(at)),
            None => found.push(one.clone()),
        }
    }
    found
}

fn strings(paths: Vec<PathBuf>) -> Vec<String> {
    paths.into_iter().map(|p| p.display().to_string()).collect()
}
