//! Processor time of a guest and of its vCPUs.

use serde_json::Value as Json;
use virt_host::files::{Files, KernelFiles};
use virt_host::process;
use virt_object::blocking;

use super::{Rows, ask, vcpus_of};
use crate::config::params::{Param, Value};
use crate::guest::Published;
use crate::qmp::Client;

/// One vCPU as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuTime {
    /// Its number.
    pub number: u32,
    /// Its thread.
    pub thread: i32,
    /// Nanoseconds on a host CPU.
    pub time: u64,
    /// Nanoseconds it waited although it could run.
    pub delay: u64,
    /// Nanoseconds it slept or waited, as the scheduler counts.
    pub wait: u64,
    /// The host CPU it was on last.
    pub cpu: u32,
    /// The first 1,024 host CPUs: which of them it may run on.
    pub allowed: Option<[u64; 16]>,
}

impl VcpuTime {
    /// The host CPUs it may run on as a bitmap of this many bytes, lowest bit first.
    pub fn allowed_map(&self, bytes: usize) -> Vec<u8> {
        let words = self.allowed.unwrap_or_default();
        let mut map: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        map.resize(bytes, 0);
        map
    }
}

/// The group of the whole guest.
pub(super) async fn total(p: &Published) -> Vec<Param> {
    let mut rows = Rows::default();
    if let Some(pid) = p.pid
        && let Ok(Some(stat)) = blocking::run(move || Ok(process::stat(pid).ok())).await
    {
        rows.number("cpu.time", stat.user_ns + stat.system_ns);
        rows.number("cpu.user", stat.user_ns);
        rows.number("cpu.system", stat.system_ns);
    }
    rows.0
}

/// The group of the vCPUs.
pub(super) async fn vcpus(p: &Published, monitor: Option<&Client>) -> Vec<Param> {
    let mut rows = Rows::default();
    let (current, maximum) = vcpus_of(p);
    rows.count("vcpu.current", current as usize);
    rows.count("vcpu.maximum", maximum as usize);
    for vcpu in live(p, monitor).await {
        let name = |what: &str| format!("vcpu.{}.{what}", vcpu.number);
        rows.put(name("state"), Value::Int(virt_consts::VIR_VCPU_RUNNING));
        rows.number(name("time"), vcpu.time);
        rows.number(name("wait"), vcpu.wait);
        rows.number(name("delay"), vcpu.delay);
    }
    rows.0
}

/// All vCPUs of a running guest, by number; empty when it does not run or does not answer.
pub async fn live(p: &Published, monitor: Option<&Client>) -> Vec<VcpuTime> {
    let (Some(monitor), Some(pid)) = (monitor, p.pid) else { return Vec::new() };
    let cpus = ask(monitor, "query-cpus-fast", Json::Null).await;
    let threads: Vec<(u32, i32)> = cpus.as_array().into_iter().flatten().filter_map(thread).collect();
    let read = move || {
        let one = |(number, thread)| {
            let stat = process::thread_stat(pid, thread).ok()?;
            Some(vcpu_time(&KernelFiles, pid, number, thread, stat.processor))
        };
        Ok(threads.into_iter().filter_map(one).collect())
    };
    let mut found: Vec<VcpuTime> = blocking::run(read).await.unwrap_or_default();
    found.sort_by_key(|v| v.number);
    found
}

fn thread(cpu: &Json) -> Option<(u32, i32)> {
    let number = u32::try_from(cpu["cpu-index"].as_u64()?).ok()?;
    Some((number, i32::try_from(cpu["thread-id"].as_i64()?).ok()?))
}

fn vcpu_time(files: &dyn Files, pid: i32, number: u32, thread: i32, cpu: u32) -> VcpuTime {
    let dir = format!("/proc/{pid}/task/{thread}");
    let schedstat = files.read(&format!("{dir}/schedstat")).unwrap_or_default();
    let mut values = schedstat.split_whitespace().filter_map(|v| v.parse::<u64>().ok());
    let (time, delay) = (values.next().unwrap_or(0), values.next().unwrap_or(0));
    let sched = files.read(&format!("{dir}/sched")).unwrap_or_default();
    let wait = sched.lines().find(|l| l.contains("wait_sum")).and_then(|l| millis(l.split_once(':')?.1));
    let status = files.read(&format!("{dir}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).map(allowed_words);
    VcpuTime { number, thread, time, delay, wait: wait.unwrap_or(0), cpu, allowed }
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
    fn a_thread_has_times_and_a_cpu() {
        let files = FixtureFiles::new([
            ("/proc/7/task/9/schedstat", "1000 20 3\n"),
            ("/proc/7/task/9/sched", "CPU 0 (9, #threads: 3)\nse.statistics.wait_sum : 1.5\n"),
            ("/proc/7/task/9/status", "Name:\tx\nCpus_allowed_list:\t0-1,65\n"),
        ]);
        let vcpu = vcpu_time(&files, 7, 0, 9, 3);
        assert_eq!((vcpu.time, vcpu.delay, vcpu.wait, vcpu.cpu), (1000, 20, 1_500_000, 3));
        let allowed = vcpu.allowed.unwrap();
        assert_eq!((allowed[0], allowed[1]), (3, 2));
    }
}
