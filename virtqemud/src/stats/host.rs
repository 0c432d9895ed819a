//! What the host tells of guests: their processes, threads and cards, read for all of them in one go.

use std::sync::Arc;

use virt_consts::*;
use virt_host::files::KernelFiles;
use virt_host::process;
use virt_model::domain::Domain;
use virt_object::blocking;

use super::cpu::{self, Times};
use super::{Wanted, balloon, net};
use crate::config::params::Param;
use crate::guest::Published;
use crate::guest::status::Vcpu;

/// What the host tells of one guest. Groups nobody wants are empty.
#[derive(Default)]
pub(super) struct Seen {
    /// A signal or a debugger has stopped its process: it answers nothing.
    pub stopped: bool,
    /// Resident memory, KiB.
    pub rss: Option<u64>,
    /// The rows of the whole guest's processor time.
    pub total: Vec<Param>,
    /// Its vCPUs' times, by number.
    pub vcpus: Vec<(u32, Times)>,
    /// The rows of its cards.
    pub cards: Vec<Param>,
}

/// What to look at: process, threads of vCPUs, live document.
type Task = (Option<i32>, Arc<[Vcpu]>, Option<Arc<Domain>>);

/// Reads what is wanted, in the guests' order. What cannot be read is missing.
pub(super) async fn of(guests: impl Iterator<Item = &Published>, wanted: Wanted) -> Vec<Seen> {
    let tasks: Vec<Task> = guests.map(|p| (p.pid, p.vcpus.clone(), p.live.clone())).collect();
    let count = tasks.len();
    if tasks.iter().all(|(_, _, live)| live.is_none()) {
        return (0..count).map(|_| Seen::default()).collect();
    }
    let read = move || {
        let waits = cpu::waits_are_counted(&KernelFiles);
        let one = |(pid, vcpus, live): Task| {
            let mut seen = Seen::default();
            let Some(live) = live else { return seen };
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, process::stat(pid).ok()?))) {
                seen.stopped = stat.is_stopped();
                seen.rss = Some(balloon::resident(&stat));
                if wanted.has(VIR_DOMAIN_STATS_CPU_TOTAL) {
                    seen.total = cpu::total(&stat, cpu::polls(&KernelFiles, pid));
                }
                if wanted.has(VIR_DOMAIN_STATS_VCPU) {
                    seen.vcpus = cpu::times(&KernelFiles, pid, &vcpus, waits);
                }
            }
            if wanted.has(VIR_DOMAIN_STATS_INTERFACE) {
                seen.cards = net::rows(&live.devices.interfaces);
            }
            seen
        };
        Ok(tasks.into_iter().map(one).collect())
    };
    blocking::run(read).await.unwrap_or_else(|error| {
        tracing::warn!(?error, "cannot read guests' processes");
        (0..count).map(|_| Seen::default()).collect()
    })
}
