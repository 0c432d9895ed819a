//! What the program `virt-launch` does: one request, one process, one answer.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::process::{PidfdFlags, Resource as Kernel, Rlimit};

use crate::request::{Failure, Limit, Outcome, Request, Resource, Step, User};
use crate::transfer;

type Result<T> = std::result::Result<T, Failure>;

/// Closes what the daemon leaked into us, all but the three standard descriptors. Call it before anything is opened.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for number in open.into_iter().filter(|n| *n > 2) {
        // The folder's own descriptor is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Serves the one request of the socket on standard input.
pub fn serve(socket: &UnixStream) -> io::Result<()> {
    let (outcome, lock) = match transfer::receive::<Request>(socket) {
        Ok((request, mut fds)) => {
            let locked = request.lock && fds.len() == request.descriptors();
            let lock = locked.then(|| fds.pop()).flatten();
            (start(&request, fds), lock)
        }
        Err(e) => (Err(failure(Step::Request, e, "")), None),
    };
    let answered = match outcome {
        Ok((child, pidfd)) => {
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            // If the daemon went away, the guest must not run unknown to anybody.
            transfer::send(socket, &Outcome::Started { pid }, &[pidfd]).inspect_err(|_| end(child))
        }
        Err(failure) => transfer::send(socket, &Outcome::Failed(failure), &[]),
    };
    // Held until nothing can happen any more.
    drop(lock);
    answered
}

fn end(mut child: Child) {
    // Both fail only when it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn start(request: &Request, fds: Vec<OwnedFd>) -> Result<(Child, OwnedFd)> {
    let (program, args) = request.argv.split_first().ok_or_else(|| wrong(Step::Request, "no program"))?;
    if fds.len() != request.keep.len() {
        return Err(wrong(Step::Descriptors, "one number for each descriptor"));
    }
    // First of all, while the low numbers are free.
    let kept = number(request, fds)?;
    // Files are opened as the daemon's user, before its rights are given up.
    let log = open_log(request.log.as_deref())?;
    let pid_file = open_pid_file(request.pid_file.as_deref())?;
    rustix::process::setsid().map_err(|e| failure(Step::Session, e, ""))?;
    if let Some(mask) = request.umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    }
    request.limits.iter().try_for_each(set_limit)?;
    request.cgroups.iter().try_for_each(|path| enter(path))?;
    identity(request)?;
    let dir = request.dir.as_deref().unwrap_or(Path::new("/"));
    std::env::set_current_dir(dir).map_err(|e| failure(Step::Folder, e, dir.display()))?;
    let (out, err) = match log {
        Some(file) => {
            let copy = file.try_clone().map_err(|e| failure(Step::Log, e, ""))?;
            (Stdio::from(file), Stdio::from(copy))
        }
        None => (Stdio::null(), Stdio::null()),
    };
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(request.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|e| failure(Step::Exec, e, program))?;
    drop(kept);
    after_start(child, pid_file, request.pid_file.as_deref())
}

/// Names the running child: pidfd and pid file. If that fails it must not go on running.
fn after_start(child: Child, pid_file: Option<File>, path: Option<&Path>) -> Result<(Child, OwnedFd)> {
    let pidfd = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| wrong(Step::Exec, "no process number"))
        .and_then(|pid| {
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failure(Step::Exec, e, "pidfd"))
        });
    let written = match pid_file {
        Some(mut file) => file.write_all(child.id().to_string().as_bytes()).map_err(|e| {
            failure(Step::PidFile, e, path.map_or_else(String::new, |p| p.display().to_string()))
        }),
        None => Ok(()),
    };
    match written.and(pidfd) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(e) => {
            end(child);
            Err(e)
        }
    }
}

fn open_log(path: Option<&Path>) -> Result<Option<File>> {
    let Some(path) = path else { return Ok(None) };
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.map(Some).map_err(|e| failure(Step::Log, e, path.display()))
}

fn open_pid_file(path: Option<&Path>) -> Result<Option<File>> {
    let Some(path) = path else { return Ok(None) };
    let open = OpenOptions::new().create(true).write(true).truncate(true).mode(0o644).open(path);
    open.map(Some).map_err(|e| failure(Step::PidFile, e, path.display()))
}

fn set_limit(limit: &Limit) -> Result<()> {
    let kernel = match limit.resource {
        Resource::Core => Kernel::Core,
        Resource::Files => Kernel::Nofile,
        Resource::Memlock => Kernel::Memlock,
        Resource::Processes => Kernel::Nproc,
    };
    let both = Rlimit { current: limit.value, maximum: limit.value };
    rustix::process::setrlimit(kernel, both)
        .map_err(|e| failure(Step::Limit, e, format!("{:?}", limit.resource)))
}

/// "0" names the writing process in both versions of the interface.
fn enter(procs: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(procs)
        .and_then(|mut file| file.write_all(b"0"))
        .map_err(|e| failure(Step::Cgroup, e, procs.display()))
}

/// Gives every descriptor its number and lets it survive the start of the program.
fn number(request: &Request, fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
    let bad = |e, n| failure(Step::Descriptors, e, n);
    let highest = request.keep.iter().map(|k| k.number).max().unwrap_or(0);
    // First out of the way of all wanted numbers, then to them.
    let mut parked = Vec::with_capacity(fds.len());
    for fd in &fds {
        parked.push(fcntl_dupfd_cloexec(fd, highest + 1).map_err(|e| bad(e, highest + 1))?);
    }
    drop(fds);
    let mut kept = Vec::with_capacity(parked.len());
    for (fd, keep) in parked.iter().zip(&request.keep) {
        if keep.number < 3 {
            return Err(wrong(Step::Descriptors, "a number below 3"));
        }
        let fd = fcntl_dupfd_cloexec(fd, keep.number).map_err(|e| bad(e, keep.number))?;
        if fd.as_raw_fd() != keep.number {
            return Err(wrong(Step::Descriptors, format!("{}: taken", keep.number)));
        }
        keep_open(&fd).map_err(|e| bad(e, keep.number))?;
        kept.push(fd);
    }
    Ok(kept)
}

fn keep_open(fd: impl AsFd) -> rustix::io::Result<()> {
    let flags = fcntl_getfd(&fd)?;
    fcntl_setfd(&fd, flags - FdFlags::CLOEXEC)
}

fn identity(request: &Request) -> Result<()> {
    let bad = |e: nix::Error, what: String| failure(Step::Identity, io::Error::from(e), what);
    // An ordinary user has none, and may not touch the bounding set.
    let stays_root = nix::unistd::geteuid().is_root() && request.user.as_ref().is_none_or(|u| u.uid == 0);
    if request.drop_capabilities && stays_root {
        drop_capabilities().map_err(|e| failure(Step::Identity, e, "without capabilities"))?;
    }
    let Some(User { uid, gid, groups }) = &request.user else { return Ok(()) };
    let groups: Vec<_> = groups.iter().map(|g| nix::unistd::Gid::from_raw(*g)).collect();
    let (u, g) = (nix::unistd::Uid::from_raw(*uid), nix::unistd::Gid::from_raw(*gid));
    // Only root may change its groups; a session daemon starts guests as itself.
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&groups).map_err(|e| bad(e, format!("with groups {groups:?}")))?;
    }
    nix::unistd::setresgid(g, g, g).map_err(|e| bad(e, format!("of group {gid}")))?;
    nix::unistd::setresuid(u, u, u).map_err(|e| bad(e, format!("{uid}")))
}

/// A root process gets its capabilities back from the bounding set when it executes a program: empty that set.
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};
    for one in CapabilitySet::all().iter() {
        if matches!(capability_is_in_bounding_set(one), Ok(true)) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

fn failure(step: Step, e: impl Into<io::Error>, what: impl ToString) -> Failure {
    Failure { step, errno: e.into().raw_os_error().unwrap_or(0), what: what.to_string() }
}

fn wrong(step: Step, what: impl ToString) -> Failure {
    Failure { step, errno: 0, what: what.to_string() }
}
