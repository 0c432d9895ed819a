//! Disks of a guest: traffic from QEMU, sizes from QEMU or from the image itself.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value as Json;
use virt_api::domain::v1alpha1::DiskError;
use virt_consts::{VIR_DOMAIN_DISK_ERROR_NO_SPACE, VIR_DOMAIN_DISK_ERROR_UNSPEC};
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::disk::Disk;
use virt_model::domain::source::ImageFormat;
use virt_object::blocking;

use super::{Rows, ask};
use crate::config::params::{Param, Value};
use crate::guest::Published;
use crate::live::threshold;
use crate::qmp::Client;

/// What QEMU counted for one disk. Times are nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Traffic {
    pub rd_reqs: u64,
    pub rd_bytes: u64,
    pub rd_times: u64,
    pub wr_reqs: u64,
    pub wr_bytes: u64,
    pub wr_times: u64,
    pub fl_reqs: u64,
    pub fl_times: u64,
    /// The highest byte ever written to the image's file.
    pub highest: Option<u64>,
}

/// Sizes of an image, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What the guest sees.
    pub capacity: u64,
    /// What the host has given to it.
    pub allocation: u64,
    /// How long the file or device is.
    pub physical: u64,
}

/// A disk by target name or source.
pub fn find(disks: &[Disk], device: &str) -> Option<Disk> {
    let by_target = disks.iter().find(|d| d.target.dev.as_deref() == Some(device));
    by_target.or_else(|| disks.iter().find(|d| d.source.path() == Some(device))).cloned()
}

/// Disks that QEMU has stopped for an I/O error, from an answer of `query-block`.
pub fn errors(blocks: &Json, disks: &[Disk]) -> Vec<DiskError> {
    let error = |disk: &Disk| {
        let alias = disk.info.alias.as_deref()?;
        let is = |e: &&Json| e["qdev"].as_str().is_some_and(|q| q.split('/').any(|part| part == alias));
        let error = match blocks.as_array()?.iter().find(is)?["io-status"].as_str()? {
            "ok" => return None,
            "nospace" => VIR_DOMAIN_DISK_ERROR_NO_SPACE,
            _ => VIR_DOMAIN_DISK_ERROR_UNSPEC,
        };
        Some(DiskError { disk: disk.target.dev.clone().unwrap_or_default(), error })
    };
    disks.iter().filter_map(error).collect()
}

/// One answer of `query-blockstats`.
pub struct Counters(Json);

impl Counters {
    /// Asks QEMU.
    pub async fn ask(monitor: &Client) -> Self {
        Self(ask(monitor, "query-blockstats", Json::Null).await)
    }

    /// What it says of a disk.
    pub fn of(&self, disk: &Disk) -> Option<Traffic> {
        let alias = disk.info.alias.as_deref()?;
        // The guest's device is named by its place in QEMU's tree: /machine/peripheral/ALIAS[/virtio-backend].
        let is = |entry: &&Json| {
            let place = entry["qdev"].as_str().or_else(|| entry["device"].as_str()).unwrap_or_default();
            place.split('/').any(|part| part == alias) || place == format!("drive-{alias}")
        };
        let entry = self.0.as_array()?.iter().find(is)?;
        let n = |name: &str| entry["stats"][name].as_u64().unwrap_or(0);
        Some(Traffic {
            rd_reqs: n("rd_operations"),
            rd_bytes: n("rd_bytes"),
            rd_times: n("rd_total_time_ns"),
            wr_reqs: n("wr_operations"),
            wr_bytes: n("wr_bytes"),
            wr_times: n("wr_total_time_ns"),
            fl_reqs: n("flush_operations"),
            fl_times: n("flush_total_time_ns"),
            highest: entry["parent"]["stats"]["wr_highest_offset"].as_u64(),
        })
    }
}

/// The group of rows.
pub(super) async fn rows(p: &Published, monitor: Option<&Client>) -> Vec<Param> {
    let mut rows = Rows::default();
    let disks = p.document().map(|d| d.devices.disks.clone()).unwrap_or_default();
    rows.count("block.count", disks.len());
    let (counters, nodes) = match monitor.filter(|_| !disks.is_empty()) {
        Some(monitor) => {
            let nodes = ask(monitor, "query-named-block-nodes", serde_json::json!({"flat": true}));
            let (counters, nodes) = tokio::join!(Counters::ask(monitor), nodes);
            (Some(counters), nodes)
        }
        None => (None, Json::Null),
    };
    for (at, disk) in disks.into_iter().enumerate() {
        let name = |what: &str| format!("block.{at}.{what}");
        rows.put(name("name"), Value::String(disk.target.dev.clone().unwrap_or_default()));
        let path = disk.source.path().map(str::to_string);
        if let Some(path) = &path {
            rows.put(name("path"), Value::String(path.clone()));
            if let Some(index) = disk.source.common().index {
                rows.put(name("backingIndex"), Value::Uint(index));
            }
        }
        let traffic = counters.as_ref().and_then(|c| c.of(&disk));
        if let Some(t) = traffic {
            let figures = [
                ("rd.reqs", t.rd_reqs),
                ("rd.bytes", t.rd_bytes),
                ("rd.times", t.rd_times),
                ("wr.reqs", t.wr_reqs),
                ("wr.bytes", t.wr_bytes),
                ("wr.times", t.wr_times),
                ("fl.reqs", t.fl_reqs),
                ("fl.times", t.fl_times),
            ];
            figures.into_iter().for_each(|(what, value)| rows.number(name(what), value));
        }
        let highest = traffic.and_then(|t| t.highest);
        let node = disk.source.common().index.map(threshold::node);
        if let Some(path) = path
            && let Ok(sizes) = blocking::run(move || sizes(&path, &disk, highest)).await
        {
            // As in the reference: of a guest that runs, how far it has written.
            rows.number(name("allocation"), highest.unwrap_or(sizes.allocation));
            rows.number(name("capacity"), sizes.capacity);
            rows.number(name("physical"), sizes.physical);
        }
        if let Some((_, bytes)) = threshold::of_nodes(&nodes).find(|(n, _)| Some(*n) == node.as_deref()) {
            rows.number(name("threshold"), bytes);
        }
    }
    rows.0
}

/// Sizes of a disk's image. `highest` is what a running QEMU knows of a growing image on a block device. Blocking.
///
/// # Errors
/// Code 38 when the image cannot be opened.
pub fn sizes(path: &str, disk: &Disk, highest: Option<u64>) -> Result<Sizes> {
    let failed = |e| Error::system(From::Qemu, format!("Failed to open file '{path}'"), e);
    let mut file = open_image(Path::new(path)).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let (physical, given) = if meta.file_type().is_file() {
        (meta.len(), meta.blocks().saturating_mul(512))
    } else {
        let length = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(failed)?;
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        (length, highest.unwrap_or(length))
    };
    let mut head = [0u8; 32];
    let capacity = match disk.driver.format {
        Some(ImageFormat::Qcow2) if file.read_exact(&mut head).is_ok() => {
            qcow2_size(&head).unwrap_or(physical)
        }
        _ => physical,
    };
    Ok(Sizes { capacity, allocation: given, physical })
}

/// Opens an image for reading. A named pipe, which would wait for a writer, is refused as no image.
fn open_image(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() || kind.is_char_device() {
        return Ok(file);
    }
    let errno = if kind.is_dir() { rustix::io::Errno::ISDIR } else { rustix::io::Errno::INVAL };
    Err(errno.into())
}

/// The virtual size in a qcow2 header (QEMU's docs/interop/qcow2: magic, version, then size at byte 24, big endian).
fn qcow2_size(head: &[u8; 32]) -> Option<u64> {
    let (magic, rest) = head.split_first_chunk::<4>()?;
    let size = rest.get(20..28)?.try_into().ok()?;
    (magic == b"QFI\xfb").then(|| u64::from_be_bytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_are_found_by_alias() {
        let entry = |qdev: &str, reads: u64| {
            json!({"qdev": qdev, "stats": {"rd_operations": reads, "flush_total_time_ns": 4},
                "parent": {"stats": {"wr_highest_offset": 512}}})
        };
        let counters = Counters(json!([
            entry("/machine/peripheral/virtio-disk1/virtio-backend", 7),
            entry("/machine/peripheral/virtio-disk10/virtio-backend", 8),
            entry("ide0-1-0", 9),
        ]));
        let mut disk = Disk::default();
        assert_eq!(counters.of(&disk), None);
        disk.info.alias = Some("virtio-disk1".into());
        let traffic = counters.of(&disk).unwrap();
        assert_eq!((traffic.rd_reqs, traffic.fl_times, traffic.highest), (7, 4, Some(512)));
        disk.info.alias = Some("ide0-1-0".into());
        assert_eq!(counters.of(&disk).unwrap().rd_reqs, 9);
    }

    #[test]
    fn only_disks_in_trouble_are_told() {
        let mut disk = Disk::default();
        disk.info.alias = Some("a".into());
        disk.target.dev = Some("vda".into());
        let told = |status: &str| {
            let blocks = json!([{"qdev": "/machine/peripheral/a/virtio-backend", "io-status": status}]);
            errors(&blocks, std::slice::from_ref(&disk))
                .into_iter()
                .map(|e| (e.disk, e.error))
                .collect::<Vec<_>>()
        };
        assert_eq!(told("ok"), []);
        assert_eq!(told("nospace"), [("vda".to_string(), VIR_DOMAIN_DISK_ERROR_NO_SPACE)]);
        assert_eq!(told("failed"), [("vda".to_string(), VIR_DOMAIN_DISK_ERROR_UNSPEC)]);
    }

    #[test]
    fn sizes_of_images() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x").display().to_string();
        let mut disk = Disk::default();
        assert!(sizes(&path, &disk, None).unwrap_err().message().starts_with("Failed to open file"));
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.resize(24, 0);
        image.extend(67_108_864u64.to_be_bytes());
        image.resize(65536, 0);
        std::fs::write(&path, &image).unwrap();
        assert_eq!(sizes(&path, &disk, None).unwrap().capacity, 65536);
        disk.driver.format = Some(ImageFormat::Qcow2);
        let found = sizes(&path, &disk, None).unwrap();
        assert_eq!((found.capacity, found.physical), (67_108_864, 65536));
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(sizes(&path, &disk, None).unwrap().capacity, 5);
    }
}
