//! Emulated TPMs: a swtpm beside each guest that has one.
//!
//! Its state is in a folder by the guest's UUID and version of TPM, made once by swtpm_setup; the process is started
//! before QEMU, which talks to it by a socket, and ends by itself when QEMU's connection ends. Folders, files and
//! arguments are libvirt's own, so that a host can switch over and back.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use uuid::Uuid;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::process::Process;
use virt_host::tool::{HostTools, Run, Tools};
use virt_model::domain::Domain;
use virt_model::domain::tpm::{PcrBanks, TpmBackend, TpmEmulator, TpmVersion};
use virt_object::undo::Undo;

use super::dac::Owner;
use super::ended::{blocking, ends_within};
use super::paths::{Folders, MAX_SOCKET, RunPaths};
use crate::settings::Settings;

/// Making keys and certificates takes seconds, on a busy host many.
const SETUP: Duration = Duration::from_secs(120);
/// swtpm is ready when its first process ends.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to write its state out after QEMU has left.
const LEAVE: Duration = Duration::from_secs(2);

/// The guest's emulated TPM, if it has one.
pub fn emulated(domain: &Domain) -> Option<&TpmEmulator> {
    domain.devices.tpms.iter().find_map(|t| match &t.backend {
        Some(TpmBackend::Emulator(e)) => Some(e),
        _ => None,
    })
}

/// Whether the state stays although nobody knows the guest any more.
pub fn keeps_state(domain: &Domain) -> bool {
    emulated(domain).is_some_and(|e| e.persistent_state == Some(true))
}

/// Removes the state of a guest's TPM. Blocking.
pub fn forget(folders: &Folders, uuid: &Uuid) {
    let dir = folders.tpm_states().join(uuid.to_string());
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %dir.display(), "cannot remove the state of a TPM");
    }
}

fn system(what: impl std::fmt::Display, e: io::Error) -> Error {
    Error::system(From::Qemu, what, e)
}

/// A folder with this mode and owner; one that is there keeps both.
fn folder(dir: &Path, mode: u32, owner: Option<Owner>) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
        .and_then(|()| owner.map_or(Ok(()), |o| chown(dir, Some(o.uid), Some(o.gid))))
        .map_err(|e| system(format!("Could not create TPM directory {}", dir.display()), e))
}

/// What one swtpm is about.
struct Plan<'a> {
    tpm: &'a TpmEmulator,
    state: PathBuf,
    log: PathBuf,
    socket: &'a Path,
    pid_file: &'a Path,
    /// "NAME:UUID", for the certificates.
    identity: String,
    /// Whom it runs as.
    user: Option<Owner>,
    /// The same by name.
    runas: Option<&'a str>,
    /// Whose QEMU connects.
    qemu: Option<Owner>,
}

/// Starts the TPM of a guest that has one; true if so. Blocking.
///
/// # Errors
/// Code 67 for a name that swtpm's options cannot hold; code 38 for folders that cannot be made and for programs that
/// are not installed; code 1 with what swtpm or swtpm_setup said.
pub fn start(
    folders: &Folders,
    settings: &Settings,
    live: &Domain,
    paths: &RunPaths,
    qemu: Option<Owner>,
    undo: &mut Undo,
) -> Result<bool> {
    let Some(tpm) = emulated(live) else { return Ok(false) };
    let (name, uuid) = (live.name.clone().unwrap_or_default(), live.uuid.unwrap_or_default());
    if name.contains([',', '\n']) {
        let text = format!("an emulated TPM cannot be given to a guest named '{name}'");
        return Err(Error::new(Code::ConfigUnsupported, From::Qemu, text));
    }
    if paths.tpm_socket.as_os_str().len() > MAX_SOCKET {
        let text = format!("UNIX socket path '{}' too long", paths.tpm_socket.display());
        return Err(Error::internal(From::Qemu, text));
    }
    let user = settings.swtpm.as_ref().map(|u| u.owner);
    let own = folders.tpm_states().join(uuid.to_string());
    let version = if is_two(tpm) { "tpm2" } else { "tpm1.2" };
    let plan = Plan {
        tpm,
        state: own.join(version),
        log: folders.tpm_logs().join(format!("{name}-swtpm.log")),
        socket: &paths.tpm_socket,
        pid_file: &paths.tpm_pid,
        identity: format!("{name}:{uuid}"),
        user,
        runas: settings.swtpm.as_ref().map(|u| u.name.as_str()),
        qemu,
    };
    folder(&folders.tpm_states(), 0o711, None)?;
    let fresh = !own.is_dir();
    folder(&own, 0o711, None)?;
    if fresh {
        let own = own.clone();
        undo.add("state of the TPM", move || match fs::remove_dir_all(&own) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(system(format!("cannot remove '{}'", own.display()), e))
            }
            _ => Ok(()),
        });
    }
    folder(&plan.state, 0o700, user)?;
    folder(&folders.tpm_logs(), 0o711, user)?;
    if let Some(dir) = paths.tpm_socket.parent() {
        let shared = user.zip(qemu).map(|(swtpm, qemu)| Owner { uid: qemu.uid, gid: swtpm.gid });
        folder(dir, 0o770, shared)?;
    }
    plan.log_file()?;
    plan.set_up()?;
    let (socket, pid_file) = (paths.tpm_socket.clone(), paths.tpm_pid.clone());
    undo.add_async("TPM", move || async move {
        end(socket, pid_file).await;
        Ok(())
    });
    plan.run()?;
    Ok(true)
}

fn is_two(tpm: &TpmEmulator) -> bool {
    tpm.version != Some(TpmVersion::V1_2)
}

fn banks(b: &PcrBanks) -> String {
    let all = [(b.sha1, "sha1"), (b.sha256, "sha256"), (b.sha384, "sha384"), (b.sha512, "sha512")];
    all.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

impl Plan<'_> {
    /// Both programs open their log before they become the other user.
    fn log_file(&self) -> Result<()> {
        let opened = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        opened
            .and_then(|file| self.user.map_or(Ok(()), |o| fchown(file, Some(o.uid), Some(o.gid))))
            .map_err(|e| system(format!("Unable to open file: {}", self.log.display()), e))
    }

    /// Makes the TPM on its first start, and brings its banks of registers in line on every one.
    fn set_up(&self) -> Result<()> {
        let banks = self.tpm.active_pcr_banks.as_ref().map(banks).filter(|b| !b.is_empty());
        let made = fs::read_dir(&self.state)
            .map_err(|e| system(format!("cannot read '{}'", self.state.display()), e))?
            .flatten()
            .any(|e| e.path().extension().is_some_and(|x| x == "permall"));
        if made && banks.is_none() {
            return Ok(());
        }
        let mut run = Run::new("swtpm_setup", From::Qemu).deadline(SETUP);
        if let Some(user) = self.runas {
            run = run.args(["--runas", user]);
        }
        if is_two(self.tpm) {
            run = run.arg("--tpm2");
        }
        run = run.arg("--tpm-state").arg(self.state.as_os_str()).arg("--logfile").arg(self.log.as_os_str());
        if let Some(banks) = banks {
            run = run.args(["--pcr-banks".to_string(), banks]);
        }
        run = match made {
            true => run.arg("--reconfigure"),
            false => run
                .args(["--vmid", &self.identity, "--createek", "--create-ek-cert", "--create-platform-cert"])
                .args(["--lock-nvram", "--not-overwrite"]),
        };
        HostTools.run(&run).map(drop).map_err(|e| {
            let log = self.log.display();
            Error::internal(
                From::Qemu,
                format!("Could not run 'swtpm_setup'. Check error log '{log}' for details."),
            )
            .with_source(e)
        })
    }

    /// Starts the process; it is in the background when this returns, and its socket is there.
    fn run(&self) -> Result<()> {
        let control = format!("type=unixio,path={},mode=0600", self.socket.display());
        let mut log = format!("file={}", self.log.display());
        if let Some(level) = self.tpm.debug.filter(|l| *l > 0) {
            log.push_str(&format!(",level={level}"));
        }
        let mut run = Run::new("swtpm", From::Qemu)
            .deadline(READY)
            .args(["socket", "--ctrl", &control])
            .args(["--tpmstate", &format!("dir={},mode=0600", self.state.display())])
            .args(["--log", &log, "--terminate"])
            .args(["--daemon", "--pid", &format!("file={}", self.pid_file.display())]);
        if let Some(user) = self.runas {
            run = run.args(["--runas", user]);
        }
        if is_two(self.tpm) {
            run = run.arg("--tpm2");
        }
        HostTools.run(&run)?;
        // It made the socket as its own user, who may not give it away.
        self.qemu
            .map_or(Ok(()), |o| chown(self.socket, Some(o.uid), Some(o.gid)))
            .map_err(|e| system(format!("unable to set ownership of '{}'", self.socket.display()), e))
    }
}

/// Makes sure that a guest's swtpm is gone, and its files. It leaves by itself when QEMU does.
pub async fn end(socket: PathBuf, pid_file: PathBuf) {
    let files = (socket.clone(), pid_file.clone());
    let found = blocking(move || running(&files.0, &files.1)).await;
    if let Ok(Some(process)) = found
        && !ends_within(&process, LEAVE).await
    {
        tracing::info!(pid = process.pid(), "ending a TPM that did not leave with its guest");
        drop(process.signal(Signal::KILL));
        ends_within(&process, LEAVE).await;
    }
    let removed = blocking(move || {
        for path in [socket, pid_file] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %path.display(), "cannot remove what a TPM left");
                }
                _ => {}
            }
        }
    });
    drop(removed.await);
}

/// The process that serves a socket. A number may belong to somebody else by now: one that does not name the socket is
/// not ours.
fn running(socket: &Path, pid_file: &Path) -> Option<Process> {
    let number: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let process = Process::open(number).ok().filter(|_| number > 1)?;
    serves(process.pid(), socket).then_some(process)
}

fn serves(pid: i32, socket: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = [b"path=", socket.as_os_str().as_bytes()].concat();
    line.windows(wanted.len().max(1)).any(|w| w == wanted)
}
