//! The medium of a removable drive of a running guest.
//!
//! The new image is opened before the tray is: a file that QEMU does not take leaves the old medium where it is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::disk::{Disk, DiskDevice};
use virt_model::domain::source::ImageFormat;

use super::{ask, line};
use crate::document::{self, nodes};
use crate::guest::Work;
use crate::guest::plan::disk_files;

/// Puts the medium that `wanted` names into the drive of its target, or takes the one out.
///
/// # Errors
/// Code 1 when there is no such drive or QEMU refuses, code 67 for a disk whose medium stays, code 38 for a file that
/// cannot be read. The old medium is in the drive then.
pub(super) async fn change(work: &mut Work, mut wanted: Disk) -> Result<()> {
    work.driver.volumes.resolve_disk(&mut wanted).await?;
    let mut new = work.run()?.live.clone();
    let dev = wanted.target.dev.clone().unwrap_or_default();
    let next = nodes::next_index(&new);
    let at = new.devices.disks.iter().position(|d| d.target.dev.as_deref() == Some(&dev));
    let at = at.ok_or_else(|| Error::internal(From::Qemu, format!("disk '{dev}' not found")))?;
    let disk = &mut new.devices.disks[at];
    if !matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
        if wanted.source.path() != disk.source.path() {
            return Err(document::unsupported("disk source can be changed only in removable drives"));
        }
        return Err(Error::no_support(From::Qemu, "virDomainUpdateDeviceFlags"));
    }
    let same = wanted.source.path().is_some() && wanted.source.path() == disk.source.path();
    if same && wanted.source.tag() == disk.source.tag() {
        return Ok(());
    }
    let old_files = owned(disk_files(disk));
    if wanted.source.is_empty() {
        wanted.driver.format = None;
        wanted.backing = None;
    } else {
        let format = wanted.driver.format.or(disk.driver.format);
        wanted.driver.format = format.or(Some(ImageFormat::Raw));
        line::check_image(work, &mut wanted).await?;
        wanted.source.common_mut().index = Some(next);
    }
    disk.source = wanted.source;
    disk.driver.format = wanted.driver.format;
    disk.backing = wanted.backing;
    let files = owned(disk_files(disk));
    let alias = disk.info.alias.clone().unwrap_or_default();
    let difference = line::difference(work, &new, None).await?;
    let images = |parts: &[line::Part]| -> Vec<line::Part> {
        parts.iter().filter(|p| p.flag == "-blockdev").cloned().collect()
    };
    let (added, removed) = (images(&difference.added), images(&difference.removed));
    let drive = |parts: &[line::Part]| -> Option<Value> {
        let device = parts.iter().find(|p| p.value["id"] == alias.as_str())?;
        Some(device.value["drive"].clone()).filter(Value::is_string)
    };
    let (node, old_node) = (drive(&difference.added), drive(&difference.removed));
    line::lend(work, &files).await?;
    let opened = Box::pin(line::add(work, &added, Default::default())).await;
    let exchanged = match opened {
        Ok(()) => {
            let exchanged = exchange(work, &alias, old_node, node).await;
            if exchanged.is_err() {
                line::remove(work, &added).await;
            }
            exchanged
        }
        failed => failed,
    };
    if let Err(error) = exchanged {
        line::take_back(work, &files);
        return Err(error);
    }
    line::remove(work, &removed).await;
    line::take_back(work, &old_files);
    work.run()?.live = new;
    work.publish_live()
}

/// How long a guest may hold its tray: it is asked to let go when it is to open.
const TRAY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the tray, takes the old medium out, puts the new one in, closes the tray. What fails is taken back.
async fn exchange(work: &Work, alias: &str, old: Option<Value>, new: Option<Value>) -> Result<()> {
    let empty = |work, alias| async move {
        ask(work, "blockdev-open-tray", json!({ "id": alias, "force": false })).await?;
        ask(work, "blockdev-remove-medium", json!({ "id": alias })).await
    };
    if old.is_some() {
        at_the_tray(work, alias, || empty(work, alias)).await?;
    }
    let Some(node) = new else {
        return close(work, alias).await;
    };
    let inserted = at_the_tray(work, alias, || insert(work, alias, &node)).await;
    if inserted.is_err()
        && let Some(old) = old
        && let Err(error) = at_the_tray(work, alias, || insert(work, alias, &old)).await
    {
        tracing::error!(%error, alias, "a medium cannot be put back");
    }
    inserted?;
    close(work, alias).await
}

async fn insert(work: &Work, alias: &str, node: &Value) -> Result<()> {
    ask(work, "blockdev-open-tray", json!({"id": alias, "force": false})).await?;
    ask(work, "blockdev-insert-medium", json!({"id": alias, "node-name": node})).await?;
    Ok(())
}

async fn close(work: &Work, alias: &str) -> Result<()> {
    ask(work, "blockdev-close-tray", json!({ "id": alias })).await.map(drop)
}

/// Does what needs an open tray, again when the guest holds it or has closed it meanwhile: firmware that looks for drives does.
async fn at_the_tray<T, F: Future<Output = Result<T>>>(
    work: &Work,
    alias: &str,
    act: impl Fn() -> F,
) -> Result<T> {
    let deadline = Instant::now() + TRAY;
    loop {
        let error = match act().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if Instant::now() >= deadline || tray_is_open(work, alias).await? {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Of a drive that QEMU does not name: yes.
async fn tray_is_open(work: &Work, alias: &str) -> Result<bool> {
    let drives = ask(work, "query-block", json!({})).await?;
    let mut drives = drives.as_array().into_iter().flatten();
    let of = |drive: &&Value| {
        let device = drive["qdev"].as_str().unwrap_or_default();
        device == alias || device.split('/').any(|part| part == alias)
    };
    Ok(drives.find(of).and_then(|drive| drive["tray_open"].as_bool()).unwrap_or(true))
}

fn owned(paths: Vec<&str>) -> Vec<String> {
    paths.into_iter().map(str::to_string).collect()
}
