//! From which host nodes the guest's memory comes.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain;
use virt_model::domain::vcpu::{NumaMode, Placement};
use virt_xml::{Bad, Value as _};

use super::{Param, Type, Value, check, row};

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 2] = [("numa_mode", Type::Int), ("numa_nodeset", Type::String)];

/// Values of a configuration.
pub fn get(domain: &Domain) -> Vec<Param> {
    let memory = domain.numatune.memory.as_ref();
    let mode = memory.and_then(|m| m.mode).unwrap_or_default();
    let number = NumaMode::ALL.iter().position(|(_, m)| *m == mode).unwrap_or(0);
    let nodes = memory.and_then(|m| m.nodeset.as_ref()).map(ToString::to_string).unwrap_or_default();
    vec![
        row("numa_mode", Value::Int(i32::try_from(number).unwrap_or(0))),
        row("numa_nodeset", Value::String(nodes)),
    ]
}

/// Sets values of a configuration.
///
/// # Errors
/// As [`check`]; code 8 for an unknown mode or a set that is none.
pub fn set(domain: &mut Domain, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let mut memory = domain.numatune.memory.clone().unwrap_or_default();
    for Param { name, value } in params {
        if name == "numa_mode" {
            let number = value.signed();
            let found = usize::try_from(number).ok().and_then(|n| NumaMode::ALL.get(n));
            let (_, mode) = found.ok_or_else(|| {
                Error::new(Code::InvalidArg, From::Qemu, format!("unsupported numatune mode: '{number}'"))
            })?;
            memory.mode = Some(*mode);
            continue;
        }
        let text = value.text();
        let nodes = Bitmap::parse(text).map_err(|_: Bad| {
            Error::new(Code::InvalidArg, From::None, format!("Failed to parse bitmap '{text}'"))
        })?;
        if nodes.is_empty() {
            let text = format!("Invalid nodeset of 'numatune': {text}");
            return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
        }
        memory.nodeset = Some(nodes);
        memory.placement = None;
    }
    if memory.nodeset.is_none() && memory.placement != Some(Placement::Auto) {
        let text = "nodeset for NUMA memory tuning must be set if 'placement' is 'static'";
        return Err(Error::new(Code::XmlError, From::Domain, text));
    }
    memory.mode.get_or_insert(NumaMode::Strict);
    domain.numatune.memory = Some(memory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_nodes() {
        let mut d = Domain::default();
        assert_eq!(
            get(&d),
            [row("numa_mode", Value::Int(0)), row("numa_nodeset", Value::String(String::new()))]
        );
        set(&mut d, &[row("numa_mode", Value::Int(1)), row("numa_nodeset", Value::String("0,2".into()))])
            .unwrap();
        assert_eq!(
            get(&d),
            [row("numa_mode", Value::Int(1)), row("numa_nodeset", Value::String("0,2".into()))]
        );
        let text = set(&mut d, &[row("numa_mode", Value::Int(9))]).unwrap_err().message();
        assert_eq!(text, "invalid argument: unsupported numatune mode: '9'");
        assert!(set(&mut d, &[row("numa_nodeset", Value::String("x".into()))]).is_err());
    }
}
