//! Processor time that a guest's control group has used.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;

use super::Rows;
use crate::config::params::Param;

/// Names of the figures of all CPUs together, in libvirt's order.
const TOTAL: [&str; 3] = ["cpu_time", "user_time", "system_time"];
/// Figures of one CPU: its time, and the time that its vCPUs have used there.
pub const EACH: u32 = 2;
/// One tick of version 1's `cpuacct.stat`, nanoseconds: the kernel tells these in hundredths of a second.
const TICK: u64 = 10_000_000;

/// How many figures there are of all CPUs together.
pub fn figures_of_all() -> u32 {
    u32::try_from(TOTAL.len()).unwrap_or(u32::MAX)
}

/// What the guest has used on all CPUs since it began. Blocking.
///
/// # Errors
/// Code 55 when the host does not count it.
pub fn of_all(group: &Group) -> Result<Vec<Param>> {
    let first = group.read("cpuacct", &["cpuacct.usage"]);
    let read = match first {
        Some(usage) => group.read("cpuacct", &["cpuacct.stat"]).and_then(|stat| ticks(&usage, &stat)),
        None => group.read("cpuacct", &["cpu.stat"]).and_then(|text| micros(&text)),
    };
    let figures = read.ok_or_else(|| {
        Error::new(Code::OperationInvalid, From::Qemu, "cgroup CPUACCT controller is not mounted")
    })?;
    let mut rows = Rows::default();
    TOTAL.into_iter().zip(figures).for_each(|(name, value)| rows.number(name, value));
    Ok(rows.0)
}

/// What the guest has used on each CPU. Blocking.
///
/// # Errors
/// Code 84 with version 2 of control groups, which does not count it.
pub fn of_each(group: &Group) -> Result<Vec<u64>> {
    let text = group.read("cpuacct", &["cpuacct.usage_percpu"]);
    let times = text.map(|t| t.split_whitespace().filter_map(|n| n.parse().ok()).collect());
    times.ok_or_else(|| {
        let text = "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'";
        Error::new(Code::OperationUnsupported, From::Cgroup, text)
    })
}

/// The rows of some CPUs.
pub fn rows(times: &[u64]) -> Vec<Param> {
    let mut rows = Rows::default();
    times.iter().for_each(|time| rows.number("cpu_time", *time));
    rows.0
}

/// Version 2's file, in nanoseconds.
fn micros(stat: &str) -> Option<[u64; 3]> {
    let one = |key: &str| {
        let line = stat.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()?.checked_mul(1000)
    };
    Some([one("usage_usec")?, one("user_usec")?, one("system_usec")?])
}

/// Version 1's two files.
fn ticks(usage: &str, stat: &str) -> Option<[u64; 3]> {
    let one = |key: &str| {
        let line = stat.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()?.checked_mul(TICK)
    };
    Some([usage.trim().parse().ok()?, one("user")?, one("system")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let text = "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n";
        assert_eq!(micros(text), Some([30_000, 20_000, 10_000]));
        assert_eq!(micros("usage_usec x\n"), None);
        assert_eq!(ticks("123\n", "user 2\nsystem 1\n"), Some([123, 2 * TICK, TICK]));
        assert_eq!(ticks("", ""), None);
    }
}
