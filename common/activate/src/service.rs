//! One daemon: asleep until a call comes in, running until it leaves, then asleep again.
//!
//! ```text
//!            a socket is readable                 the process ended
//!   Asleep ------------------------> Running --------------------------> Asleep
//!      ^                                |  (ended badly within a second: wait first, up to 5 s)
//!      |  stop                          |  stop: SIGTERM, after a grace SIGKILL
//!      +-----> Ended <------------------+
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::socket::Listener;

/// First descriptor of the activation protocol.
const FIRST_FD: usize = 3;
/// Where descriptors wait before the shell moves them to their final numbers.
const PARKED_FD: i32 = 200;
/// Time a daemon has to drain after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How to start a daemon.
#[derive(Debug)]
pub struct Service {
    /// Name for messages and file names.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Folder for `NAME.pid` and `NAME.log`.
    pub dir: PathBuf,
    /// Its sockets, in the order they are handed over.
    pub listeners: Vec<Listener>,
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means the sender is gone, which is a stop as well.
    let _ = stop.wait_for(|s| *s).await;
}

impl Service {
    /// Serves until `stop` turns true; the daemon is then ended, its guests are not.
    ///
    /// # Errors
    /// The event loop refusing a socket. A daemon that cannot be started is reported on stderr and tried again with
    /// the next call.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut bad = 0_u32;
        loop {
            tokio::select! {
                woken = self.readable() => woken?,
                () = stopped(&mut stop) => return Ok(()),
            }
            let started = Instant::now();
            let clean = match self.start() {
                Ok(mut child) => {
                    let status = tokio::select! {
                        status = child.wait() => Some(status?),
                        () = stopped(&mut stop) => None,
                    };
                    let Some(status) = status else { return self.end(child).await };
                    self.forget();
                    self.report(status);
                    status.success() || std::os::unix::process::ExitStatusExt::signal(&status).is_some()
                }
                Err(e) => {
                    eprintln!("{}: {e:#}", self.name);
                    false
                }
            };
            bad = if clean || started.elapsed() > Duration::from_secs(1) { 0 } else { (bad + 1).min(6) };
            if bad > 0 {
                let pause = Duration::from_millis(80) * 2_u32.pow(bad);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped(&mut stop) => return Ok(()),
                }
            }
        }
    }

    /// Resolves when a client waits at one of the sockets.
    async fn readable(&self) -> Result<()> {
        let mut waiting = Vec::new();
        for listener in &self.listeners {
            #[expect(
                deprecated,
                reason = "the new form is unsafe; here the borrow keeps the descriptor open"
            )]
            let fd = AsyncFd::with_interest(listener.fd.as_fd(), Interest::READABLE)?;
            waiting.push(Box::pin(async move { fd.readable().await.map(|_| ()) }));
        }
        std::future::poll_fn(|cx| {
            for future in &mut waiting {
                if let std::task::Poll::Ready(result) = future.as_mut().poll(cx) {
                    return std::task::Poll::Ready(result);
                }
            }
            std::task::Poll::Pending
        })
        .await?;
        Ok(())
    }

    /// Spawns the daemon with its sockets as descriptors 3, 4, ...
    ///
    /// A shell does the last step: it moves the descriptors to their numbers, and since it then becomes the daemon,
    /// its own pid is the one LISTEN_PID must hold. (In Rust both would take code between fork and exec, which is
    /// unsafe.)
    fn start(&self) -> Result<Child> {
        let mut parked: Vec<OwnedFd> = Vec::new();
        let mut script = String::from("exec");
        for (i, listener) in self.listeners.iter().enumerate() {
            let fd = fcntl_dupfd_cloexec(&listener.fd, PARKED_FD)?;
            let n = fd.as_raw_fd();
            script.push_str(&format!(" {}<&{n} {n}<&-", FIRST_FD + i));
            parked.push(fd);
        }
        script.push_str("; export LISTEN_PID=$$; exec \"$0\" \"$@\"");
        let log = self.log()?;
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(&self.program).args(&self.args);
        command.env("LISTEN_FDS", self.listeners.len().to_string());
        let names: Vec<_> = self.listeners.iter().map(|l| l.fd_name.as_str()).collect();
        command.env("LISTEN_FDNAMES", names.join(":")).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Own process group: a Ctrl-C at the terminal reaches the activator alone.
        command.process_group(0);
        for fd in &parked {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        let child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let pid = child.id().unwrap_or_default();
        fs::write(self.pid_file(), format!("{pid}\n"))?;
        Ok(child)
    }

    async fn end(&self, mut child: Child) -> Result<()> {
        if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
                eprintln!("{}: did not end within {STOP_GRACE:?}, killed", self.name);
                child.kill().await?;
            }
        }
        self.forget();
        Ok(())
    }

    fn log(&self) -> Result<File> {
        let path = self.dir.join(format!("{}.log", self.name));
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())
    }

    /// A daemon's bad end goes to its log as well, where a test's failure report finds it.
    fn report(&self, status: ExitStatus) {
        if !status.success() {
            eprintln!("{}: ended: {status}", self.name);
            if let Ok(mut log) = self.log() {
                let _ = writeln!(log, "-- {}: ended: {status}", self.name);
            }
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join(format!("{}.pid", self.name))
    }

    fn forget(&self) {
        let _ = fs::remove_file(self.pid_file());
    }
}
