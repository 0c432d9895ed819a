//! Throughput limits of a running guest's disks.

use serde_json::{Map, Value as Json, json};
use virt_error::Result;
use virt_model::domain::Domain;
use virt_model::domain::disk::{Disk, IoTune};

use crate::config::params::{Param, Value, block};
use crate::guest::Work;
use crate::qmp::Client;

/// Our field, QEMU's name when setting and in `query-block`.
const FIELDS: [(&str, &str); 19] = [
    ("total_bytes_sec", "bps"),
    ("read_bytes_sec", "bps_rd"),
    ("write_bytes_sec", "bps_wr"),
    ("total_iops_sec", "iops"),
    ("read_iops_sec", "iops_rd"),
    ("write_iops_sec", "iops_wr"),
    ("total_bytes_sec_max", "bps_max"),
    ("read_bytes_sec_max", "bps_rd_max"),
    ("write_bytes_sec_max", "bps_wr_max"),
    ("total_iops_sec_max", "iops_max"),
    ("read_iops_sec_max", "iops_rd_max"),
    ("write_iops_sec_max", "iops_wr_max"),
    ("size_iops_sec", "iops_size"),
    ("total_bytes_sec_max_length", "bps_max_length"),
    ("read_bytes_sec_max_length", "bps_rd_max_length"),
    ("write_bytes_sec_max_length", "bps_wr_max_length"),
    ("total_iops_sec_max_length", "iops_max_length"),
    ("read_iops_sec_max_length", "iops_rd_max_length"),
    ("write_iops_sec_max_length", "iops_wr_max_length"),
];

/// Sets limits of one disk.
///
/// # Errors
/// As [`block::set`], and what QEMU refuses.
pub async fn set(work: &mut Work, device: String, params: Vec<Param>) -> Result<()> {
    let live = &work.run()?.live;
    let at = block::find(live, &device)?;
    let disk = live.devices.disks[at].clone();
    let mut tune = disk.iotune.clone();
    block::set(&mut tune, &params)?;
    apply(&work.monitor()?, &disk, &tune).await?;
    work.run()?.live.devices.disks[at].iotune = tune;
    work.publish_live()?;
    tell(work, &disk, &params);
    Ok(())
}

/// Sets the limits that the document of a guest being started has.
///
/// # Errors
/// What QEMU refuses.
pub async fn begin(live: &Domain, monitor: &Client) -> Result<()> {
    for disk in live.devices.disks.iter().filter(|d| d.iotune != IoTune::default()) {
        apply(monitor, disk, &disk.iotune).await?;
    }
    Ok(())
}

async fn apply(monitor: &Client, disk: &Disk, tune: &IoTune) -> Result<()> {
    let blocks = monitor.run_untyped("query-block", &Json::Null).await?;
    let place = find(&blocks, disk).and_then(|e| e["qdev"].as_str());
    let name = disk.target.dev.as_deref().unwrap_or_default();
    let Some(place) = place else { return Err(super::invalid(format!("missing drive for disk '{name}'"))) };
    monitor.run_untyped("block_set_io_throttle", &Json::Object(arguments(place, tune))).await?;
    Ok(())
}

/// The disk's entry in an answer of `query-block`.
fn find<'a>(blocks: &'a Json, disk: &Disk) -> Option<&'a Json> {
    let alias = disk.info.alias.as_deref()?;
    let is = |entry: &&Json| entry["qdev"].as_str().unwrap_or_default().split('/').any(|part| part == alias);
    blocks.as_array()?.iter().find(is)
}

/// `place` is the guest's device in QEMU's tree: the part of a virtio disk that has the image, not the PCI device.
fn arguments(place: &str, tune: &IoTune) -> Map<String, Json> {
    let mut out = Map::new();
    out.insert("id".to_string(), json!(place));
    if let Some(group) = &tune.group_name {
        out.insert("group".to_string(), json!(group));
    }
    for Param { name, value } in block::get(tune) {
        let found = FIELDS.iter().find(|(ours, _)| *ours == name);
        if let (Some((_, theirs)), Value::Ullong(number)) = (found, value) {
            // Lengths and sizes of nothing are not given: QEMU refuses a length of 0.
            if number > 0 || !(name.ends_with("_length") || name == "size_iops_sec" || name.ends_with("_max"))
            {
                out.insert((*theirs).to_string(), json!(number));
            }
        }
    }
    out
}

/// Limits as QEMU applies them; `None` when it does not know the disk.
pub async fn get(monitor: &Client, disk: &Disk) -> Result<Option<IoTune>> {
    let answer = monitor.run_untyped("query-block", &Json::Null).await?;
    let entry = find(&answer, disk);
    Ok(entry.map(|e| read(&e["inserted"])))
}

fn read(inserted: &Json) -> IoTune {
    let mut tune = IoTune::default();
    let known = FIELDS.iter().filter_map(|(ours, theirs)| {
        let number = inserted[*theirs].as_u64()?;
        Some(Param { name: (*ours).to_string(), value: Value::Ullong(number) })
    });
    let params: Vec<Param> = known.collect();
    // What QEMU applies is consistent; if it were not, the rest stays at no limit.
    let _ = block::set(&mut tune, &params);
    tune.group_name = inserted["group"].as_str().map(str::to_string);
    tune
}

fn tell(work: &Work, disk: &Disk, params: &[Param]) {
    let target = disk.target.dev.clone().unwrap_or_default();
    let first = [("blkdeviotune.disk".to_string(), Value::String(target))];
    let rest = params.iter().map(|p| (format!("blkdeviotune.{}", p.name), p.value.clone()));
    work.emit(super::tunable(first.into_iter().chain(rest)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_go_to_qemu_and_come_back() {
        let mut disk = Disk::default();
        disk.info.alias = Some("virtio-disk0".into());
        let place = "/machine/peripheral/virtio-disk0/virtio-backend";
        let blocks = json!([{"qdev": "ide0-1-0"}, {"qdev": place}]);
        assert_eq!(find(&blocks, &disk).unwrap()["qdev"], place);
        let tune = IoTune { total_bytes_sec: 1000, ..IoTune::default() };
        let sent = arguments(place, &tune);
        assert_eq!((&sent["id"], &sent["bps"], &sent["bps_rd"]), (&json!(place), &json!(1000), &json!(0)));
        assert!(!sent.contains_key("bps_max_length") && !sent.contains_key("group"));
        let back = read(&json!({"bps": 1000, "bps_rd": 0, "group": "g", "iops_size": 4096}));
        assert_eq!(
            (back.total_bytes_sec, back.group_name.as_deref(), back.size_iops_sec),
            (1000, Some("g"), 4096)
        );
    }
}
