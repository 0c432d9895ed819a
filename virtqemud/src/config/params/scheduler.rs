//! CPU shares and quotas. Periods and quotas are microseconds; 0 is the host's default, a negative quota is no limit.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;

use super::{Param, Type, Value, row};

/// Names in libvirt's order.
pub const NAMES: [(&str, Type); 9] = [
    ("cpu_shares", Type::Ullong),
    ("vcpu_period", Type::Ullong),
    ("vcpu_quota", Type::Llong),
    ("emulator_period", Type::Ullong),
    ("emulator_quota", Type::Llong),
    ("global_period", Type::Ullong),
    ("global_quota", Type::Llong),
    ("iothread_period", Type::Ullong),
    ("iothread_quota", Type::Llong),
];

/// What stands for values that a document does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unset {
    /// Of the processors.
    pub shares: u64,
    /// Microseconds.
    pub period: u64,
    /// Microseconds.
    pub quota: i64,
}

impl Unset {
    /// In a definition.
    pub const DEFINED: Self = Self { shares: 0, period: 0, quota: 0 };

    /// The kernel's own, of a running guest with these shares.
    pub fn running(shares: u64) -> Self {
        Self { shares, period: 100_000, quota: -1 }
    }
}

/// Values of a configuration.
pub fn get(domain: &Domain, unset: Unset) -> Vec<Param> {
    let t = &domain.cputune;
    let Unset { shares, period, quota } = unset;
    let values = [
        Value::Ullong(t.shares.unwrap_or(shares)),
        Value::Ullong(t.period.unwrap_or(period)),
        Value::Llong(t.quota.unwrap_or(quota)),
        Value::Ullong(t.emulator_period.unwrap_or(period)),
        Value::Llong(t.emulator_quota.unwrap_or(quota)),
        Value::Ullong(t.global_period.unwrap_or(period)),
        Value::Llong(t.global_quota.unwrap_or(quota)),
        Value::Ullong(t.iothread_period.unwrap_or(period)),
        Value::Llong(t.iothread_quota.unwrap_or(quota)),
    ];
    NAMES.iter().zip(values).map(|((name, _), value)| row(name, value)).collect()
}

/// Sets values of a configuration.
///
/// # Errors
/// As [`check`]; code 8 for a value out of range.
pub fn set(domain: &mut Domain, params: &[Param]) -> Result<()> {
    check(params)?;
    let t = &mut domain.cputune;
    for Param { name, value } in params {
        let period = Some(value.unsigned()).filter(|v| *v > 0);
        let quota = Some(value.signed()).filter(|v| *v != 0);
        match name.as_str() {
            "cpu_shares" => t.shares = Some(value.unsigned()),
            "vcpu_period" => t.period = period,
            "vcpu_quota" => t.quota = quota,
            "emulator_period" => t.emulator_period = period,
            "emulator_quota" => t.emulator_quota = quota,
            "global_period" => t.global_period = period,
            "global_quota" => t.global_quota = quota,
            "iothread_period" => t.iothread_period = period,
            _ => t.iothread_quota = quota,
        }
    }
    Ok(())
}

/// Checks values before anything is set.
///
/// # Errors
/// As [`super::check`]; code 8 for a value out of range.
pub fn check(params: &[Param]) -> Result<()> {
    super::check(params, &NAMES)?;
    params.iter().try_for_each(range)
}

/// The kernel's limits of CFS bandwidth (Documentation/scheduler/sched-bwc): periods of 1 ms to 1 s, quotas from 1 ms.
fn range(param: &Param) -> Result<()> {
    const PERIOD: (i128, i128) = (1_000, 1_000_000);
    const QUOTA: (i128, i128) = (1_000, 17_592_186_044_415);
    let name = &param.name;
    let (value, (least, most)) = match param.value {
        Value::Ullong(v) if name.ends_with("_period") => (i128::from(v), PERIOD),
        Value::Llong(v) if name.ends_with("_quota") => (i128::from(v), QUOTA),
        _ => return Ok(()),
    };
    if value <= 0 && name.ends_with("_quota") || value == 0 || (least..=most).contains(&value) {
        return Ok(());
    }
    let text = format!("value of '{name}' is out of range [{least}, {most}]");
    Err(Error::new(Code::InvalidArg, From::Qemu, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_zero_removes() {
        let mut d = Domain::default();
        set(&mut d, &[row("cpu_shares", Value::Ullong(2048)), row("vcpu_quota", Value::Llong(10_000))])
            .unwrap();
        assert_eq!(get(&d, Unset::DEFINED)[0].value, Value::Ullong(2048));
        assert_eq!(get(&d, Unset::DEFINED)[2].value, Value::Llong(10_000));
        set(&mut d, &[row("vcpu_quota", Value::Llong(0))]).unwrap();
        assert_eq!(d.cputune.quota, None);
        let bad = [row("cpu_shares", Value::Ullong(7)), row("vcpu_period", Value::Ullong(5))];
        let text = set(&mut d, &bad).unwrap_err().message();
        assert_eq!(text, "invalid argument: value of 'vcpu_period' is out of range [1000, 1000000]");
        assert_eq!(d.cputune.shares, Some(2048));
    }
}
