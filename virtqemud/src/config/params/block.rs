//! Throughput limits of one disk: bytes and requests a second, bursts, burst lengths in seconds. 0 is no limit.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::IoTune;

use super::{Param, Type, Value, check, row};

const GROUP: &str = "group_name";

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 20] = [
    ("total_bytes_sec", Type::Ullong),
    ("read_bytes_sec", Type::Ullong),
    ("write_bytes_sec", Type::Ullong),
    ("total_iops_sec", Type::Ullong),
    ("read_iops_sec", Type::Ullong),
    ("write_iops_sec", Type::Ullong),
    ("total_bytes_sec_max", Type::Ullong),
    ("read_bytes_sec_max", Type::Ullong),
    ("write_bytes_sec_max", Type::Ullong),
    ("total_iops_sec_max", Type::Ullong),
    ("read_iops_sec_max", Type::Ullong),
    ("write_iops_sec_max", Type::Ullong),
    ("size_iops_sec", Type::Ullong),
    (GROUP, Type::String),
    ("total_bytes_sec_max_length", Type::Ullong),
    ("read_bytes_sec_max_length", Type::Ullong),
    ("write_bytes_sec_max_length", Type::Ullong),
    ("total_iops_sec_max_length", Type::Ullong),
    ("read_iops_sec_max_length", Type::Ullong),
    ("write_iops_sec_max_length", Type::Ullong),
];

/// Finds a disk by its target name or its source.
///
/// # Errors
/// Code 8 when there is none.
pub fn find(domain: &Domain, device: &str) -> Result<usize> {
    let disks = &domain.devices.disks;
    let by_target = disks.iter().position(|d| d.target.dev.as_deref() == Some(device));
    let by_source = || disks.iter().position(|d| d.source.path() == Some(device));
    by_target.or_else(by_source).ok_or_else(|| {
        // A running domain has its number.
        let text = match domain.id {
            Some(_) => format!("disk '{device}' not found in domain"),
            None => format!("disk '{device}' was not found in the domain config"),
        };
        Error::new(Code::InvalidArg, From::Qemu, text)
    })
}

/// Limits of one disk.
pub fn get(tune: &IoTune) -> Vec<Param> {
    let mut copy = tune.clone();
    let mut value = |name: &str| match field(&mut copy, name) {
        Some(number) => Value::Ullong(*number),
        None => Value::String(tune.group_name.clone().unwrap_or_default()),
    };
    NAMES.iter().map(|(name, _)| row(name, value(name))).collect()
}

/// Sets limits of one disk. A named family (say bytes a second) is replaced as a whole where the new values say so:
/// a total and parts of the same family exclude each other.
///
/// # Errors
/// As [`check`]; code 8 when a total and a part of one family are both set.
pub fn set(tune: &mut IoTune, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let mut new = tune.clone();
    for family in [
        "bytes_sec",
        "iops_sec",
        "bytes_sec_max",
        "iops_sec_max",
        "bytes_sec_max_length",
        "iops_sec_max_length",
    ] {
        let parts = ["total", "read", "write"].map(|p| format!("{p}_{family}"));
        // Values that are not named keep their setting only when none of their family is named.
        if params.iter().any(|p| parts.contains(&p.name)) {
            for part in &parts {
                if let Some(slot) = field(&mut new, part) {
                    *slot = 0;
                }
            }
        }
        for param in params.iter().filter(|p| parts.contains(&p.name)) {
            if let Some(slot) = field(&mut new, &param.name) {
                *slot = param.value.unsigned();
            }
        }
        let number = |tune: &mut IoTune, part: &str| field(tune, part).map_or(0, |v| *v);
        if number(&mut new, &parts[0]) > 0
            && (number(&mut new, &parts[1]) > 0 || number(&mut new, &parts[2]) > 0)
        {
            let text = format!("total and read/write of {family} cannot be set at the same time");
            return Err(Error::new(Code::InvalidArg, From::Qemu, text));
        }
    }
    for part in ["total_bytes_sec", "read_bytes_sec", "write_bytes_sec"].into_iter().chain([
        "total_iops_sec",
        "read_iops_sec",
        "write_iops_sec",
    ]) {
        let burst = format!("{part}_max");
        let mut number = |name: &str| field(&mut new, name).map_or(0, |v| *v);
        let (most, usual) = (number(&burst), number(part));
        if most > 0 && usual == 0 && field(tune, part).is_some_and(|was| *was > 0) {
            let text = format!("cannot reset '{part}' when '{burst}' is set");
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
        if most > 0 && most < usual {
            let text = format!("value '{burst}' cannot be smaller than '{part}'");
            return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
        }
    }
    for Param { name, value } in params {
        match name.as_str() {
            "size_iops_sec" => new.size_iops_sec = value.unsigned(),
            GROUP => new.group_name = Some(value.text().to_string()).filter(|g| !g.is_empty()),
            _ => {}
        }
    }
    *tune = new;
    Ok(())
}

fn field<'a>(t: &'a mut IoTune, name: &str) -> Option<&'a mut u64> {
    Some(match name {
        "total_bytes_sec" => &mut t.total_bytes_sec,
        "read_bytes_sec" => &mut t.read_bytes_sec,
        "write_bytes_sec" => &mut t.write_bytes_sec,
        "total_iops_sec" => &mut t.total_iops_sec,
        "read_iops_sec" => &mut t.read_iops_sec,
        "write_iops_sec" => &mut t.write_iops_sec,
        "total_bytes_sec_max" => &mut t.total_bytes_sec_max,
        "read_bytes_sec_max" => &mut t.read_bytes_sec_max,
        "write_bytes_sec_max" => &mut t.write_bytes_sec_max,
        "total_iops_sec_max" => &mut t.total_iops_sec_max,
        "read_iops_sec_max" => &mut t.read_iops_sec_max,
        "write_iops_sec_max" => &mut t.write_iops_sec_max,
        "size_iops_sec" => &mut t.size_iops_sec,
        "total_bytes_sec_max_length" => &mut t.total_bytes_sec_max_length,
        "read_bytes_sec_max_length" => &mut t.read_bytes_sec_max_length,
        "write_bytes_sec_max_length" => &mut t.write_bytes_sec_max_length,
        "total_iops_sec_max_length" => &mut t.total_iops_sec_max_length,
        "read_iops_sec_max_length" => &mut t.read_iops_sec_max_length,
        "write_iops_sec_max_length" => &mut t.write_iops_sec_max_length,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_and_parts_exclude_each_other() {
        let mut tune = IoTune::default();
        let number = |name: &str, value| row(name, Value::Ullong(value));
        set(&mut tune, &[number("total_bytes_sec", 1000), row(GROUP, Value::String("g".into()))]).unwrap();
        assert_eq!((get(&tune)[0].value.clone(), get(&tune).len()), (Value::Ullong(1000), 20));
        let both = [number("total_bytes_sec", 1000), number("read_bytes_sec", 5)];
        let text = set(&mut tune, &both).unwrap_err().message();
        assert_eq!(
            text,
            "invalid argument: total and read/write of bytes_sec cannot be set at the same time"
        );
        set(&mut tune, &[number("read_bytes_sec", 5)]).unwrap();
        assert_eq!((tune.total_bytes_sec, tune.read_bytes_sec), (0, 5));
        assert_eq!(tune.group_name.as_deref(), Some("g"));
    }
}
