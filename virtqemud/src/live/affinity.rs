//! Host CPUs of the threads of a running guest.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use virt_api::common::v1alpha1::{TypedParam, typed_param::Value};
use virt_api::domain::v1alpha1::TunableEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_error::{Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain;

use super::invalid;
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
    pins::pin_vcpu(&mut live, vcpu, cpus.clone())?;
    let thread = run.vcpus.iter().find(|v| v.id == vcpu).map(|v| v.pid);
    let thread = thread.ok_or_else(|| {
        invalid(format!("vcpu {vcpu} is out of range of live cpu count {}", run.vcpus.len()))
    })?;
    set(thread, cpus)?;
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

/// Host CPUs that the document gives to the threads of a guest that is being started.
///
/// # Errors
/// Code 38 when the kernel refuses, as for CPUs that the host does not have.
pub fn begin(live: &Domain, process: i32, vcpus: &[Vcpu]) -> Result<()> {
    let everywhere = live.vcpu.as_ref().and_then(|v| v.cpuset.as_ref());
    if let Some(cpus) = live.cputune.emulatorpin.as_ref().or(everywhere) {
        set(process, cpus)?;
    }
    for vcpu in vcpus {
        let own = live.cputune.vcpupins.iter().find(|p| p.vcpu == vcpu.id).map(|p| &p.cpuset);
        if let Some(cpus) = own.or(everywhere) {
            set(vcpu.pid, cpus)?;
        }
    }
    Ok(())
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
    let params = vec![TypedParam { field, value: Some(Value::S(cpus.to_string())) }];
    work.emit(Event::Tunable(TunableEvent { params }));
}
