//! The end of a run: who ends it, what is released, what is told.

use std::sync::Arc;
use std::time::Duration;

use virt_consts::*;
use virt_error::Result;
use virt_object::owner::{Class, Spec};

use super::shared::Shared;
use super::state::{Kind, Shutdown, Shutoff, State};
use super::work::{Held, Work};
use super::{Guest, not_running};
use crate::process::ended::blocking;
use crate::process::kill::{self, Ended};
use crate::process::{log, sockets, tpm};

/// How long the job that runs may go on after its guest was killed: its monitor calls fail at once.
const GRACE: Duration = Duration::from_secs(5);

/// Ends a guest whatever it does.
///
/// Errors: it does not run; its process does not end.
pub async fn destroy(guest: &Guest, graceful: bool) -> Result<()> {
    if !guest.published().value.is_active() {
        return Err(not_running());
    }
    let spec = Spec::new("destroy", Class::Destroy);
    let act = move |shared: Arc<Shared>| async move {
        shared.set_destroying(true);
        let ended = kill::end(&shared, graceful).await;
        match ended {
            Ok(how) => shared.set_ended(how),
            Err(_) => shared.set_destroying(false),
        }
        ended.map(drop)
    };
    guest.owner().kill(spec, GRACE, act, |work| Box::pin(work.settle_destroyed())).await
}

impl Work {
    /// The process was ended by a destroy.
    async fn settle_destroyed(&mut self) -> Result<()> {
        let asked = self.shared.ended() == Some(Ended::Asked);
        if self.run.is_none() && self.unreached.is_none() {
            return Ok(());
        }
        if asked && self.state().kind() != Kind::Shutdown {
            self.tell_shutdown(false)?;
        }
        self.end(Shutoff::Destroyed, VIR_DOMAIN_EVENT_STOPPED_DESTROYED).await;
        Ok(())
    }

    /// The guest has powered itself off, or QEMU was asked to end.
    pub(super) fn tell_shutdown(&mut self, by_guest: bool) -> Result<()> {
        if self.state().may_become(State::Shutdown(Shutdown::Unknown)) {
            self.become_state(State::Shutdown(Shutdown::Unknown))?;
        }
        let detail = if by_guest { VIR_DOMAIN_EVENT_SHUTDOWN_GUEST } else { VIR_DOMAIN_EVENT_SHUTDOWN_HOST };
        self.emit_lifecycle(VIR_DOMAIN_EVENT_SHUTDOWN, detail);
        Ok(())
    }

    /// Ends QEMU and the run.
    pub(super) async fn kill_and_end(&mut self, reason: Shutoff, detail: i32) -> Result<()> {
        kill::end(&self.shared.clone(), false).await?;
        self.end(reason, detail).await;
        Ok(())
    }

    /// The process has ended: releases what the run held, publishes, tells. A transient guest is forgotten.
    pub(super) async fn end(&mut self, reason: Shutoff, detail: i32) {
        let run = self.run.take();
        let Some(held) = run.map(|r| r.held).or(self.unreached.take().map(|held| *held)) else { return };
        self.shared.clear();
        release(self, held, reason).await;
        self.driver.guests.set_id(&self.uuid, None);
        // Events carry the number the guest had: tell before it is gone from the snapshot.
        let before = self.published();
        if let Err(error) = self.become_state(State::Shutoff(reason)) {
            tracing::error!(?error, "a guest that ended");
        }
        self.publish(|p| {
            p.id = None;
            p.pid = None;
            p.vcpus = Arc::default();
            p.live = None;
            p.updated = false;
        });
        let event = virt_api::domain::v1alpha1::LifecycleEvent { event: VIR_DOMAIN_EVENT_STOPPED, detail };
        let event = virt_api::domain::v1alpha1::watch_response::Event::Lifecycle(event);
        self.driver.emit(&self.uuid, &before.value, event);
        if !before.value.is_persistent() {
            self.driver.guests.remove(&self.uuid);
            let keeps = before.value.live.as_ref().is_none_or(|live| tpm::keeps_state(live));
            if !keeps {
                let (folders, uuid) = (self.driver.folders.clone(), self.uuid);
                drop(blocking(move || tpm::forget(&folders, &uuid)).await);
            }
        }
    }
}

/// Gives back what a run held. The status file goes last, after the control group: a daemon that dies in the middle
/// finds the rest by it.
async fn release(work: &Work, held: Held, reason: Shutoff) {
    let Held { paths, group, given, sockets, _ports, cards } = held;
    let dac = work.driver.dac;
    let files = [paths.pid_file.clone(), paths.status.clone()];
    let (tpm_socket, tpm_pid) = (paths.tpm_socket.clone(), paths.tpm_pid.clone());
    let done = blocking(move || {
        if let Err(error) = log::end(&paths.log, reason.name()) {
            tracing::warn!(%error, log = %paths.log.display(), "cannot write to a guest's log");
        }
        given.back(&dac);
        sockets::remove(&sockets);
        for dir in [&paths.lib, &paths.channels, &paths.memory] {
            quietly(std::fs::remove_dir_all(dir), dir);
        }
    });
    if let Err(error) = done.await {
        tracing::error!(?error, "releasing what a guest held");
    }
    // It has left with QEMU, which it only waits for.
    tpm::end(tpm_socket, tpm_pid).await;
    for card in cards {
        card.release(&work.driver.networks).await;
    }
    if let Err(error) = kill::remove_group(group).await {
        tracing::warn!(?error, "releasing what a guest held");
    }
    let done = blocking(move || {
        for file in &files {
            quietly(std::fs::remove_file(file), file);
        }
    });
    if let Err(error) = done.await {
        tracing::error!(?error, "removing a guest's status");
    }
}

fn quietly(done: std::io::Result<()>, path: &std::path::Path) {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove what a guest left");
        }
        _ => {}
    }
}
