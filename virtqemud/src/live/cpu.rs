//! Processor time of a running guest: shares of the whole, periods and quotas of the whole and of its kinds of threads.
//!
//! A kind of thread has groups of its own from when it is first limited; threads that appear later enter them as well.

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_model::domain::Domain;
use virt_model::domain::vcpu::CpuTune;

use super::{iothreads, tunable};
use crate::config::params::{Param, Value, scheduler};
use crate::guest::Work;
use crate::guest::work::Run;
use crate::process::groups::write;

const SHARES: [&str; 2] = ["cpu.shares", "cpu.weight"];
/// Shares that the kernel knows.
const RANGE: std::ops::RangeInclusive<u64> = 2..=262_144;
const PERIOD: &str = "cpu.cfs_period_us";
const QUOTA: &str = "cpu.cfs_quota_us";
/// Version 2 has both in one file.
const MAX: &str = "cpu.max";
/// How often the emulator's threads are looked for again: each may start others meanwhile.
const ROUNDS: usize = 20;

/// Whose time is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Vcpus,
    Emulator,
    Iothreads,
}

impl Part {
    const ALL: [Self; 4] = [Self::Whole, Self::Vcpus, Self::Emulator, Self::Iothreads];

    /// Period and quota in microseconds; a negative quota is no limit.
    fn limits(self, tune: &CpuTune) -> (Option<u64>, Option<i64>) {
        match self {
            Self::Whole => (tune.global_period, tune.global_quota),
            Self::Vcpus => (tune.period, tune.quota),
            Self::Emulator => (tune.emulator_period, tune.emulator_quota),
            Self::Iothreads => (tune.iothread_period, tune.iothread_quota),
        }
    }

    fn is_limited(self, tune: &CpuTune) -> bool {
        self.limits(tune) != (None, None)
    }

    fn adopt(self, from: &CpuTune, to: &mut CpuTune) {
        match self {
            Self::Whole => (to.global_period, to.global_quota) = (from.global_period, from.global_quota),
            Self::Vcpus => (to.period, to.quota) = (from.period, from.quota),
            Self::Emulator => {
                (to.emulator_period, to.emulator_quota) = (from.emulator_period, from.emulator_quota);
            }
            Self::Iothreads => {
                (to.iothread_period, to.iothread_quota) = (from.iothread_period, from.iothread_quota);
            }
        }
    }
}

/// What the document of a guest that is being started asks for.
///
/// # Errors
/// Code 67 when the host has no such controller, code 38 when the kernel refuses.
pub async fn begin(run: &Run) -> Result<()> {
    let tune = &run.live.cputune;
    let there = run.held.group.has("cpu");
    if let Some(shares) = tune.shares {
        if !there {
            let text = "CPU tuning is not available on this host";
            return Err(Error::new(Code::ConfigUnsupported, From::Domain, text));
        }
        write(&run.held.group, "cpu", &SHARES, &shares.to_string())?;
    }
    for part in Part::ALL.into_iter().filter(|part| part.is_limited(tune)) {
        if !there {
            let from = if part == Part::Whole { From::Domain } else { From::Qemu };
            let text = "cgroup cpu is required for scheduler tuning";
            return Err(Error::new(Code::ConfigUnsupported, from, text));
        }
        apply(run, part, tune).await?;
    }
    Ok(())
}

/// Limits of a running guest. Values of 0 change nothing, as in the reference; no guest can have 0 shares.
///
/// # Errors
/// As [`scheduler::set`]; code 38 when the kernel refuses. What was set before a failure stays set, and the document says
/// so.
pub async fn set(work: &mut Work, params: Vec<Param>) -> Result<()> {
    let run = work.run()?;
    let mut wanted: Domain = run.live.clone();
    scheduler::check(&params)?;
    let given: Vec<Param> =
        params.into_iter().filter(|p| p.name == "cpu_shares" || !is_zero(&p.value)).collect();
    scheduler::set(&mut wanted, &given)?;
    let done = set_all(run, &wanted.cputune, &given).await;
    work.publish_live()?;
    if done.is_ok() && !given.is_empty() {
        work.emit(tunable(given.iter().map(|p| (format!("cputune.{}", p.name), p.value.clone()))));
    }
    done
}

fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Ullong(0) | Value::Llong(0))
}

async fn set_all(run: &mut Run, wanted: &CpuTune, given: &[Param]) -> Result<()> {
    if let Some(shares) = wanted.shares.filter(|_| given.iter().any(|p| p.name == "cpu_shares")) {
        if !RANGE.contains(&shares) {
            let (least, most) = (RANGE.start(), RANGE.end());
            return Err(super::invalid(format!("shares '{shares}' must be in range [{least}, {most}]")));
        }
        write(&run.held.group, "cpu", &SHARES, &shares.to_string())?;
        // What version 2 makes of it is rounded.
        run.live.cputune.shares = shares_of(&run.held.group).or(Some(shares));
    }
    let changed = |part: &Part| part.limits(wanted) != part.limits(&run.live.cputune);
    let parts: Vec<Part> = Part::ALL.into_iter().filter(changed).collect();
    for part in parts {
        apply(run, part, wanted).await?;
        part.adopt(wanted, &mut run.live.cputune);
    }
    Ok(())
}

/// The guest's shares as the kernel has them.
pub fn shares_of(group: &Group) -> Option<u64> {
    group.read("cpu", &SHARES)?.parse().ok()
}

/// Limits for threads that have just appeared.
///
/// # Errors
/// Code 38 when the kernel refuses.
pub async fn renew(run: &Run) -> Result<()> {
    let tune = &run.live.cputune;
    for part in [Part::Vcpus, Part::Iothreads].into_iter().filter(|part| part.is_limited(tune)) {
        apply(run, part, tune).await?;
    }
    Ok(())
}

async fn apply(run: &Run, part: Part, tune: &CpuTune) -> Result<()> {
    let limits = part.limits(tune);
    groups(run, part).await?.iter().try_for_each(|group| limit(group, limits))
}

/// The groups of a part, with its threads in them.
async fn groups(run: &Run, part: Part) -> Result<Vec<Group>> {
    let whole = &run.held.group;
    let vcpus: Vec<(String, i32)> = run.vcpus.iter().map(|v| (format!("vcpu{}", v.id), v.pid)).collect();
    match part {
        Part::Whole => Ok(vec![whole.clone()]),
        Part::Vcpus => vcpus.iter().map(|(name, thread)| with_thread(whole, name, *thread)).collect(),
        Part::Iothreads => {
            let threads = iothreads::threads(&run.monitor).await?;
            threads.iter().map(|(id, t)| with_thread(whole, &format!("iothread{id}"), *t)).collect()
        }
        Part::Emulator => {
            let others = iothreads::threads(&run.monitor).await?;
            let mut apart: Vec<i32> = others.into_iter().map(|(_, thread)| thread).collect();
            apart.extend(vcpus.iter().map(|(_, thread)| *thread));
            Ok(vec![emulator(whole, run.process.pid(), apart)?])
        }
    }
}

fn with_thread(whole: &Group, name: &str, thread: i32) -> Result<Group> {
    let made = whole.make_threads(name).and_then(|group| group.enter(thread).map(|()| group));
    made.map_err(|e| cannot_make(name, e))
}

/// The group of all threads but those `apart`.
fn emulator(whole: &Group, process: i32, apart: Vec<i32>) -> Result<Group> {
    let group = whole.make_threads("emulator").map_err(|e| cannot_make("emulator", e))?;
    let mut moved = apart;
    for _ in 0..ROUNDS {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let found = tasks.filter_map(|t| t.file_name().to_str()?.parse::<i32>().ok());
        let new: Vec<i32> = found.filter(|thread| !moved.contains(thread)).collect();
        if new.is_empty() {
            break;
        }
        for thread in new {
            group.enter(thread).map_err(|e| cannot_make("emulator", e))?;
            moved.push(thread);
        }
    }
    Ok(group)
}

fn cannot_make(name: &str, e: std::io::Error) -> Error {
    Error::system(From::Cgroup, format!("Failed to create cgroup '{name}'"), e)
}

/// Sets what is given; a period whose quota is refused is as it was.
fn limit(group: &Group, (period, quota): (Option<u64>, Option<i64>)) -> Result<()> {
    if let Some(now) = group.read("cpu", &[MAX]) {
        return write(group, "cpu", &[MAX], &both(&now, period, quota));
    }
    let before = group.read("cpu", &[PERIOD]);
    if let Some(period) = period {
        write(group, "cpu", &[PERIOD], &period.to_string())?;
    }
    let Some(quota) = quota else { return Ok(()) };
    let set = write(group, "cpu", &[QUOTA], &quota.max(-1).to_string());
    if let (true, Some(before), Some(_)) = (set.is_err(), before, period)
        && let Err(error) = write(group, "cpu", &[PERIOD], &before)
    {
        tracing::warn!(?error, "a period that has no quota stays");
    }
    set
}

/// The text of version 2's file, where `now` has what is not given.
fn both(now: &str, period: Option<u64>, quota: Option<i64>) -> String {
    let (old_quota, old_period) = now.split_once(' ').unwrap_or((now, "100000"));
    let quota = match quota {
        Some(quota) if quota < 0 => "max".to_string(),
        Some(quota) => quota.to_string(),
        None => old_quota.to_string(),
    };
    format!("{quota} {}", period.map_or(old_period.to_string(), |p| p.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_has_both_in_one_line() {
        assert_eq!(both("max 100000", Some(50_000), None), "max 50000");
        assert_eq!(both("max 100000", None, Some(2_000)), "2000 100000");
        assert_eq!(both("2000 50000", None, Some(-1)), "max 50000");
        assert_eq!(both("2000", Some(1), Some(7)), "7 1");
    }
}
