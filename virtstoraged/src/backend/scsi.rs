//! Pools that are a SCSI host: its disks are the volumes. Also the disks of an iSCSI session.

use std::fs;
use std::path::{Path, PathBuf};

use virt_error::{Domain, Error, Result};
use virt_model::storage::Pool;
use virt_model::storage::source::{Adapter, FcHost};

use super::{Backend, Content, Cx, block, disk, failed, no_support};
use crate::pool::Sizes;
use crate::volume::Volume;

/// `<pool type='scsi'>`.
pub struct Scsi;

/// The kernel's tree of devices.
pub(super) const SYS: &str = "/sys";

fn value(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The disks of a SCSI host: bus, target and unit, the device's name, what it is known by for good.
pub(super) fn disks(sys: &Path, host: u32) -> Result<Vec<(String, String, Option<String>)>> {
    let all = sys.join("bus/scsi/devices");
    fs::read_dir(&all).map_err(failed("Failed to opendir path", &all))?;
    let mut found = Vec::new();
    for address in names(&all) {
        let Some(rest) = address.strip_prefix(&format!("{host}:")) else { continue };
        let device = all.join(&address);
        // 0: a disk; 7: an optical one that can be written.
        if !matches!(value(&device.join("type")).as_deref(), Some("0" | "7")) {
            continue;
        }
        let Some(name) = names(&device.join("block")).into_iter().next() else { continue };
        found.push((rest.to_string(), name, value(&device.join("wwid"))));
    }
    Ok(found)
}

/// The volumes on a SCSI host.
pub(super) fn volumes(host: u32, target: &str) -> Result<Vec<Volume>> {
    let mut volumes = Vec::new();
    for (address, name, wwid) in disks(Path::new(SYS), host)? {
        let device = format!("/dev/{name}");
        let Ok(size) = block::size(Path::new(&device)) else { continue };
        let path = block::stable(target, &device);
        let key = wwid.unwrap_or_else(|| path.clone());
        volumes.push(block::told(&format!("unit:{address}"), &path, &key, None, (size, size)));
    }
    Ok(volumes)
}

/// The number in "host5" or "scsi_host5".
fn number(name: &str) -> Result<u32> {
    let digits = name.strip_prefix("scsi_host").or_else(|| name.strip_prefix("host")).unwrap_or(name);
    digits.parse().map_err(|_| {
        let text = format!("Invalid adapter name '{name}' for SCSI pool");
        Error::new(virt_error::Code::XmlError, Domain::Storage, text)
    })
}

/// The Fibre Channel host with these names.
fn fc_host(sys: &Path, wanted: &FcHost) -> Option<String> {
    let all = sys.join("class/fc_host");
    let same = |path: PathBuf, wwn: &str| {
        value(&path).is_some_and(|v| v.trim_start_matches("0x").eq_ignore_ascii_case(wwn))
    };
    names(&all).into_iter().find(|host| {
        same(all.join(host).join("node_name"), &wanted.wwnn)
            && same(all.join(host).join("port_name"), &wanted.wwpn)
    })
}

fn host_of(sys: &Path, adapter: &Adapter) -> Result<u32> {
    let missing = |text: String| Error::new(virt_error::Code::XmlError, Domain::Storage, text);
    let name = match adapter {
        Adapter::ScsiHost { name } => name.clone(),
        Adapter::Parent { unique_id, address } => {
            let card = format!(
                "{:04x}:{:02x}:{:02x}.{:x}",
                address.domain, address.bus, address.slot, address.function
            );
            let all = sys.join("class/scsi_host");
            let found = names(&all).into_iter().find(|host| {
                let of_card = fs::canonicalize(all.join(host))
                    .is_ok_and(|p| p.components().any(|c| c.as_os_str() == card.as_str()));
                of_card && value(&all.join(host).join("unique_id")) == Some(unique_id.to_string())
            });
            found.ok_or_else(|| {
                missing(format!("Failed to find scsi_host using PCI '{card}' and unique_id='{unique_id}'"))
            })?
        }
        Adapter::FcHost(host) => fc_host(sys, host).ok_or_else(|| {
            missing(format!("Failed to find SCSI host with wwnn='{}', wwpn='{}'", host.wwnn, host.wwpn))
        })?,
    };
    number(&name)
}

fn host(pool: &Pool) -> Result<u32> {
    let none = || Error::internal(Domain::Storage, "missing storage pool source adapter");
    host_of(Path::new(SYS), pool.source.adapter.as_ref().ok_or_else(none)?)
}

fn content(pool: &Pool) -> Result<Content> {
    let volumes = volumes(host(pool)?, pool.path())?;
    Ok(Content { sizes: block::sum(&volumes), volumes, ..Content::default() })
}

impl Backend for Scsi {
    fn is_active(&self, _: &Cx<'_>, pool: &Pool) -> Result<bool> {
        Ok(host(pool).is_ok_and(|n| Path::new(SYS).join(format!("class/scsi_host/host{n}")).exists()))
    }

    fn start(&self, cx: &Cx<'_>, pool: &Pool) -> Result<()> {
        if let Some(Adapter::FcHost(wanted)) = &pool.source.adapter
            && fc_host(Path::new(SYS), wanted).is_none()
        {
            return Err(no_support("creation of virtual Fibre Channel hosts"));
        }
        let scan = PathBuf::from(format!("{SYS}/class/scsi_host/host{}/scan", host(pool)?));
        // New disks are only seen when the host is asked to look.
        fs::write(&scan, "- - -").map_err(|e| {
            let text = format!("Could not open '{}' to trigger host scan", scan.display());
            Error::system(Domain::Storage, text, e)
        })?;
        disk::settle(cx);
        Ok(())
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        disk::settle(cx);
        content(pool)
    }

    fn sizes(&self, _: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Ok(content(pool)?.sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn disks_of_a_host_are_found() {
        let sys = tempfile::tempdir().unwrap();
        let device = |address: &str| sys.path().join("bus/scsi/devices").join(address);
        put(device("5:0:0:1").join("type"), "0\n");
        put(device("5:0:0:1").join("block/sdb/dev"), "8:16\n");
        put(device("5:0:0:1").join("wwid"), "naa.6001\n");
        // A tape, a disk of another host, one that has no node yet.
        put(device("5:0:0:2").join("type"), "1\n");
        put(device("50:0:0:1").join("type"), "0\n");
        put(device("5:0:0:3").join("type"), "0\n");
        let found = disks(sys.path(), 5).unwrap();
        assert_eq!(found, [("0:0:1".to_string(), "sdb".to_string(), Some("naa.6001".to_string()))]);
    }

    #[test]
    fn a_fibre_channel_host_is_found_by_its_names() {
        let sys = tempfile::tempdir().unwrap();
        let host = sys.path().join("class/fc_host/host7");
        put(host.join("node_name"), "0x20000000c9831b4b\n");
        put(host.join("port_name"), "0x10000000c9831b4b\n");
        let wanted =
            FcHost { wwnn: "20000000C9831B4B".into(), wwpn: "10000000c9831b4b".into(), ..FcHost::default() };
        assert_eq!(host_of(sys.path(), &Adapter::FcHost(wanted)).unwrap(), 7);
        assert!(host_of(sys.path(), &Adapter::ScsiHost { name: "hostx".into() }).is_err());
        assert_eq!(host_of(sys.path(), &Adapter::ScsiHost { name: "scsi_host3".into() }).unwrap(), 3);
    }
}
