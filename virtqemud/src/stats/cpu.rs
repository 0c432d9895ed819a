//! Processor time of a guest and of its vCPUs.

use virt_host::files::{Files, KernelFiles};
use virt_host::process::{self, Stat};
use virt_object::blocking;

use super::{Rows, vcpus_of};
use crate::config::params::{Param, Value};
use crate::guest::Published;
use crate::guest::status::Vcpu;

/// What one vCPU's thread has used. Nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// On a host CPU.
    pub time: u64,
    /// It waited although it could run.
    pub delay: u64,
    /// It slept or waited, as the scheduler counts.
    pub wait: u64,
}

/// Where one vCPU's thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The vCPU's number.
    pub number: u32,
    /// Nanoseconds on a host CPU.
    pub time: u64,
    /// The host CPU it was on last.
    pub cpu: u32,
    /// The first 1,024 host CPUs: which of them it may run on.
    pub allowed: Option<[u64; 16]>,
}

impl Place {
    /// The host CPUs it may run on as a bitmap of this many bytes, lowest bit first.
    pub fn allowed_map(&self, bytes: usize) -> Vec<u8> {
        let words = self.allowed.unwrap_or_default();
        let mut map: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        map.resize(bytes, 0);
        map
    }
}

/// The group of the whole guest.
pub(super) fn total(stat: &Stat, polls: Polls) -> Vec<Param> {
    let mut rows = Rows::default();
    rows.number("cpu.time", stat.user_ns + stat.system_ns);
    rows.number("cpu.user", stat.user_ns);
    rows.number("cpu.system", stat.system_ns);
    // A start with monitors of caches is refused.
    rows.put("cpu.cache.monitor.count", Value::Uint(0));
    rows.number("cpu.haltpoll.success.time", polls.success);
    rows.number("cpu.haltpoll.fail.time", polls.fail);
    rows.0
}

/// Where KVM tells of its guests: one folder a guest, `PID-DESCRIPTOR`.
const KVM: &str = "/sys/kernel/debug/kvm";

/// How long KVM has polled for idle vCPUs before they went to sleep, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Polls {
    success: u64,
    fail: u64,
}

/// What KVM tells of a process; nothing of one without KVM. Blocking.
pub(super) fn polls(files: &dyn Files, pid: i32) -> Polls {
    let start = format!("{pid}-");
    let folders = files.list(KVM).unwrap_or_default();
    let Some(folder) = folders.iter().find(|name| name.starts_with(&start)) else { return Polls::default() };
    let figure = |name: &str| files.number(&format!("{KVM}/{folder}/{name}")).unwrap_or(0);
    Polls { success: figure("halt_poll_success_ns"), fail: figure("halt_poll_fail_ns") }
}

/// The group of the vCPUs.
pub(super) fn rows(p: &Published, times: &[(u32, Times)]) -> Vec<Param> {
    let mut rows = Rows::default();
    let (current, maximum) = vcpus_of(p);
    rows.count("vcpu.current", current as usize);
    rows.count("vcpu.maximum", maximum as usize);
    for (number, times) in times {
        let name = |what: &str| format!("vcpu.{number}.{what}");
        rows.put(name("state"), Value::Int(virt_consts::VIR_VCPU_RUNNING));
        rows.number(name("time"), times.time);
        rows.number(name("wait"), times.wait);
        rows.number(name("delay"), times.delay);
    }
    rows.0
}

/// Whether the kernel counts how long threads wait: `kernel.sched_schedstats`, which a kernel may lack.
pub(super) fn waits_are_counted(files: &dyn Files) -> bool {
    files.number("/proc/sys/kernel/sched_schedstats") == Some(1)
}

/// What the vCPUs have used, by number. One whose thread has ended is missing. Blocking.
pub(super) fn times(files: &dyn Files, pid: i32, vcpus: &[Vcpu], waits: bool) -> Vec<(u32, Times)> {
    let one = |vcpu: &Vcpu| {
        let dir = format!("/proc/{pid}/task/{}", vcpu.pid);
        let (time, delay) = scheduled(&files.read(&format!("{dir}/schedstat")).ok()?);
        let sched = if waits { files.read(&format!("{dir}/sched")).ok() } else { None };
        let wait = sched.as_deref().and_then(|s| s.lines().find(|l| l.contains("wait_sum")));
        let wait = wait.and_then(|l| millis(l.split_once(':')?.1)).unwrap_or(0);
        Some((vcpu.id, Times { time, delay, wait }))
    };
    let mut found: Vec<_> = vcpus.iter().filter_map(one).collect();
    found.sort_by_key(|(number, _)| *number);
    found
}

/// Where the vCPUs of a running guest are, by number; empty when it does not run.
pub async fn places(p: &Published) -> Vec<Place> {
    let (Some(pid), vcpus) = (p.pid, p.vcpus.clone()) else { return Vec::new() };
    let read = move || Ok(vcpus.iter().filter_map(|vcpu| place(&KernelFiles, pid, *vcpu)).collect());
    let mut found: Vec<Place> = blocking::run(read).await.unwrap_or_default();
    found.sort_by_key(|v| v.number);
    found
}

fn place(files: &dyn Files, pid: i32, vcpu: Vcpu) -> Option<Place> {
    let cpu = process::thread_stat(pid, vcpu.pid).ok()?.processor;
    let dir = format!("/proc/{pid}/task/{}", vcpu.pid);
    let (time, _) = scheduled(&files.read(&format!("{dir}/schedstat")).unwrap_or_default());
    let status = files.read(&format!("{dir}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).map(allowed_words);
    Some(Place { number: vcpu.id, time, cpu, allowed })
}

/// The first two figures of a schedstat file: time on a CPU, time waiting for one.
fn scheduled(schedstat: &str) -> (u64, u64) {
    let mut values = schedstat.split_whitespace().filter_map(|v| v.parse::<u64>().ok());
    (values.next().unwrap_or(0), values.next().unwrap_or(0))
}

/// The list form as 1,024 bits.
fn allowed_words(list: &str) -> [u64; 16] {
    let mut words = [0u64; 16];
    for cpu in virt_host::node::list::parse(list) {
        if let Some(word) = words.get_mut(cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    words
}

/// "12.345678" milliseconds as nanoseconds.
fn millis(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let part: u64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_host::files::FixtureFiles;

    #[test]
    fn a_thread_has_times() {
        let files = FixtureFiles::new([
            ("/proc/7/task/9/schedstat", "1000 20 3\n"),
            ("/proc/7/task/9/sched", "CPU 0 (9, #threads: 3)\nse.statistics.wait_sum : 1.5\n"),
            ("/proc/7/task/8/schedstat", "5 6 7\n"),
        ]);
        let vcpus = [Vcpu { id: 1, pid: 9 }, Vcpu { id: 0, pid: 8 }, Vcpu { id: 2, pid: 404 }];
        let first = (0, Times { time: 5, delay: 6, wait: 0 });
        let second = Times { time: 1000, delay: 20, wait: 1_500_000 };
        assert_eq!(times(&files, 7, &vcpus, true), [first, (1, second)]);
        assert_eq!(times(&files, 7, &vcpus, false), [first, (1, Times { wait: 0, ..second })]);
    }

    #[test]
    fn waits_are_read_where_they_are_counted() {
        let counted = |text: &'static str| {
            waits_are_counted(&FixtureFiles::new([("/proc/sys/kernel/sched_schedstats", text)]))
        };
        assert!(counted("1\n"));
        assert!(!counted("0\n"));
        assert!(!waits_are_counted(&FixtureFiles::new([("/proc/uptime", "1")])));
    }

    #[test]
    fn a_list_of_cpus_is_a_bitmap() {
        let allowed = allowed_words("0-1,65");
        assert_eq!((allowed[0], allowed[1]), (3, 2));
    }
}
