//! The size of a running guest's disk.

use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::disk::Disk;

use super::{ask, invalid};
use crate::guest::Work;
use crate::stats::block;

/// Changes what the guest sees of the disk `device` (target name or source) to `bytes`.
///
/// # Errors
/// Code 8 for a disk that is not there, code 55 for an empty or read-only one, code 1 with QEMU's text.
pub async fn resize(work: &mut Work, device: &str, bytes: u64) -> Result<()> {
    let disk = block::find(&work.run()?.live.devices.disks, device);
    let disk = disk.ok_or_else(|| invalid(format!("disk '{device}' was not found in the domain config")))?;
    let refused = |what: &str| {
        let text = format!("disk '{device}' {what}");
        Error::new(Code::OperationInvalid, From::Qemu, text)
    };
    if disk.source.is_empty() {
        return Err(refused("is empty"));
    }
    if disk.readonly {
        return Err(refused("is read-only"));
    }
    let blocks = ask(work, "query-block", Value::Null).await?;
    let node = node(&blocks, &disk).ok_or_else(|| refused("has no image in the emulator"))?;
    ask(work, "block_resize", json!({"node-name": node, "size": bytes})).await?;
    Ok(())
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
