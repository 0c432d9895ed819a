//! The size of a running guest's disk.

use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::disk::Disk;
use virt_model::domain::source::{DiskSource, ImageFormat};
use virt_object::blocking;

use super::{ask, invalid};
use crate::guest::Work;
use crate::stats::block;

/// Changes what the guest sees of the disk `device` (target name or source) to `bytes`, or with `capacity` to all of the
/// host's device under it.
///
/// # Errors
/// Code 8 for a disk that is not there; code 84 for an empty or read-only one, and for `capacity` of what is no host
/// device; code 1 with QEMU's text.
pub async fn resize(work: &mut Work, device: &str, bytes: u64, capacity: bool) -> Result<()> {
    let disk = block::find(&work.run()?.live.devices.disks, device);
    let disk = disk.ok_or_else(|| invalid(format!("disk '{device}' was not found in the domain config")))?;
    let unsupported = |text: String| Error::new(Code::OperationUnsupported, From::Qemu, text);
    if disk.source.is_empty() || disk.readonly {
        return Err(unsupported(format!("can't resize empty or readonly disk '{device}'")));
    }
    let bytes = if capacity { whole(&disk, bytes).await? } else { bytes };
    let blocks = ask(work, "query-block", Value::Null).await?;
    let node = node(&blocks, &disk).ok_or_else(|| {
        let text = format!("disk '{device}' has no image in the emulator");
        Error::new(Code::OperationInvalid, From::Qemu, text)
    })?;
    ask(work, "block_resize", json!({"node-name": node, "size": bytes})).await?;
    Ok(())
}

/// How large the host's device under a disk is now. A size that was named must be that one.
async fn whole(disk: &Disk, named: u64) -> Result<u64> {
    let raw = disk.driver.format.is_none_or(|f| f == ImageFormat::Raw);
    let DiskSource::Block(_) = &disk.source else { return Err(not_whole()) };
    let path = disk.source.path().filter(|_| raw).ok_or_else(not_whole)?.to_string();
    let disk = disk.clone();
    let capacity = blocking::run(move || Ok(block::sizes(&path, &disk, None)?.physical)).await?;
    if named != 0 && named != capacity {
        return Err(invalid(format!("Requested resize to '{named}' but device size is '{capacity}'")));
    }
    Ok(capacity)
}

fn not_whole() -> Error {
    let text = "block resize to full capacity supported only with 'raw' local block-based disks";
    Error::new(Code::OperationUnsupported, From::Qemu, text)
}

/// The image node under a disk's device.
fn node(blocks: &Value, disk: &Disk) -> Option<String> {
    let alias = disk.info.alias.as_deref()?;
    let is = |entry: &&Value| entry["qdev"].as_str().is_some_and(|q| q.split('/').any(|part| part == alias));
    let entry = blocks.as_array()?.iter().find(is)?;
    Some(entry["inserted"]["node-name"].as_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_that_of_the_disks_device() {
        let blocks = json!([
            {"qdev": "/machine/peripheral/virtio-disk10/virtio-backend", "inserted": {"node-name": "b"}},
            {"qdev": "/machine/peripheral/virtio-disk1/virtio-backend", "inserted": {"node-name": "a"}},
        ]);
        let mut disk = Disk::default();
        assert_eq!(node(&blocks, &disk), None);
        disk.info.alias = Some("virtio-disk1".into());
        assert_eq!(node(&blocks, &disk).as_deref(), Some("a"));
    }
}
