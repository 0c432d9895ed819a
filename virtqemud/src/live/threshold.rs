//! Telling when a guest has written behind an offset of an image: QEMU watches the node that writes the file, once.

use serde_json::{Value, json};
use virt_api::domain::v1alpha1::BlockThresholdEvent;
use virt_api::domain::v1alpha1::watch_response::Event as Told;
use virt_error::{Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::{BackingStore, Disk};

use super::{ask, invalid};
use crate::guest::Work;
use crate::qmp::Event;

/// Watches an image: of the disk itself ("vda"), or the one with a number ("vda[3]").
///
/// # Errors
/// Code 8 for a disk or image that is not there; code 1 for an empty drive, and with QEMU's text.
pub async fn set(work: &mut Work, device: &str, threshold: u64) -> Result<()> {
    let run = work.run()?;
    let (target, number) = split(device);
    let disk = run.live.devices.disks.iter().find(|d| d.target.dev.as_deref() == Some(target));
    let disk = disk.ok_or_else(|| missing(device))?;
    let top = disk.source.common().index;
    let index = match number {
        Some(number) => images(disk).find(|(i, _)| *i == number).ok_or_else(|| missing(device))?.0,
        None if disk.source.is_empty() => {
            let text = "argument key 'node-name' must not have null value";
            return Err(Error::internal(virt_error::Domain::None, text));
        }
        None => top.ok_or_else(|| missing(device))?,
    };
    let request = json!({"node-name": node(index), "write-threshold": threshold});
    ask(work, "block-set-write-threshold", request).await?;
    let run = work.run()?;
    // Whoever named the image itself hears of that alone.
    if number.is_some() {
        run.numbered_thresholds.insert(index);
    } else {
        run.numbered_thresholds.remove(&index);
    }
    Ok(())
}

fn missing(device: &str) -> Error {
    invalid(format!("failed to find disk '{device}'"))
}

/// "vda[3]" is the image 3 of vda.
fn split(device: &str) -> (&str, Option<u32>) {
    let number = device.strip_suffix(']').and_then(|rest| {
        let (target, number) = rest.rsplit_once('[')?;
        Some((target, number.parse().ok()?))
    });
    number.map_or((device, None), |(target, number)| (target, Some(number)))
}

/// The node that writes an image's file, as the command line names it.
pub fn node(index: u32) -> String {
    format!("libvirt-{index}-storage")
}

/// The numbers and paths of a disk's images, the top one first.
pub fn images(disk: &Disk) -> impl Iterator<Item = (u32, Option<&str>)> {
    let top = disk.source.common().index.map(|i| (i, disk.source.path()));
    let under =
        std::iter::successors(disk.backing.as_deref(), |image: &&BackingStore| image.backing.as_deref());
    let under = under.filter_map(|i| Some((i.index?, i.source.as_ref().and_then(|s| s.path()))));
    top.into_iter().chain(under)
}

/// What clients are told of QEMU's event; nothing for a node that is no image of the guest.
fn events(event: &Event, live: &Domain, named: impl Fn(u32) -> bool) -> Vec<Told> {
    let found = || {
        let name = event.text("node-name")?;
        let amount = |key: &str| event.data.get(key)?.as_u64();
        let (threshold, excess) = (amount("write-threshold")?, amount("amount-exceeded")?);
        let disks = live.devices.disks.iter();
        let (disk, index, path) =
            disks.flat_map(|d| images(d).map(move |(i, p)| (d, i, p))).find(|(_, i, _)| node(*i) == name)?;
        let target = disk.target.dev.clone()?;
        let told = |device: String| {
            let path = path.map(str::to_string);
            Told::BlockThreshold(BlockThresholdEvent { device, path, threshold, excess })
        };
        let top = disk.source.common().index == Some(index) && !named(index);
        let numbered = told(format!("{target}[{index}]"));
        Some(if top { vec![told(target), numbered] } else { vec![numbered] })
    };
    found().unwrap_or_default()
}

/// Tells of an image that has grown behind its threshold.
///
/// # Errors
/// Code 55 when the guest has ended meanwhile.
pub fn passed(work: &mut Work, event: &Event) -> Result<()> {
    let run = work.run()?;
    let told = events(event, &run.live, |i| run.numbered_thresholds.contains(&i));
    told.into_iter().for_each(|event| work.emit(event));
    Ok(())
}

/// The thresholds that QEMU watches, from an answer of `query-named-block-nodes`, by node.
pub fn of_nodes(answer: &Value) -> impl Iterator<Item = (&str, u64)> {
    let nodes = answer.as_array().into_iter().flatten();
    nodes.filter_map(|n| Some((n["node-name"].as_str()?, n["write_threshold"].as_u64().filter(|t| *t > 0)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Domain {
        let mut disk = Disk::default();
        disk.target.dev = Some("vda".into());
        disk.source.common_mut().index = Some(3);
        disk.backing = Some(Box::new(BackingStore { index: Some(4), ..BackingStore::default() }));
        let mut live = Domain::default();
        live.devices.disks.push(disk);
        live
    }

    #[test]
    fn names_have_numbers() {
        assert_eq!(split("vda[12]"), ("vda", Some(12)));
        for plain in ["vda", "vda[", "vda[x]", "vda]", "[", "vda[-1]"] {
            assert_eq!(split(plain), (plain, None));
        }
    }

    #[test]
    fn the_top_image_is_told_by_both_names() {
        let event = |node: &str| Event {
            name: "BLOCK_WRITE_THRESHOLD".into(),
            data: json!({"node-name": node, "write-threshold": 10, "amount-exceeded": 5}),
            seconds: 0,
            micros: 0,
        };
        let live = guest();
        let told = |node: &str, named: bool| {
            let names = events(&event(node), &live, |_| named).into_iter().map(|e| match e {
                Told::BlockThreshold(e) => e.device,
                _ => String::new(),
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(told("libvirt-3-storage", false), ["vda", "vda[3]"]);
        assert_eq!(told("libvirt-3-storage", true), ["vda[3]"]);
        assert_eq!(told("libvirt-4-storage", false), ["vda[4]"]);
        assert!(told("libvirt-9-storage", false).is_empty());
        let hostile = Event { data: json!({"node-name": 5}), ..event("") };
        assert!(events(&hostile, &live, |_| false).is_empty());
    }

    #[test]
    fn thresholds_are_read_by_node() {
        let answer =
            json!([{"node-name": "a", "write_threshold": 0}, {"node-name": "b", "write_threshold": 7}, 5]);
        assert_eq!(of_nodes(&answer).collect::<Vec<_>>(), [("b", 7)]);
    }
}
