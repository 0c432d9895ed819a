//! CPU time from `/proc/stat`.

use virt_error::{Domain, Error, Result};

use super::Node;

/// Nanoseconds spent since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Kernel, interrupts included.
    pub kernel: u64,
    /// Programs, niced ones included.
    pub user: u64,
    /// Nothing to do.
    pub idle: u64,
    /// Nothing to do but wait for a disk.
    pub iowait: u64,
}

impl Node {
    /// Times of one CPU, or of all for -1.
    ///
    /// # Errors
    /// Code 8 when there is no such CPU.
    pub fn cpu_time(&self, cpu: i32) -> Result<CpuTime> {
        let stat = self
            .files()
            .read("/proc/stat")
            .map_err(|e| Error::system(Domain::None, "cannot open '/proc/stat'", e))?;
        let name = if cpu < 0 { "cpu".to_string() } else { format!("cpu{cpu}") };
        parse(&stat, &name, 1_000_000_000 / ticks()).ok_or_else(|| {
            let function = "virHostCPUGetStatsLinux";
            Error::invalid_arg(Domain::None, function, "cpuNum", format!("Invalid cpuNum in {function}"))
        })
    }
}

fn ticks() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

fn parse(stat: &str, name: &str, nanos: u64) -> Option<CpuTime> {
    let line = stat.lines().find(|l| l.split_whitespace().next() == Some(name))?;
    let mut values = line.split_whitespace().skip(1).map(|v| v.parse::<u64>().unwrap_or(0));
    let mut next = || values.next().unwrap_or(0);
    let (user, nice, system, idle, iowait, irq, softirq) =
        (next(), next(), next(), next(), next(), next(), next());
    let scale = |v: u64| v.saturating_mul(nanos);
    Some(CpuTime {
        kernel: scale(system + irq + softirq),
        user: scale(user + nice),
        idle: scale(idle),
        iowait: scale(iowait),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_and_all() {
        let text = "cpu  10 1 20 30 4 5 6 7 0 0\ncpu0 1 0 2 3 0 0 0 0 0 0\nintr 5\n";
        let all = parse(text, "cpu", 10_000_000).unwrap();
        assert_eq!(
            all,
            CpuTime { kernel: 310_000_000, user: 110_000_000, idle: 300_000_000, iowait: 40_000_000 }
        );
        assert_eq!(parse(text, "cpu0", 1).unwrap().user, 1);
        assert!(parse(text, "cpu5", 1).is_none());
    }
}
