//! Memory limits, KiB.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Size;
use virt_model::domain::Domain;

use super::{Param, Type, Value, check, row};

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 3] =
    [("hard_limit", Type::Ullong), ("soft_limit", Type::Ullong), ("swap_hard_limit", Type::Ullong)];

/// libvirt's number for "no limit" (`VIR_DOMAIN_MEMORY_PARAM_UNLIMITED`).
pub const UNLIMITED: u64 = 9_007_199_254_740_991;

/// Limits of a configuration.
pub fn get(domain: &Domain) -> Vec<Param> {
    let t = &domain.memtune;
    let values = [t.hard_limit, t.soft_limit, t.swap_hard_limit];
    let limit = |v: Option<Size>| Value::Ullong(v.map_or(UNLIMITED, |s| s.kib.min(UNLIMITED)));
    NAMES.iter().zip(values).map(|((name, _), value)| row(name, limit(value))).collect()
}

/// Sets limits of a configuration.
///
/// # Errors
/// As [`check`]; code 8 when the limit with swap is below the one without.
pub fn set(domain: &mut Domain, params: &[Param]) -> Result<()> {
    check(params, &NAMES)?;
    let t = &mut domain.memtune;
    let (mut hard, mut soft, mut swap) = (t.hard_limit, t.soft_limit, t.swap_hard_limit);
    for Param { name, value } in params {
        let limit = Some(value.unsigned()).filter(|v| *v < UNLIMITED).map(Size::from_kib);
        match name.as_str() {
            "hard_limit" => hard = limit,
            "soft_limit" => soft = limit,
            _ => swap = limit,
        }
    }
    let number = |limit: Option<Size>| limit.map_or(UNLIMITED, |s| s.kib);
    if number(hard) > number(swap) {
        let text = "memory hard_limit tunable value must be lower than or equal to swap_hard_limit";
        return Err(Error::new(Code::InvalidArg, From::Domain, text));
    }
    (t.hard_limit, t.soft_limit, t.swap_hard_limit) = (hard, soft, swap);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_not_kept() {
        let mut d = Domain::default();
        assert!(get(&d).iter().all(|p| p.value == Value::Ullong(UNLIMITED)));
        set(&mut d, &[row("hard_limit", Value::Ullong(300_000))]).unwrap();
        assert_eq!(get(&d)[0].value, Value::Ullong(300_000));
        assert!(set(&mut d, &[row("swap_hard_limit", Value::Ullong(100))]).is_err());
        set(&mut d, &[row("hard_limit", Value::Ullong(UNLIMITED))]).unwrap();
        assert_eq!(d.memtune.hard_limit, None);
    }
}
