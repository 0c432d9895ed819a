//! Scheduling policies of a guest's threads.

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::vcpu::Scheduler;
use virt_sched_sys::Policy;

use crate::guest::status::Vcpu;

/// The emulator's policy, for a guest that is being started.
///
/// # Errors
/// Code 38 when the kernel refuses.
pub fn emulator(live: &Domain, process: i32) -> Result<()> {
    match &live.cputune.emulatorsched {
        Some(wanted) => set(process, wanted.scheduler, wanted.priority),
        None => Ok(()),
    }
}

/// Policies of vCPUs that have just appeared.
///
/// # Errors
/// As [`emulator`].
pub fn vcpus(live: &Domain, threads: &[Vcpu]) -> Result<()> {
    threads.iter().try_for_each(|thread| {
        let wanted = live.cputune.vcpuscheds.iter().find(|s| s.vcpus.contains(thread.id));
        wanted.map_or(Ok(()), |s| set(thread.pid, s.scheduler, s.priority))
    })
}

/// Policies of I/O threads, by number and thread, that have just appeared.
///
/// # Errors
/// As [`emulator`].
pub fn iothreads(live: &Domain, threads: &[(u32, i32)]) -> Result<()> {
    threads.iter().try_for_each(|(id, thread)| {
        let wanted = live.cputune.iothreadscheds.iter().find(|s| s.iothreads.contains(*id));
        wanted.map_or(Ok(()), |s| set(*thread, s.scheduler, s.priority))
    })
}

fn set(thread: i32, scheduler: Scheduler, priority: Option<i32>) -> Result<()> {
    let priority = priority.unwrap_or(0);
    let policy = match scheduler {
        Scheduler::Other => Policy::Other,
        Scheduler::Batch => Policy::Batch,
        Scheduler::Idle => Policy::Idle,
        Scheduler::Fifo => Policy::Fifo(priority),
        Scheduler::Rr => Policy::RoundRobin(priority),
    };
    virt_sched_sys::set(thread, policy).map_err(|e| {
        Error::system(From::None, format!("Cannot set scheduler parameters for pid {thread}"), e)
    })
}
