//! Suspend, resume, reset, power button.

use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::tuning::LifecycleAction;

use super::state::{Kind, Paused, Running, State};
use super::work::Work;
use super::{not_running, not_running_qemu};
use crate::qmp::commands::{Cont, Stop, SystemPowerdown, SystemReset, SystemWakeup};

fn invalid(text: &str) -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, text)
}

impl Work {
    /// Stops the processors. A guest that stands still already is no fault.
    pub async fn suspend(&mut self) -> Result<()> {
        self.run()?;
        match self.state().kind() {
            Kind::PmSuspended => return Err(invalid("domain is pmsuspended")),
            Kind::Paused => return Ok(()),
            Kind::Shutoff => return Err(not_running()),
            Kind::Running | Kind::Shutdown | Kind::Crashed => {}
        }
        self.tell(&Stop {}).await?;
        self.become_state(State::Paused(Paused::User))?;
        self.note_status();
        self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        Ok(())
    }

    /// Starts the processors again.
    pub async fn resume(&mut self) -> Result<()> {
        self.run()?;
        match self.state().kind() {
            Kind::PmSuspended => return Err(invalid("domain is pmsuspended")),
            Kind::Running => return Err(invalid("domain is already running")),
            Kind::Shutoff => return Err(not_running()),
            Kind::Paused | Kind::Shutdown | Kind::Crashed => {}
        }
        self.tell(&Cont {}).await?;
        self.become_state(State::Running(Running::Unpaused))?;
        self.note_status();
        self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        Ok(())
    }

    /// The reset button.
    pub async fn reset(&mut self) -> Result<()> {
        self.tell(&SystemReset {}).await?;
        self.forget_fake_reboot()?;
        if self.state().kind() == Kind::Crashed {
            self.become_state(State::Paused(Paused::Crashed))?;
            self.note_status();
        }
        Ok(())
    }

    /// Presses the power button; the guest decides what follows.
    pub async fn power_button(&mut self, reboot: bool) -> Result<()> {
        self.run().map_err(|e| if reboot { e } else { not_running_qemu() })?;
        if !reboot && self.state().kind() != Kind::Running {
            return Err(not_running_qemu());
        }
        let restart = self.document_action(|d| d.on_poweroff) == LifecycleAction::Restart;
        self.set_fake_reboot(reboot || restart)?;
        self.tell(&SystemPowerdown {}).await?;
        Ok(())
    }

    /// Wakes a guest that suspended itself.
    pub async fn wake_up(&mut self) -> Result<()> {
        self.tell(&SystemWakeup {}).await?;
        Ok(())
    }

    pub(super) fn set_fake_reboot(&mut self, on: bool) -> Result<()> {
        let run = self.run()?;
        if run.fake_reboot == on {
            return Ok(());
        }
        run.fake_reboot = on;
        let saved = self.save_status();
        if saved.is_err() {
            self.run()?.fake_reboot = !on;
        }
        saved
    }

    /// The reboot has happened, or another reset in its place; that stays true when it cannot be noted.
    fn forget_fake_reboot(&mut self) -> Result<()> {
        if std::mem::take(&mut self.run()?.fake_reboot) {
            self.note_status();
        }
        Ok(())
    }

    /// Resets the machine of a guest that has powered itself off, and lets it run again.
    pub(super) async fn fake_reboot(&mut self) -> Result<()> {
        let monitor = self.monitor()?;
        self.forget_fake_reboot()?;
        monitor.run(&SystemReset {}).await?;
        monitor.run(&Cont {}).await?;
        if self.state().kind() != Kind::Running {
            self.become_state(State::Running(Running::Booted))?;
            self.note_status();
            self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        }
        Ok(())
    }

    pub(super) fn document_action(
        &self,
        which: impl Fn(&virt_model::domain::Domain) -> Option<LifecycleAction>,
    ) -> LifecycleAction {
        self.run.as_ref().and_then(|r| which(&r.live)).unwrap_or(LifecycleAction::Destroy)
    }
}
