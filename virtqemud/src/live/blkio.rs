//! Weight of a running guest's block I/O, and limits of host devices.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{major, minor};
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_model::domain::tuning::{BlkioDevice, BlkioTune};
use virt_object::blocking;

use crate::config::params::{Param, blkio};
use crate::guest::Work;
use crate::process::groups::write;

const WEIGHT: [&str; 4] = ["blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"];
const DEVICE_WEIGHT: [&str; 2] = ["blkio.weight_device", "io.weight"];
const LIMITS_V2: &str = "io.max";

/// One limit of a device: version 1's file, version 2's key.
type Limit = (&'static str, &'static str, fn(&BlkioDevice) -> u64);

const LIMITS: [Limit; 4] = [
    ("blkio.throttle.read_iops_device", "riops", |d| d.read_iops_sec.into()),
    ("blkio.throttle.write_iops_device", "wiops", |d| d.write_iops_sec.into()),
    ("blkio.throttle.read_bps_device", "rbps", |d| d.read_bytes_sec),
    ("blkio.throttle.write_bps_device", "wbps", |d| d.write_bytes_sec),
];

/// What the document of a guest that is being started asks for.
///
/// # Errors
/// Code 67 when the host has no such controller, code 38 when the kernel refuses or a device is none.
pub fn begin(group: &Group, tune: &BlkioTune) -> Result<()> {
    if *tune == BlkioTune::default() {
        return Ok(());
    }
    if !group.has("blkio") {
        let text = "Block I/O tuning is not available on this host";
        return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
    }
    apply(group, &BlkioTune::default(), tune)
}

/// Changes weight and limits of a running guest.
///
/// # Errors
/// As [`blkio::set`]; code 55 for weights of devices that the host's scheduler does not have; code 38 when the kernel
/// refuses or a device is none.
pub async fn set(work: &mut Work, params: Vec<Param>) -> Result<()> {
    let run = work.run()?;
    let mut wanted = run.live.clone();
    blkio::set(&mut wanted, &params)?;
    // A weight of 0 takes a setting out of a definition; the kernel has no such weight.
    let zero = params.iter().any(|p| p.name == "weight") && wanted.blkiotune.weight.is_none();
    let (group, old, new) = (run.held.group.clone(), run.live.blkiotune.clone(), wanted.blkiotune.clone());
    blocking::run(move || {
        if zero {
            write(&group, "blkio", &WEIGHT, "0")?;
        }
        apply(&group, &old, &new)
    })
    .await?;
    work.run()?.live.blkiotune = wanted.blkiotune;
    work.publish_live()
}

/// The weight as the kernel has it.
pub fn weight_of(group: &Group) -> Option<u32> {
    let text = group.read("blkio", &WEIGHT)?;
    let first = text.lines().next()?;
    first.strip_prefix("default ").unwrap_or(first).parse().ok()
}

/// Makes `new` of `old`: writes what differs.
fn apply(group: &Group, old: &BlkioTune, new: &BlkioTune) -> Result<()> {
    if let Some(weight) = new.weight.filter(|w| old.weight != Some(*w)) {
        write(group, "blkio", &WEIGHT, &weight.to_string())?;
    }
    let nothing = BlkioDevice::default();
    let of = |tune: &BlkioTune, path: &Option<String>| tune.devices.iter().find(|d| d.path == *path).cloned();
    let gone = old.devices.iter().filter(|d| of(new, &d.path).is_none());
    for device in new.devices.iter().chain(gone) {
        let before = of(old, &device.path).unwrap_or_else(|| nothing.clone());
        let after = of(new, &device.path).unwrap_or_else(|| nothing.clone());
        let path = device.path.as_deref().unwrap_or_default();
        if before.weight != after.weight {
            let numbers = numbers(path)?;
            if group.file("blkio", &DEVICE_WEIGHT).is_none() {
                let text = "blkio device weight is valid only for cfq scheduler";
                return Err(Error::new(Code::OperationInvalid, From::Cgroup, text));
            }
            let weight = if after.weight == 0 { "default".into() } else { after.weight.to_string() };
            write(group, "blkio", &DEVICE_WEIGHT, &format!("{numbers} {weight}"))?;
        }
        for (file, key, value) in LIMITS {
            let value = (value(&before) != value(&after)).then(|| value(&after));
            let Some(value) = value else { continue };
            let numbers = numbers(path)?;
            if group.file("blkio", &[file]).is_some() {
                write(group, "blkio", &[file], &format!("{numbers} {value}"))?;
            } else {
                let value = if value == 0 { "max".into() } else { value.to_string() };
                write(group, "blkio", &[LIMITS_V2], &format!("{numbers} {key}={value}"))?;
            }
        }
    }
    Ok(())
}

/// "253:0" of a block device.
fn numbers(path: &str) -> Result<String> {
    let meta = std::fs::metadata(path)
        .map_err(|e| Error::system(From::Cgroup, format!("Path '{path}' is not accessible"), e))?;
    if !meta.file_type().is_block_device() {
        let cause = rustix::io::Errno::INVAL.into();
        return Err(Error::system(From::Cgroup, format!("Path '{path}' must be a block device"), cause));
    }
    Ok(format!("{}:{}", major(meta.rdev()), minor(meta.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_block_devices_have_numbers() {
        let text = |path: &str| numbers(path).expect_err("no block device").message();
        assert_eq!(text("/nonexist"), "Path '/nonexist' is not accessible: No such file or directory");
        assert_eq!(text("/dev/null"), "Path '/dev/null' must be a block device: Invalid argument");
    }
}
