//! A guest saved into a file of the host: its document, then its whole state. It ends afterwards.
//!
//! ```text
//!   Running --> Paused(save) --written, synced, marked whole--> Shutoff(saved)
//!                   |  failed or cancelled: the file goes, the guest runs on
//! ```
//!
//! Until everything stands in the file its first bytes say that it is not whole.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use virt_api::domain::v1alpha1::JobCompletedEvent;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_model::domain::chardev::CharBackend;
use virt_model::domain::seclabel::SeclabelKind;
use virt_model::save::{HEADER, Header, SaveImage};
use virt_model::snapshot::Cookie;
use virt_object::blocking;

use super::dump::{discard, open};
use super::job::Progress;
use super::state::{Kind, Paused, Running, Shutoff, State};
use super::transfer::{self, Cache};
use super::work::Work;
use crate::api::parameters::to_message;
use crate::qmp::Client;
use crate::qmp::commands::{Cont, Stop};

/// The programs that unpack a file's data, by the number in its header.
const UNPACK: [(u32, &str); 4] = [(1, "gzip"), (2, "bzip2"), (3, "xz"), (4, "lzop")];

/// The form in which a document is kept for another start, here or elsewhere.
pub const KEPT: Mode = Mode { migratable: true, ..Mode::CONFIG };

/// Reads what a saved guest's file says of it. The file stands at QEMU's data then. Blocking.
///
/// # Errors
/// Code 38 for a file that cannot be opened; code 9 for one that is no saved guest, or not a whole one.
pub fn read(path: &Path, write: bool) -> Result<(File, SaveImage)> {
    let failed = |e| Error::system(From::Qemu, format!("Failed to open file '{}'", path.display()), e);
    let mut file = File::options().read(true).write(write).open(path).map_err(failed)?;
    let unread = |what: &str, e: std::io::Error| {
        Error::new(Code::OperationFailed, From::Qemu, format!("failed to read {what}")).with_source(e)
    };
    let mut first = Vec::with_capacity(HEADER);
    (&mut file).take(HEADER as u64).read_to_end(&mut first).map_err(|e| unread("qemu header", e))?;
    let header = Header::parse(&first)?;
    let mut rest = Vec::new();
    (&mut file).take(header.length.into()).read_to_end(&mut rest).map_err(|e| unread("domain XML", e))?;
    let image = SaveImage::parse(header, &rest)?;
    let packing = image.header.packing;
    if packing != 0 && !UNPACK.iter().any(|(n, _)| *n == packing) {
        let text = format!("unsupported save image format: {packing}");
        return Err(Error::new(Code::OperationFailed, From::Qemu, text));
    }
    Ok((file, image))
}

/// Whether a save into this file began and did not come to its end. Blocking.
pub fn is_unfinished(path: &Path) -> bool {
    let mut first = [0; 16];
    File::open(path).and_then(|f| f.read_exact_at(&mut first, 0)).is_ok() && Header::is_partial(&first)
}

/// Replaces document and state to resume in; QEMU's data stays. Blocking.
///
/// # Errors
/// Code 9 for a document that is too long; code 38 when the file cannot be written.
pub fn rewrite(path: &Path, file: &File, image: &SaveImage) -> Result<()> {
    let bytes = image.bytes(true)?;
    let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_all());
    written.map_err(|e| {
        Error::system(From::Qemu, format!("failed to write header data to '{}'", path.display()), e)
    })
}

/// A descriptor from which QEMU reads its data. Packed data is unpacked by its own program beside.
///
/// # Errors
/// Code 38 when the program cannot be run.
pub fn data(file: File, packing: u32) -> Result<OwnedFd> {
    let Some((_, program)) = UNPACK.iter().find(|(n, _)| *n == packing) else { return Ok(file.into()) };
    let failed = |e| Error::system(From::Qemu, format!("cannot execute binary {program}"), e);
    let mut child = Command::new(program)
        .args(["-dc"])
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let out = child.stdout.take().map(OwnedFd::from);
    // It ends when QEMU has read all, or has closed its end; somebody must take note of that.
    std::thread::spawn(move || drop(child.wait()));
    out.ok_or_else(|| Error::internal(From::Qemu, format!("no output of {program}")))
}

/// A guest's live document as it is kept for another start: without what belongs to this run. Its channels' sockets are
/// in `channels`.
pub fn kept(live: &Domain, channels: Option<&Path>) -> Domain {
    let mut kept = live.clone();
    for channel in &mut kept.devices.channels {
        let made = |p: &String| channels.is_some_and(|folder| Path::new(p).starts_with(folder));
        if let CharBackend::Unix(socket) = &mut channel.backend
            && socket.path.as_ref().is_some_and(made)
        {
            (socket.path, socket.mode) = (None, None);
        }
    }
    kept.id = None;
    kept.seclabels.retain(|l| l.kind != Some(SeclabelKind::Dynamic) || l.baselabel.is_some());
    kept.devices.graphics.iter_mut().for_each(virt_model::domain::graphics::Graphics::forget_ports);
    kept
}

impl Work {
    /// Saves the guest and ends it. `document` is kept in place of its own.
    ///
    /// # Errors
    /// Code 38 for a file that cannot be made; code 9 with QEMU's reason; code 78 when a client stopped it. The guest goes
    /// on then as it was.
    pub async fn save(
        &mut self,
        to: PathBuf,
        document: Option<String>,
        resume: Option<bool>,
        cache: Cache,
    ) -> Result<()> {
        let monitor = self.monitor()?;
        let was_running = self.state().kind() == Kind::Running;
        let run = self.run()?;
        let live = &run.live;
        let own = || {
            let mut kept = kept(live, Some(&run.held.paths.channels));
            // The document says what was asked for, the cookie what came of it.
            if let Some(planned) = &run.planned_cpu {
                kept.cpu = Some((**planned).clone());
            }
            kept.format(KEPT)
        };
        let text = document.unwrap_or_else(own);
        let cookie = Cookie { cpu: live.cpu.clone(), slirp_helper: true };
        let image = SaveImage::new(text, Some(cookie), resume.unwrap_or(was_running));
        let file = open(&to).await.map_err(|e| cannot_make(&to, e))?;
        let begun = self.begin_save(&monitor, was_running).await;
        let written = match begun {
            Ok(()) => self.write_save(&monitor, image, file, cache).await,
            failed => failed,
        };
        if let Err(error) = written {
            blocking::run(move || {
                discard(&to);
                Ok(())
            })
            .await?;
            if was_running && self.state() == State::Paused(Paused::Save) {
                self.run_on(&monitor).await?;
            }
            return Err(error);
        }
        self.tell_shutdown(false)?;
        self.kill_and_end(Shutoff::Saved, VIR_DOMAIN_EVENT_STOPPED_SAVED).await
    }

    async fn begin_save(&mut self, monitor: &Client, was_running: bool) -> Result<()> {
        if !was_running {
            return Ok(());
        }
        monitor.run(&Stop {}).await?;
        self.become_state(State::Paused(Paused::Save))?;
        self.note_status();
        self.emit_lifecycle(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        Ok(())
    }

    async fn write_save(
        &mut self,
        monitor: &Client,
        image: SaveImage,
        file: File,
        cache: Cache,
    ) -> Result<()> {
        let unwritten = |e| Error::system(From::Qemu, "unable to write the saved guest", e);
        let first = image.bytes(false)?;
        let mut file = blocking::run(move || {
            let mut file = file;
            file.write_all(&first).map_err(unwritten)?;
            Ok(file)
        })
        .await?;
        let shared = self.shared.clone();
        let job = shared.job().begin(Progress::new(VIR_DOMAIN_JOB_OPERATION_SAVE, true));
        transfer::machine(monitor, &file, &job, "domain save job", cache).await?;
        let params = job.complete().into_iter().map(to_message).collect();
        // The data first: a file that says it is whole must be.
        let whole = image.bytes(true)?;
        blocking::run(move || {
            let done = file.flush().and_then(|()| file.sync_all());
            done.and_then(|()| file.write_all_at(&whole[..16], 0))
                .and_then(|()| file.sync_all())
                .and_then(|()| if cache == Cache::Bypassed { transfer::let_go(&file) } else { Ok(()) })
                .map_err(unwritten)
        })
        .await?;
        self.emit(Event::JobCompleted(JobCompletedEvent { params }));
        Ok(())
    }

    async fn run_on(&mut self, monitor: &Client) -> Result<()> {
        monitor.run(&Cont {}).await?;
        self.become_state(State::Running(Running::SaveCanceled))?;
        self.note_status();
        self.emit_lifecycle(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        Ok(())
    }
}

/// The reference's words for a file that cannot be made.
fn cannot_make(path: &Path, error: Error) -> Error {
    let errno = error.errno();
    match errno {
        -1 => error,
        errno => {
            let cause = std::io::Error::from_raw_os_error(errno);
            Error::system(From::Qemu, format!("Failed to create file '{}'", path.display()), cause)
        }
    }
}
