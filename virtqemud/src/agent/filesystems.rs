//! File systems of the guest's system: which there are, freezing, trimming.

use std::sync::Arc;

use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::address::Address;
use virt_model::domain::disk::Disk;

use super::{call, malformed};
use crate::guest::{Guest, not_running};

/// One mounted file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The device's name in the guest.
    pub name: String,
    /// Its kind.
    pub fstype: String,
    /// Bytes, if the agent tells.
    pub total: Option<u64>,
    /// Bytes, if the agent tells.
    pub used: Option<u64>,
    /// What it is on.
    pub disks: Vec<On>,
}

/// A disk under a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct On {
    /// Target name of the domain's disk.
    pub target: Option<String>,
    /// The guest's serial number of it.
    pub serial: Option<String>,
    /// The guest's node of it: "/dev/vda1".
    pub device: Option<String>,
}

/// All mounted file systems.
///
/// # Errors
/// As [`call`].
pub async fn get(guest: &Arc<Guest>) -> Result<Vec<Filesystem>> {
    let live = guest.published().value.live.clone().ok_or_else(not_running)?;
    let answer = call(guest, "guest-get-fsinfo", Value::Null).await?;
    read(&answer, &live).ok_or_else(|| malformed("guest-get-fsinfo", "mountpoint"))
}

fn read(answer: &Value, live: &Domain) -> Option<Vec<Filesystem>> {
    let text = |v: &Value, key: &str| v[key].as_str().map(str::to_string);
    let one = |v: &Value| {
        let disks = v["disk"].as_array().into_iter().flatten();
        Some(Filesystem {
            mountpoint: text(v, "mountpoint")?,
            name: text(v, "name")?,
            fstype: text(v, "type")?,
            total: v["total-bytes"].as_u64(),
            used: v["used-bytes"].as_u64(),
            disks: disks
                .map(|d| On {
                    target: disk_at(live, d).and_then(|disk| disk.target.dev.clone()),
                    serial: text(d, "serial"),
                    device: text(d, "dev"),
                })
                .collect(),
        })
    };
    // The agent tells the newest mount first, clients the oldest.
    answer.as_array()?.iter().rev().map(one).collect()
}

/// The disk at the place the agent tells: its own on the PCI bus, or on a controller that is there.
pub(super) fn disk_at<'a>(live: &'a Domain, place: &Value) -> Option<&'a Disk> {
    let n = |v: &Value, key: &str| u32::try_from(v[key].as_u64()?).ok();
    let pci = &place["pci-controller"];
    let (domain, bus, slot, function) =
        (n(pci, "domain")?, n(pci, "bus")?, n(pci, "slot")?, n(pci, "function")?);
    let is_there = |address: &Option<Address>| {
        matches!(address, Some(Address::Pci(a))
            if (a.domain, a.bus, a.slot, a.function) == (domain, bus, slot, function))
    };
    let devices = &live.devices;
    if let Some(disk) = devices.disks.iter().find(|d| is_there(&d.info.address)) {
        return Some(disk);
    }
    let controller = devices.controllers.iter().find(|c| is_there(&c.info.address))?;
    let (bus, target, unit) = (n(place, "bus")?, n(place, "target")?, n(place, "unit")?);
    devices.disks.iter().find(|disk| match &disk.info.address {
        Some(Address::Drive(a)) => {
            Some(a.controller) == controller.index && (a.bus, a.target, a.unit) == (bus, target, unit)
        }
        _ => false,
    })
}

/// Stops writing to file systems (all when none is named) and answers how many.
///
/// # Errors
/// As [`call`].
pub async fn freeze(guest: &Arc<Guest>, mountpoints: &[String]) -> Result<i32> {
    if mountpoints.is_empty() {
        return count(&call(guest, "guest-fsfreeze-freeze", Value::Null).await?);
    }
    count(&call(guest, "guest-fsfreeze-freeze-list", json!({ "mountpoints": mountpoints })).await?)
}

/// Lets all file systems be written to again and answers how many.
///
/// # Errors
/// As [`call`].
pub async fn thaw(guest: &Arc<Guest>) -> Result<i32> {
    count(&call(guest, "guest-fsfreeze-thaw", Value::Null).await?)
}

fn count(answer: &Value) -> Result<i32> {
    let malformed = || Error::internal(From::Qemu, "malformed return value");
    answer.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(malformed)
}

/// Gives unused blocks back to the host.
///
/// # Errors
/// As [`call`]; code 67 for a mount point.
pub async fn trim(guest: &Arc<Guest>, mountpoint: Option<&str>, minimum: u64) -> Result<()> {
    if mountpoint.is_some() {
        let text = "Specifying mount point is not supported for now";
        return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
    }
    call(guest, "guest-fstrim", json!({ "minimum": minimum })).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_found_by_their_place() {
        let xml = "<domain type='qemu'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>\
            <controller type='ide' index='0'><address type='pci' domain='0' bus='0' slot='1' function='1'/></controller>\
            <disk type='file'><target dev='vda' bus='virtio'/>\
              <address type='pci' domain='0' bus='0' slot='5' function='0'/></disk>\
            <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/>\
              <address type='drive' controller='0' bus='1' target='0' unit='0'/></disk></devices></domain>";
        let live = Domain::parse(xml, virt_model::Mode::LIVE).unwrap();
        let pci =
            |slot: u32, function: u32| json!({"domain": 0, "bus": 0, "slot": slot, "function": function});
        let answer = json!([
            {"name": "sr0", "mountpoint": "/cd", "type": "iso9660", "disk": [
                {"pci-controller": pci(1, 1), "bus-type": "ide", "bus": 1, "target": 0, "unit": 0, "dev": "/dev/sr0"}]},
            {"name": "vda1", "mountpoint": "/", "type": "ext4", "total-bytes": 9, "disk": [
                {"pci-controller": pci(5, 0), "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0}]},
        ]);
        let found = read(&answer, &live).unwrap();
        let targets: Vec<_> = found.iter().map(|f| f.disks[0].target.as_deref()).collect();
        assert_eq!(targets, [Some("vda"), Some("hdc")]);
        assert_eq!((found[0].total, found[1].disks[0].device.as_deref()), (Some(9), Some("/dev/sr0")));
        assert_eq!(read(&json!([{"name": 5}]), &live), None);
    }
}
