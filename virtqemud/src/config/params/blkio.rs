//! Weights and limits of host block devices.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::tuning::BlkioDevice;

use super::{Param, Type, Value, check, row};

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 6] = [
    ("weight", Type::Uint),
    ("device_weight", Type::String),
    ("device_read_iops_sec", Type::String),
    ("device_write_iops_sec", Type::String),
    ("device_read_bytes_sec", Type::String),
    ("device_write_bytes_sec", Type::String),
];

/// Values of a configuration.
pub fn get(domain: &Domain) -> Vec<Param> {
    let t = &domain.blkiotune;
    let list = |name: &str| {
        let pairs = t.devices.iter().filter_map(|d| {
            let value = figure(d, name);
            (value > 0).then(|| format!("{},{value}", d.path.as_deref().unwrap_or_default()))
        });
        pairs.collect::<Vec<_>>().join(",")
    };
    let value = |name: &str| match name {
        "weight" => Value::Uint(t.weight.unwrap_or(0)),
        _ => Value::String(list(name)),
    };
    NAMES.iter().map(|(name, _)| row(name, value(name))).collect()
}

/// One figure of a device.
fn figure(device: &BlkioDevice, name: &str) -> u64 {
    match name {
        "device_weight" => u64::from(device.weight),
        "device_read_iops_sec" => u64::from(device.read_iops_sec),
        "device_write_iops_sec" => u64::from(device.write_iops_sec),
        "device_read_bytes_sec" => device.read_bytes_sec,
        _ => device.write_bytes_sec,
    }
}

fn put(device: &mut BlkioDevice, name: &str, value: u64) -> Option<()> {
    let short = u32::try_from(value).ok();
    match name {
        "device_weight" => device.weight = short?,
        "device_read_iops_sec" => device.read_iops_sec = short?,
        "device_write_iops_sec" => device.write_iops_sec = short?,
        "device_read_bytes_sec" => device.read_bytes_sec = value,
        _ => device.write_bytes_sec = value,
    }
    Some(())
}

/// Sets values of a configuration. Devices that are not named keep theirs; 0 takes a figure away.
///
/// # Errors
/// As [`check`]; code 8 for a list that is not "path,number,path,number".
pub fn set(domain: &mut Domain, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let mut tune = domain.blkiotune.clone();
    for Param { name, value } in params {
        if name == "weight" {
            tune.weight = Some(value.short()).filter(|w| *w > 0);
            continue;
        }
        for (path, number) in pairs(name, value.text())? {
            let at = tune.devices.iter().position(|d| d.path.as_deref() == Some(path));
            let at = at.unwrap_or_else(|| {
                tune.devices.push(BlkioDevice { path: Some(path.to_string()), ..BlkioDevice::default() });
                tune.devices.len() - 1
            });
            put(&mut tune.devices[at], name, number)
                .ok_or_else(|| bad_number(name, path, &number.to_string()))?;
        }
    }
    tune.devices.retain(|d| *d != BlkioDevice { path: d.path.clone(), ..BlkioDevice::default() });
    domain.blkiotune = tune;
    Ok(())
}

fn pairs<'a>(name: &str, text: &'a str) -> Result<Vec<(&'a str, u64)>> {
    let words: Vec<&str> = text.split(',').filter(|w| !w.is_empty()).collect();
    if !words.len().is_multiple_of(2) {
        return Err(bad(name, text));
    }
    let pair = |p: &[&'a str]| match p {
        [path, number] => number.parse().map(|n| (*path, n)).map_err(|_| bad_number(name, path, number)),
        _ => Err(bad(name, text)),
    };
    words.chunks(2).map(pair).collect()
}

fn bad(name: &str, text: &str) -> Error {
    Error::new(Code::InvalidArg, From::Domain, format!("unable to parse blkio device '{name}' '{text}'"))
}

fn bad_number(name: &str, path: &str, number: &str) -> Error {
    let text = format!("invalid value '{number}' for parameter '{name}' of device '{path}'");
    Error::new(Code::InvalidArg, From::Domain, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_lists_merge() {
        let mut d = Domain::default();
        let text = |s: &str| Value::String(s.to_string());
        set(&mut d, &[row("weight", Value::Uint(500)), row("device_weight", text("/dev/sda,300"))]).unwrap();
        set(&mut d, &[row("device_read_iops_sec", text("/dev/sda,10,/dev/sdb,20"))]).unwrap();
        let got = get(&d);
        assert_eq!(got[0].value, Value::Uint(500));
        assert_eq!(got[1].value, text("/dev/sda,300"));
        assert_eq!(got[2].value, text("/dev/sda,10,/dev/sdb,20"));
        set(&mut d, &[row("device_read_iops_sec", text("/dev/sdb,0"))]).unwrap();
        assert_eq!(d.blkiotune.devices.len(), 1);
        for wrong in ["/dev/sda", "sda,x", "/dev/sda,99999999999"] {
            assert!(set(&mut d, &[row("device_weight", text(wrong))]).is_err(), "{wrong}");
        }
    }
}
