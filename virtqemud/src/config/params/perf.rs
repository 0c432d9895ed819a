//! Performance events that are counted for the guest.

use virt_error::Result;
use virt_model::domain::Domain;
use virt_model::domain::tuning::{PerfEvent, PerfEventName};

use super::{Param, Type, Value, check, row};

/// Every event and whether it is counted.
pub fn get(domain: &Domain) -> Vec<Param> {
    let on = |name| domain.perf.events.iter().any(|e| e.name == name && e.enabled);
    PerfEventName::ALL.iter().map(|(text, name)| row(text, Value::Boolean(on(*name)))).collect()
}

/// Turns events on or off.
///
/// # Errors
/// As [`check`].
pub fn set(domain: &mut Domain, params: &[Param]) -> Result<()> {
    let known: Vec<(&str, Type)> =
        PerfEventName::ALL.iter().map(|(text, _)| (*text, Type::Boolean)).collect();
    check(params, &known)?;
    for Param { name, value } in params {
        let Some(name) = PerfEventName::from_name(name) else { continue };
        let enabled = *value == Value::Boolean(true);
        domain.perf.events.retain(|e| e.name != name);
        domain.perf.events.push(PerfEvent { name, enabled });
    }
    domain.perf.events.sort_by_key(|e| e.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_turn_on_and_off() {
        let mut d = Domain::default();
        set(&mut d, &[row("cpu_cycles", Value::Boolean(true))]).unwrap();
        assert!(get(&d).contains(&row("cpu_cycles", Value::Boolean(true))));
        set(&mut d, &[row("cpu_cycles", Value::Boolean(false))]).unwrap();
        assert!(!get(&d).iter().any(|p| p.value == Value::Boolean(true)));
        assert!(set(&mut d, &[row("nix", Value::Boolean(true))]).is_err());
    }
}
