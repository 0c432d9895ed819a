//! Host CPUs of the threads of a running guest.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use virt_error::{Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain;

use super::{invalid, iothreads, tunable};
use crate::config::params::Value;
use crate::config::pins;
use crate::guest::Work;
use crate::guest::status::Vcpu;

/// Pins the thread of a vCPU.
///
/// # Errors
/// Code 8 for an empty set or a vCPU that is not there, code 38 when the kernel refuses.
pub fn pin_vcpu(work: &mut Work, vcpu: u32, cpus: &Bitmap) -> Result<()> {
    let run = work.run()?;
    let mut live = run.live.clone();
    let most = crate::config::vcpus::maximum(&live);
    if vcpu >= most {
        return Err(invalid(format!("vcpu {vcpu} is out of range of live cpu count {most}")));
    }
    pins::pin_vcpu(&mut live, vcpu, cpus.clone())?;
    // One that is not plugged in is pinned when it comes.
    if let Some(thread) = run.vcpus.iter().find(|v| v.id == vcpu).map(|v| v.pid) {
        set(thread, cpus)?;
    }
    run.live = live;
    work.publish_live()?;
    tell(work, format!("cputune.vcpupin{vcpu}"), cpus);
    Ok(())
}

/// Pins the emulator's main thread.
///
/// # Errors
/// As [`pin_vcpu`].
pub fn pin_emulator(work: &mut Work, cpus: &Bitmap) -> Result<()> {
    let run = work.run()?;
    let mut live = run.live.clone();
    pins::pin_emulator(&mut live, cpus.clone())?;
    set(run.process.pid(), cpus)?;
    run.live = live;
    work.publish_live()?;
    tell(work, "cputune.emulatorpin".to_string(), cpus);
    Ok(())
}

/// Pins the thread of an I/O thread.
///
/// # Errors
/// Code 8 for an empty set or a thread that is not there, code 38 when the kernel refuses.
pub async fn pin_iothread(work: &mut Work, id: u32, cpus: Bitmap) -> Result<()> {
    if cpus.is_empty() {
        return Err(invalid("Empty iothread cpumap list for pinning"));
    }
    let threads = iothreads::threads(&work.monitor()?).await?;
    let run = work.run()?;
    let found = threads.iter().find(|(number, _)| *number == id);
    let (_, thread) = found.ok_or_else(|| invalid(format!("iothread {id} not found")))?;
    let mut live = run.live.clone();
    pins::pin_iothread(&mut live, id, cpus.clone())?;
    set(*thread, &cpus)?;
    run.live = live;
    work.publish_live()?;
    tell(work, format!("cputune.iothreadpin{id}"), &cpus);
    Ok(())
}

/// Host CPUs that the document gives to the emulator of a guest that is being started.
///
/// # Errors
/// Code 38 when the kernel refuses, as for CPUs that the host does not have.
pub fn emulator(live: &Domain, process: i32) -> Result<()> {
    let everywhere = live.vcpu.as_ref().and_then(|v| v.cpuset.as_ref());
    let own = live.cputune.emulatorpin.as_ref().or(everywhere);
    own.map_or(Ok(()), |cpus| set(process, cpus))
}

/// Host CPUs of vCPUs that have just appeared.
///
/// # Errors
/// As [`emulator`].
pub fn vcpus(live: &Domain, threads: &[Vcpu]) -> Result<()> {
    let everywhere = live.vcpu.as_ref().and_then(|v| v.cpuset.as_ref());
    threads.iter().try_for_each(|vcpu| {
        let own = live.cputune.vcpupins.iter().find(|p| p.vcpu == vcpu.id).map(|p| &p.cpuset);
        own.or(everywhere).map_or(Ok(()), |cpus| set(vcpu.pid, cpus))
    })
}

/// Host CPUs of I/O threads, by number and thread, that have just appeared.
///
/// # Errors
/// As [`emulator`].
pub fn iothreads(live: &Domain, threads: &[(u32, i32)]) -> Result<()> {
    let everywhere = live.vcpu.as_ref().and_then(|v| v.cpuset.as_ref());
    threads.iter().try_for_each(|(id, thread)| {
        let own = live.cputune.iothreadpins.iter().find(|p| p.iothread == *id).map(|p| &p.cpuset);
        own.or(everywhere).map_or(Ok(()), |cpus| set(*thread, cpus))
    })
}

fn set(thread: i32, cpus: &Bitmap) -> Result<()> {
    let mut wanted = CpuSet::new();
    for cpu in cpus.iter().map(|c| c as usize).filter(|c| *c < CpuSet::MAX_CPU) {
        wanted.set(cpu);
    }
    let pid = Pid::from_raw(thread).ok_or_else(|| Error::fault(From::Qemu, "a thread has no number"))?;
    let failed = |e: rustix::io::Errno| {
        Error::system(From::None, format!("cannot set CPU affinity on process {thread}"), e.into())
    };
    sched_setaffinity(Some(pid), &wanted).map_err(failed)
}

fn tell(work: &Work, field: String, cpus: &Bitmap) {
    work.emit(tunable([(field, Value::String(cpus.to_string()))]));
}
