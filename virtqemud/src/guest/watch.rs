//! Watches one run: monitor events and the end of the process become jobs of the guest's owner, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use virt_api::domain::v1alpha1::watch_response::Event as Told;
use virt_api::domain::v1alpha1::{BalloonChangeEvent, PmEvent};
use virt_consts::*;
use virt_error::{Code, Result};
use virt_host::process::Process;
use virt_model::domain::Domain;
use virt_model::domain::chardev::{ChannelTarget, PortState};
use virt_model::domain::misc::WatchdogAction;
use virt_model::domain::tuning::LifecycleAction;
use virt_object::owner::{Class, Spec, Wait};

use super::state::{Crashed, Kind, Paused, Running, Shutoff, State};
use super::translate;
use super::work::Work;
use crate::driver::Driver;
use crate::process::ended::{ended, ends_within};
use crate::process::kill;
use crate::qmp::commands::QueryStatus;
use crate::qmp::{Delivery, Event, Events, is_closed};

/// An event waits for the job before it as long as that takes.
const NO_LIMIT: Wait = Wait::UpTo(Duration::from_secs(365 * 24 * 3600));
/// How long an ended process's last events, or a closed monitor's process, may take to follow.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Watches run `id` of a guest until its process has ended.
pub fn spawn(driver: Arc<Driver>, uuid: Uuid, id: i32, process: Arc<Process>, events: Events) {
    let runtime = driver.kind.runtime.clone();
    runtime.spawn(watch(driver, uuid, id, process, events));
}

async fn watch(driver: Arc<Driver>, uuid: Uuid, id: i32, process: Arc<Process>, mut events: Events) {
    let gone = async {
        if let Err(error) = ended(&process).await {
            // The monitor's end will tell.
            tracing::error!(%error, "cannot watch a process");
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(gone);
    loop {
        tokio::select! {
            biased;
            delivery = events.next() => match delivery {
                Delivery::Closed => break,
                delivery => deliver(&driver, &uuid, id, delivery).await,
            },
            () = &mut gone => break,
        }
    }
    // What QEMU said last is still in the queue, or on its way.
    while let Ok(delivery) = timeout(AFTERMATH, events.next()).await {
        match delivery {
            Delivery::Closed => break,
            delivery => deliver(&driver, &uuid, id, delivery).await,
        }
    }
    if !ends_within(&process, AFTERMATH).await {
        tracing::warn!(%uuid, "a guest closed its monitor and goes on: it is killed");
        if let Err(error) = kill::now(&process).await {
            tracing::error!(?error, %uuid, "a guest without monitor");
        }
    }
    job(&driver, &uuid, id, "end of process", |work| Box::pin(work.process_gone())).await;
}

async fn deliver(driver: &Arc<Driver>, uuid: &Uuid, id: i32, delivery: Delivery) {
    match delivery {
        Delivery::Event(event) => {
            tracing::debug!(%uuid, event = event.name, "monitor event");
            job(driver, uuid, id, "monitor event", |work| Box::pin(work.on_event(event))).await;
        }
        Delivery::Lost(count) => {
            tracing::warn!(%uuid, count, "monitor events were lost");
            job(driver, uuid, id, "lost events", |work| Box::pin(work.resync())).await;
        }
        Delivery::Closed => {}
    }
}

/// Runs `what` on the guest if run `id` is still the current one.
async fn job<F>(driver: &Arc<Driver>, uuid: &Uuid, id: i32, name: &'static str, what: F)
where
    F: for<'a> FnOnce(&'a mut Work) -> futures_util::future::BoxFuture<'a, Result<()>> + Send + 'static,
{
    let Some(guest) = driver.guests.by_uuid(uuid) else { return };
    let spec = Spec::new(name, Class::Query).wait(NO_LIMIT);
    let done = guest.work(spec, move |work| {
        Box::pin(async move {
            if work.run.as_ref().is_none_or(|r| r.id != id) {
                return Ok(());
            }
            what(work).await
        })
    });
    if let Err(error) = done.await {
        let gone = error.code() == Code::NoDomain || is_closed(&error);
        if gone {
            // The guest ended while its last events waited: what follows from the end is told by the end.
            tracing::debug!(?error, %uuid, job = name, "an event of a guest that has ended");
            return;
        }
        tracing::error!(?error, %uuid, job = name, "a monitor event could not be handled");
    }
}

impl Work {
    /// QEMU has ended without being asked.
    async fn process_gone(&mut self) -> Result<()> {
        if self.shared.is_destroying() {
            // The destroy settles it.
            return Ok(());
        }
        match self.state().kind() {
            Kind::Shutdown => self.end(Shutoff::Shutdown, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN).await,
            Kind::Running | Kind::Paused | Kind::Shutoff | Kind::Crashed | Kind::PmSuspended => {
                self.end(Shutoff::Crashed, VIR_DOMAIN_EVENT_STOPPED_FAILED).await;
            }
        }
        Ok(())
    }

    /// Changes what an event says has changed, and passes it on.
    async fn on_event(&mut self, event: Event) -> Result<()> {
        match event.name.as_str() {
            "SHUTDOWN" => self.on_shutdown(&event).await,
            "STOP" => self.on_stop().await,
            "RESUME" => self.on_resume().await,
            "SUSPEND" => self
                .on_pm_suspend(VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY, Told::PmSuspend(PmEvent { reason: 0 })),
            "SUSPEND_DISK" => self
                .on_pm_suspend(VIR_DOMAIN_EVENT_PMSUSPENDED_DISK, Told::PmSuspendDisk(PmEvent { reason: 0 })),
            "WAKEUP" => self.on_wakeup(),
            "GUEST_PANICKED" => self.on_panic(&event).await,
            "WATCHDOG" | "BLOCK_IO_ERROR" => self.on_trouble(&event).await,
            "DEVICE_DELETED" => self.on_device_deleted(&event).await,
            "VSERPORT_CHANGE" => self.on_port(&event),
            "BALLOON_CHANGE" => self.on_balloon(&event),
            "BLOCK_WRITE_THRESHOLD" => crate::live::threshold::passed(self, &event),
            _ => {
                if let (Some(run), Some(told)) = (&self.run, translate::event(&event, self.run_document())) {
                    tracing::trace!(id = run.id, "passed on");
                    self.emit(told);
                }
                Ok(())
            }
        }
    }

    fn run_document(&self) -> Option<&Domain> {
        self.run.as_ref().map(|r| &r.live)
    }

    async fn on_shutdown(&mut self, event: &Event) -> Result<()> {
        let by_guest = event.flag("guest").unwrap_or(false);
        if self.shared.is_destroying() {
            return if self.state().kind() == Kind::Shutdown { Ok(()) } else { self.tell_shutdown(by_guest) };
        }
        if self.run()?.fake_reboot {
            return self.fake_reboot().await;
        }
        self.tell_shutdown(by_guest)?;
        self.note_status();
        let rebooted = matches!(event.text("reason"), Some("guest-reset" | "host-qmp-system-reset"));
        self.after_shutdown(rebooted).await
    }

    /// Does what the document wants after a power off, or after a reset that QEMU was told to stop at.
    pub(super) async fn after_shutdown(&mut self, rebooted: bool) -> Result<()> {
        let action = self.document_action(|d| if rebooted { d.on_reboot } else { d.on_poweroff });
        match action {
            LifecycleAction::Restart | LifecycleAction::RenameRestart | LifecycleAction::CoredumpRestart => {
                self.fake_reboot().await
            }
            LifecycleAction::Preserve => Ok(()),
            LifecycleAction::Destroy | LifecycleAction::CoredumpDestroy => {
                self.kill_and_end(Shutoff::Shutdown, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN).await
            }
        }
    }

    /// The processors stand still. When we stopped them, that is known already.
    async fn on_stop(&mut self) -> Result<()> {
        if self.state().kind() != Kind::Running {
            return Ok(());
        }
        self.resync().await
    }

    async fn on_resume(&mut self) -> Result<()> {
        match self.state().kind() {
            Kind::Paused => self.resync().await,
            Kind::Running | Kind::Shutdown | Kind::Shutoff | Kind::Crashed | Kind::PmSuspended => Ok(()),
        }
    }

    /// Asks QEMU what it does and believes it: an event may be older than the newest change of ours.
    pub(super) async fn resync(&mut self) -> Result<()> {
        let status = self.monitor()?.run(&QueryStatus {}).await?;
        let kind = self.state().kind();
        match (status.running, kind) {
            (true, Kind::Paused | Kind::PmSuspended) => {
                self.become_state(State::Running(Running::Unpaused))?;
                self.note_status();
                self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
            }
            (false, Kind::Running) => {
                let (reason, detail) = match status.status.as_str() {
                    "io-error" => (Paused::IoError, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR),
                    "watchdog" => (Paused::Watchdog, VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG),
                    // Other events tell these.
                    "shutdown" | "guest-panicked" | "suspended" => return Ok(()),
                    _ => (Paused::Unknown, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED),
                };
                self.become_state(State::Paused(reason))?;
                self.note_status();
                self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, detail);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_pm_suspend(&mut self, detail: i32, told: Told) -> Result<()> {
        if self.state().may_become(State::PmSuspended) {
            self.become_state(State::PmSuspended)?;
            self.note_status();
        }
        self.emit(told);
        self.emit_lifecycle(VIR_DOMAIN_EVENT_PMSUSPENDED, detail);
        Ok(())
    }

    fn on_wakeup(&mut self) -> Result<()> {
        if self.state() == State::PmSuspended {
            self.become_state(State::Running(Running::Wakeup))?;
            self.note_status();
            self.emit(Told::PmWakeup(PmEvent { reason: 0 }));
            self.emit_lifecycle(VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_WAKEUP);
        }
        Ok(())
    }

    async fn on_panic(&mut self, event: &Event) -> Result<()> {
        tracing::info!(uuid = %self.uuid, info = %event.data, "a guest panicked");
        if self.state().may_become(State::Crashed(Crashed::Panicked)) {
            self.become_state(State::Crashed(Crashed::Panicked))?;
            self.note_status();
        }
        self.emit_lifecycle(VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
        let action = self.document_action(|d| d.on_crash);
        if matches!(action, LifecycleAction::CoredumpDestroy | LifecycleAction::CoredumpRestart) {
            Box::pin(self.auto_dump()).await;
        }
        match action {
            LifecycleAction::Preserve => Ok(()),
            LifecycleAction::Restart | LifecycleAction::RenameRestart | LifecycleAction::CoredumpRestart => {
                self.fake_reboot().await
            }
            LifecycleAction::Destroy | LifecycleAction::CoredumpDestroy => {
                self.kill_and_end(Shutoff::Crashed, VIR_DOMAIN_EVENT_STOPPED_CRASHED).await
            }
        }
    }

    /// A watchdog or an I/O error; either may have stopped the guest.
    async fn on_trouble(&mut self, event: &Event) -> Result<()> {
        let stopped = match (event.name.as_str(), event.text("action")) {
            ("WATCHDOG", Some("pause")) => Some((Paused::Watchdog, VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG)),
            ("BLOCK_IO_ERROR", Some("stop")) => Some((Paused::IoError, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR)),
            _ => None,
        };
        if let Some(told) = translate::event(event, self.run_document()) {
            self.emit(told);
        }
        if let Some((reason, detail)) = stopped
            && self.state().kind() == Kind::Running
        {
            self.become_state(State::Paused(reason))?;
            self.note_status();
            self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, detail);
            if reason == Paused::Watchdog && self.watchdog_dumps() {
                Box::pin(self.auto_dump()).await;
                return self.resume().await;
            }
        }
        Ok(())
    }

    /// The document wants a dump where QEMU only paused the guest.
    fn watchdog_dumps(&self) -> bool {
        let first = self.run.as_ref().and_then(|r| r.live.devices.watchdogs.first());
        first.is_some_and(|w| w.action == WatchdogAction::Dump)
    }

    /// The guest let a device go, now or long after it was asked to.
    async fn on_device_deleted(&mut self, event: &Event) -> Result<()> {
        let Some(alias) = event.text("device") else { return Ok(()) };
        Box::pin(crate::live::plug::gone(self, alias)).await?;
        if let Some(told) = translate::event(event, self.run_document()) {
            self.emit(told);
        }
        Ok(())
    }

    /// Somebody in the guest opened or closed a channel.
    fn on_port(&mut self, event: &Event) -> Result<()> {
        let (Some(alias), Some(open)) = (event.text("id"), event.flag("open")) else { return Ok(()) };
        let told = translate::event(event, self.run_document());
        let state = if open { PortState::Connected } else { PortState::Disconnected };
        let run = self.run()?;
        let mut changed = false;
        for channel in &mut run.live.devices.channels {
            if let (true, Some(ChannelTarget::Virtio(target))) =
                (channel.info.alias.as_deref() == Some(alias), &mut channel.target)
            {
                changed |= target.state != Some(state);
                target.state = Some(state);
            }
        }
        if changed {
            self.publish_live()?;
            if let Some(told) = told {
                self.emit(told);
            }
        }
        Ok(())
    }

    fn on_balloon(&mut self, event: &Event) -> Result<()> {
        let Some(bytes) = event.data.get("actual").and_then(serde_json::Value::as_u64) else { return Ok(()) };
        let actual = bytes / 1024;
        self.run()?.live.current_memory = Some(virt_model::Size::from_kib(actual));
        self.publish_live()?;
        self.emit(Told::BalloonChange(BalloonChangeEvent { actual }));
        Ok(())
    }
}
