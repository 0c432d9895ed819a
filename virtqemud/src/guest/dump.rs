//! A guest's memory written into a file of the host: on request, or because the guest crashed.
//!
//! ```text
//!   Running --(not --live)--> Paused(dump) --written--> resumed, reset, or ended (--crash)
//! ```
//!
//! The file is opened here and handed to QEMU as a descriptor: QEMU's user may write anywhere but there. The memory alone
//! comes from QEMU's dump code; the whole machine is a migration into a pipe, which is copied into the file.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use virt_api::domain::v1alpha1::JobCompletedEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::blocking;

use super::job::{Progress, Running as RunningJob};
use super::state::{Kind, Paused, Running, Shutoff, State};
use super::transfer::{self, Cache};
use super::work::Work;
use crate::api::parameters::to_message;
use crate::process::ended::blocking as off;
use crate::process::kill::{self, Ended};
use crate::process::paths::short_name;
use crate::qmp;
use crate::qmp::Client;
use crate::qmp::commands::{Cont, Stop, SystemReset};

/// What a dump is like.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The file.
    pub to: PathBuf,
    /// QEMU's name of the format; `None` for the whole machine's state.
    pub format: Option<&'static str>,
    /// The guest goes on meanwhile, as far as it can.
    pub live: bool,
    /// It ends afterwards.
    pub crash: bool,
    /// It is reset afterwards.
    pub reset: bool,
    /// What is written does not stay in the host's cache.
    pub bypass_cache: bool,
}

fn failed(text: impl Into<String>) -> Error {
    Error::new(Code::OperationFailed, From::Qemu, text)
}

impl Work {
    /// Writes the dump and does what shall follow. A file that is not whole is removed.
    ///
    /// # Errors
    /// Code 38 for a file that cannot be made, code 9 with QEMU's reason, code 78 when a client stopped it.
    pub async fn core_dump(&mut self, how: &Dump) -> Result<()> {
        let monitor = self.monitor()?;
        let was_running = self.state().kind() == Kind::Running;
        let file = open(&how.to).await?;
        if was_running && !how.live {
            monitor.run(&Stop {}).await?;
            self.become_state(State::Paused(Paused::Dump))?;
            self.note_status();
            self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        }
        let written = self.write(&monitor, how, file).await;
        if written.is_err() {
            let file = how.to.clone();
            off(move || discard(&file)).await?;
        }
        if how.crash && written.is_ok() {
            return self.end_crashed().await;
        }
        let resumed = if was_running { self.go_on(&monitor, how, written.is_ok()).await } else { Ok(()) };
        written.and(resumed)
    }

    async fn write(&mut self, monitor: &Client, how: &Dump, file: File) -> Result<()> {
        let shared = self.shared.clone();
        match how.format {
            Some(format) => {
                let job = shared.job().begin(Progress::new(VIR_DOMAIN_JOB_OPERATION_DUMP, false));
                memory(monitor, format, &file, &job).await?;
                drop(job);
            }
            None => {
                let job = shared.job().begin(Progress::new(VIR_DOMAIN_JOB_OPERATION_DUMP, true));
                let cache = Cache::bypassed(how.bypass_cache);
                transfer::machine(monitor, &file, &job, "domain core dump job", cache).await?;
                let params = job.complete().into_iter().map(to_message).collect();
                self.emit(Event::JobCompleted(JobCompletedEvent { params }));
            }
        }
        let (to, bypass_cache) = (how.to.display().to_string(), how.bypass_cache);
        blocking::run(move || {
            let done = file.sync_all();
            let done = done.and_then(|()| if bypass_cache { transfer::let_go(&file) } else { Ok(()) });
            done.map_err(|e| Error::system(From::Qemu, format!("unable to write '{to}'"), e))
        })
        .await
    }

    /// The guest that stood still for its dump runs again.
    async fn go_on(&mut self, monitor: &Client, how: &Dump, written: bool) -> Result<()> {
        if how.reset && written {
            monitor.run(&SystemReset {}).await?;
        }
        monitor.run(&Cont {}).await?;
        if how.live {
            // It stood still for the last part.
            self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        }
        if self.state().kind() != Kind::Running {
            self.become_state(State::Running(Running::Unpaused))?;
        }
        self.note_status();
        self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        Ok(())
    }

    async fn end_crashed(&mut self) -> Result<()> {
        if kill::end(&self.shared.clone(), false).await? == Ended::Asked {
            self.tell_shutdown(false)?;
        }
        self.end(Shutoff::Crashed, VIR_DOMAIN_EVENT_STOPPED_CRASHED).await;
        Ok(())
    }

    /// Writes the memory of a guest that has just crashed into the folder for such dumps. What goes wrong is logged: the
    /// guest's end must not depend on it.
    pub(super) async fn auto_dump(&mut self) {
        let Some(id) = self.run.as_ref().map(|r| r.id) else { return };
        let folder = match &self.driver.settings.auto_dump_path {
            Some(folder) => PathBuf::from(folder),
            None => self.driver.folders.lib.join("dump"),
        };
        let name = self.published().value.name.clone();
        let to = folder.join(dump_name(id, &name, SystemTime::now()));
        let how = Dump {
            to: to.clone(),
            format: Some("elf"),
            live: true,
            crash: false,
            reset: false,
            bypass_cache: false,
        };
        let made = off(move || private_folder(&folder)).await;
        let written = async {
            made??;
            let monitor = self.monitor()?;
            let file = open(&how.to).await?;
            self.write(&monitor, &how, file).await
        };
        match written.await {
            Ok(()) => {
                tracing::info!(uuid = %self.uuid, file = %to.display(), "wrote a guest's memory")
            }
            Err(error) => {
                tracing::error!(?error, file = %to.display(), "Unable to take core dump of domain '{name}'");
                discard(&to);
            }
        }
    }
}

/// "1-vm1-2026-11-21-08:04:13", as the reference names them.
fn dump_name(id: i32, name: &str, at: SystemTime) -> String {
    let stamp = crate::process::log::stamp(at);
    let second = stamp.split('.').next().unwrap_or(&stamp).replace(' ', "-");
    format!("{}-{second}", short_name(id, name))
}

/// Removes a file that is not whole. A device that was written to stays.
pub(super) fn discard(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_file()) {
        drop(std::fs::remove_file(path));
    }
}

fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::system(From::Qemu, format!("Cannot create directory '{}'", folder.display()), e))
}

/// Makes the file, or empties the one that is there. Only its owner may read a guest's memory.
pub(super) async fn open(path: &Path) -> Result<File> {
    let path = path.to_path_buf();
    blocking::run(move || {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        let failed = |e| Error::system(From::Qemu, format!("Failed to create file '{}'", path.display()), e);
        open.open(&path).map_err(failed)
    })
    .await
}

/// Guest memory by QEMU's dump code.
async fn memory(monitor: &Client, format: &str, file: &File, job: &RunningJob<'_>) -> Result<()> {
    let dump_failed = |e: qmp::Error| match e {
        qmp::Error::Refused { text, .. } => failed(format!("memory-only dump failed: {text}")),
        e => e.into(),
    };
    let known =
        monitor.run_untyped("query-dump-guest-memory-capability", &Value::Null).await.map_err(dump_failed)?;
    if !known["formats"].as_array().is_some_and(|f| f.iter().any(|f| f == format)) {
        let text = format!("unsupported dumpformat '{format}' for this QEMU binary");
        return Err(Error::new(Code::OperationUnsupported, From::Qemu, text));
    }
    transfer::give(monitor, file.try_clone().map(OwnedFd::from)).await?;
    let protocol = format!("fd:{}", transfer::NAME);
    let mut command = json!({"paging": false, "protocol": protocol, "detach": true, "format": format});
    if format == "elf"
        && let Some(map) = command.as_object_mut()
    {
        // The default, which every QEMU takes.
        map.remove("format");
    }
    if let Err(error) = monitor.run_untyped("dump-guest-memory", &command).await {
        transfer::take_back(monitor).await;
        return Err(dump_failed(error));
    }
    let mut watch = transfer::Watch::new();
    loop {
        tokio::time::sleep(transfer::LOOK).await;
        let now = monitor.run_untyped("query-dump", &Value::Null).await?;
        let number = |key: &str| now[key].as_u64().unwrap_or(0);
        job.tell(|p| p.set_memory(number("total"), number("completed")));
        match now["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("active") => watch.moved(number("completed"))?,
            _ => return Err(failed("memory-only dump failed: unknown error")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn automatic_dumps_are_named_by_guest_and_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        assert_eq!(dump_name(3, "vm1", at), "3-vm1-2009-02-13-23:31:30");
    }
}
