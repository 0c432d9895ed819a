//! What a document asks of the host and of QEMU beside the command line: done when QEMU is there, before the guest runs.
//!
//! What is neither on the command line nor here is refused by [`crate::document`] before the start.

use virt_error::Result;
use virt_model::domain::Domain;

use super::{affinity, blkio, cpu, iothreads, lifecycle, memtune, sched, throttle, vcpus};
use crate::display::password;
use crate::guest::Work;
use crate::qmp::Client;

/// Limits, weights and host CPUs of a guest that is being started.
///
/// # Errors
/// Code 38 when the kernel refuses; code 67 when the host has no such controller; what QEMU refuses.
pub async fn begin(work: &mut Work) -> Result<()> {
    vcpus::begin(work).await?;
    let run = work.run()?;
    memtune::begin(&run.held.group, &run.live.memtune)?;
    blkio::begin(&run.held.group, &run.live.blkiotune)?;
    let emulator = run.process.pid();
    affinity::emulator(&run.live, emulator)?;
    affinity::vcpus(&run.live, &run.vcpus)?;
    if crate::config::iothreads::ids(&run.live).is_empty() {
        cpu::begin(run).await?;
    } else {
        let threads = iothreads::threads(&run.monitor).await?;
        affinity::iothreads(&run.live, &threads)?;
        cpu::begin(run).await?;
        sched::iothreads(&run.live, &threads)?;
    }
    // Last: a thread with a real-time policy may not enter a group that has no such time.
    sched::vcpus(&run.live, &run.vcpus)?;
    sched::emulator(&run.live, emulator)?;
    let (live, monitor): (Domain, Client) = (run.live.clone(), run.monitor.clone());
    lifecycle::begin(&live, &monitor).await?;
    throttle::begin(&live, &monitor).await?;
    password::begin(&live, &monitor, &work.driver.settings.displays).await
}
