//! The server's process: started, told of changes, stopped, and found again after a restart of the daemon.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use virt_error::{Domain, Error, Result};
use virt_object::store::write_whole;

use super::Files;
use super::conf::Texts;

/// How long the server may take to come up.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(3);
/// dnsmasq's exit status for an address in use.
const NETWORK_TROUBLE: i32 = 2;
/// How often a start is tried while an address is in use, and the time between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// The helper's environment: which bridge's leases, and where they are.
pub const BRIDGE_VAR: &str = "VIR_BRIDGE_NAME";
/// The folder of lease files, where it is not the usual one.
pub const LEASES_VAR: &str = "VIRTD_LEASES_DIR";

/// Writes the server's files.
///
/// # Errors
/// Code 38 when one cannot be written.
pub fn write(files: &Files, texts: &Texts) -> Result<()> {
    let all =
        [(files.hosts(), &texts.hosts), (files.addn_hosts(), &texts.addn_hosts), (files.conf(), &texts.conf)];
    for (path, text) in all {
        // dnsmasq reads its host files again after it has dropped its rights.
        write_whole(&path, &[text.as_bytes()], false)
            .and_then(|()| {
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            })
            .map_err(|e| {
                Error::system(Domain::None, format!("cannot write config file '{}'", path.display()), e)
            })?;
    }
    Ok(())
}

/// Removes the server's files and the leases.
pub fn remove(files: &Files, bridge: &str) {
    for path in [
        files.hosts(),
        files.addn_hosts(),
        files.conf(),
        files.pid(),
        files.leases(bridge),
        files.lease_lock(bridge),
    ] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove");
        }
    }
}

/// Starts the server and waits until it serves. An address that an ending server still holds is waited for.
///
/// # Errors
/// Code 1 with what the server said, code 38 when it cannot be started.
pub async fn start(files: &Files, bridge: &str, helper: &Path) -> Result<()> {
    let mut tries = 0;
    loop {
        let verdict = attempt(files, bridge, helper).await?;
        if verdict.code == Some(0) {
            return Ok(());
        }
        tries += 1;
        if verdict.code == Some(NETWORK_TROUBLE) && tries < TRIES {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let (program, conf) = (program(), files.conf());
        let text = format!(
            "Child process ({} --conf-file={}) unexpected exit status: {}",
            program.display(),
            conf.display(),
            verdict.said.trim()
        );
        return Err(Error::internal(Domain::None, text));
    }
}

/// How a start ended.
struct Verdict {
    code: Option<i32>,
    said: String,
}

async fn attempt(files: &Files, bridge: &str, helper: &Path) -> Result<Verdict> {
    use tokio::io::AsyncReadExt;
    let program = program();
    let mut command = Command::new(&program);
    command
        .arg(format!("--conf-file={}", files.conf().display()))
        .arg("--leasefile-ro")
        .arg(format!("--dhcp-script={}", helper.display()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env(BRIDGE_VAR, bridge)
        .env(LEASES_VAR, files.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let failed = |e| Error::system(Domain::None, format!("Cannot find '{}' in path", program.display()), e);
    let mut child = command.spawn().map_err(failed)?;
    let stderr = child.stderr.take();
    // It forks once it serves; the first process ends with its verdict then.
    let ended = tokio::time::timeout(START, child.wait()).await;
    let late = |_| Error::internal(Domain::None, "dnsmasq did not start in time");
    let status =
        ended.map_err(late)?.map_err(|e| Error::system(Domain::None, "cannot wait for dnsmasq", e))?;
    let mut said = Vec::new();
    if let Some(stderr) = stderr.filter(|_| !status.success()) {
        // The daemon's own copy of the pipe stays open on success; on failure all ends are closed.
        let _ = tokio::time::timeout(END, stderr.take(4096).read_to_end(&mut said)).await;
    }
    Ok(Verdict { code: status.code(), said: String::from_utf8_lossy(&said).into_owned() })
}

fn program() -> PathBuf {
    let places = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq", "/usr/local/sbin/dnsmasq"];
    places.iter().map(Path::new).find(|p| p.exists()).unwrap_or(Path::new("dnsmasq")).into()
}

/// The server's process, if it lives and is the one of these files.
pub fn running(files: &Files) -> Option<Pid> {
    let pid: i32 = std::fs::read_to_string(files.pid()).ok()?.trim().parse().ok()?;
    if pid <= 1 {
        return None;
    }
    // A number may have gone to another process: its command line tells.
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = format!("--conf-file={}", files.conf().display());
    line.split(|b| *b == 0).any(|word| word == wanted.as_bytes()).then(|| Pid::from_raw(pid))
}

/// Has the server read its host files again; false when it does not run.
pub fn reload(files: &Files) -> bool {
    running(files).is_some_and(|pid| kill(pid, Signal::SIGHUP).is_ok())
}

/// Whether a process has let go of everything: it is gone, or waits for its parent to notice.
fn ended(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Ends the server and waits for its end.
pub async fn stop(files: &Files) {
    let Some(pid) = running(files) else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if kill(pid, signal).is_err() {
            break;
        }
        let deadline = tokio::time::Instant::now() + END;
        while !ended(pid) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if ended(pid) {
            break;
        }
    }
    let _ = std::fs::remove_file(files.pid());
}
