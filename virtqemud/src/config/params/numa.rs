//! From which host nodes the guest's memory comes.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::vcpu::{NumaMode, Placement};

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
            memory.mode = Some(to_mode(value.signed())?);
            continue;
        }
        let text = value.text();
        let nodes = crate::config::bitmap(text)?;
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

fn to_mode(number: i64) -> Result<NumaMode> {
    let found = usize::try_from(number).ok().and_then(|n| NumaMode::ALL.get(n));
    let found = found.ok_or_else(|| {
        Error::new(Code::InvalidArg, From::Qemu, format!("unsupported numatune mode: '{number}'"))
    })?;
    Ok(found.1)
}

/// What of these values a running guest can take: memory that it has is moved by the kernel only where QEMU itself was
/// not told nodes.
///
/// # Errors
/// As [`check`]; code 8 for an unknown mode; code 55 for another mode or for nodes that QEMU keeps.
pub fn check_live(live: &Domain, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let refused = |text: &str| Err(Error::new(Code::OperationInvalid, From::Qemu, text));
    let memory = live.numatune.memory.as_ref();
    let now = memory.map(|m| m.mode.unwrap_or_default());
    let asked =
        params.iter().find(|p| p.name == "numa_mode").map(|p| to_mode(p.value.signed())).transpose()?;
    let nodes = params.iter().find(|p| p.name == "numa_nodeset");
    let nodes = nodes.map(|p| crate::config::bitmap(p.value.text())).transpose()?;
    if asked.is_some() && now.is_some() && asked != now {
        return refused("can't change numatune mode for running domain");
    }
    // Not named is another set than the one that is there.
    let same = nodes.as_ref() == memory.and_then(|m| m.nodeset.as_ref());
    if asked == Some(NumaMode::Strict) && !same {
        return refused("can't change nodeset for strict mode for running domain");
    }
    if asked.is_none() && nodes.is_some() && now.is_some_and(|mode| mode != NumaMode::Restrictive) {
        return refused("change of nodeset for running domain requires restrictive numa mode");
    }
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

    #[test]
    fn a_running_guest_keeps_its_nodes_unless_only_the_kernel_knows_them() {
        let nodes = row("numa_nodeset", Value::String("0".into()));
        let mode = |n| row("numa_mode", Value::Int(n));
        let mut d = Domain::default();
        check_live(&d, std::slice::from_ref(&nodes)).unwrap();
        let text = |d: &Domain, rows: &[Param]| check_live(d, rows).unwrap_err().message();
        assert!(
            text(&d, &[mode(0), nodes.clone()])
                .ends_with("can't change nodeset for strict mode for running domain")
        );
        set(&mut d, std::slice::from_ref(&nodes)).unwrap();
        assert!(text(&d, std::slice::from_ref(&nodes)).ends_with("requires restrictive numa mode"));
        assert!(text(&d, &[mode(1)]).ends_with("can't change numatune mode for running domain"));
        check_live(&d, &[mode(0), nodes.clone()]).unwrap();
        assert!(text(&d, &[mode(0)]).ends_with("can't change nodeset for strict mode for running domain"));
        let none = row("numa_nodeset", Value::String("abc".into()));
        assert!(text(&d, &[none]).contains("'abc'"));
        set(&mut d, &[mode(3)]).unwrap();
        check_live(&d, &[nodes]).unwrap();
    }
}
