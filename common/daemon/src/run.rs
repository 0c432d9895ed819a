//! The life of a daemon, from arguments to exit.
//!
//! ```text
//!  args -> conf -> logging -> pid lock -> inherited sockets -> start() -> READY=1
//!                                                                 |
//!     exit <- stop() <- drain sessions and calls <- STOPPING=1 <- serve until TERM, INT or idle
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use virt_error::{Domain, Error, Result};
use virt_object::busy::Busy;
use virt_rpc::descriptor::{Descriptors, KnownSocket, SocketPaths, Trust};
use virt_rpc::listen::{self, Inherited, Listener};
use virt_rpc::server::{Server, Services};
use virt_rpc::session::Sessions;

use crate::args::{self, Args};
use crate::companions::{Companions, parent_gone};
use crate::conf::Conf;
use crate::lock::PidFile;
use crate::paths::{Mode, Paths};
use crate::{inherit, logging};

/// Exit status of a wrong command line or configuration (EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// How long calls in flight may take after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// A daemon without calls for this long has done its work.
const QUIET: Duration = Duration::from_secs(5);
/// Areas of memory that a daemon's few threads share.
const ARENAS: u8 = 2;
/// Threads of the work runtime: owner tasks, files, processes. They wait more than they compute.
const WORK_THREADS: usize = 4;
/// The user virtproxyd runs as on a host.
const PROXY_USER: &str = "virtproxy";
/// The group that may use the read-write sockets.
const GROUP: &str = "libvirt";

/// What tells one daemon from another.
#[derive(Debug, Clone, Copy)]
pub struct Daemon {
    name: &'static str,
    about: &'static str,
    version: &'static str,
    locks: &'static [&'static str],
    companions: &'static [&'static str],
    hidden: bool,
}

/// What a daemon's start gets.
pub struct Context {
    /// The daemon's name.
    pub name: &'static str,
    /// Where files are.
    pub paths: Paths,
    /// `<name>.conf`.
    pub conf: Conf,
    /// Take a token for every reason not to exit when idle.
    pub busy: Busy,
    /// The multi-thread runtime for owner tasks and heavy work.
    pub work: tokio::runtime::Handle,
    /// The open sessions.
    pub sessions: Sessions,
    /// The daemon's side of the descriptor channel.
    pub descriptors: Descriptors,
    /// Sockets from systemd other than the two gRPC ones.
    pub inherited: Inherited,
    /// Tells when the daemon stops, and can ask for it.
    pub stop: Stop,
    /// Whether `--timeout` was given.
    pub may_leave: bool,
}

/// What a start leaves running.
pub struct Running {
    services: Option<Services>,
    epoch: u64,
    on_stop: Option<BoxFuture<'static, ()>>,
}

impl Running {
    /// Serve these on the daemon's gRPC socket.
    pub fn new(services: Services) -> Self {
        Self { services: Some(services), epoch: 0, on_stop: None }
    }

    /// No gRPC socket: the start has spawned its own listeners (virtproxyd).
    pub fn without_rpc() -> Self {
        Self { services: None, epoch: 0, on_stop: None }
    }

    /// The event journal's epoch, told to clients when they open a session.
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// What to do at the end, after the last call.
    #[must_use]
    pub fn on_stop(self, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { on_stop: Some(Box::pin(work)), ..self }
    }
}

/// Tells when the daemon stops, and can ask for it. Clones share.
#[derive(Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Asks the daemon to stop.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Returns when the daemon has begun to stop.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        drop(receiver.wait_for(|stop| *stop).await);
    }
}

impl Daemon {
    /// `name` is libvirt's: "virtqemud".
    pub fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, version: env!("CARGO_PKG_VERSION"), locks: &[], companions: &[], hidden: false }
    }

    /// Pid files below the run folder that the reference's driver locks too ("qemu/driver.pid"): the daemon refuses to
    /// start beside a live one on the same root.
    #[must_use]
    pub fn locks(self, locks: &'static [&'static str]) -> Self {
        Self { locks, ..self }
    }

    /// Daemons that a client which starts this one in a session of its user expects behind it, with virtproxyd.
    #[must_use]
    pub fn companions(self, companions: &'static [&'static str]) -> Self {
        Self { companions, ..self }
    }

    /// The daemon's memory holds secret values at times: it is in no core dump and not readable by its user's other
    /// processes.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Runs the daemon. `start` is called on the RPC runtime's thread.
    pub fn run<F>(self, start: F) -> ExitCode
    where
        F: AsyncFnOnce(Context) -> Result<Running>,
    {
        self.run_with(std::env::args_os(), start).into()
    }

    /// Returns the exit status.
    fn run_with<F>(self, args: impl IntoIterator<Item = OsString>, start: F) -> u8
    where
        F: AsyncFnOnce(Context) -> Result<Running>,
    {
        let args = match args::parse(self.name, self.about, self.version, args) {
            Ok(args) => args,
            Err(error) => {
                // Help and version are no failures.
                let _ = error.print();
                return if error.use_stderr() { EXIT_USAGE } else { 0 };
            }
        };
        let (paths, conf) = match self.configure(&args) {
            Ok(configured) => configured,
            Err(error) => {
                eprintln!("{}: {error}", self.name);
                return EXIT_USAGE;
            }
        };
        match self.live(args, paths, conf, start) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(?error, "{} ends", self.name);
                eprintln!("{}: {error}", self.name);
                1
            }
        }
    }

    /// All that can be wrong with the configuration, before anything is opened.
    fn configure(&self, args: &Args) -> Result<(Paths, Conf)> {
        let paths = match (&args.root, args.mode) {
            (Some(root), mode) => Paths { mode, ..Paths::system(Some(&absolute(root)?)) },
            (None, Mode::System) => Paths::system(None),
            (None, Mode::Session) => Paths::session()?,
        };
        let conf = match &args.config {
            Some(file) => Conf::load_existing(file)?,
            None => Conf::load(paths.etc.join(format!("{}.conf", self.name)))?,
        };
        let sockets = SocketPaths::new(paths.grpc(), self.name);
        listen::check_path(&sockets.grpc)?;
        listen::check_path(&sockets.descriptors)?;
        logging::start(self.name, &logging::plan(&conf, args.verbose)?)?;
        Ok((paths, conf))
    }

    fn live<F>(self, args: Args, paths: Paths, conf: Conf, start: F) -> Result<()>
    where
        F: AsyncFnOnce(Context) -> Result<Running>,
    {
        // Before there are threads. Without such a limit memory is only kept longer.
        virt_malloc_sys::limit_arenas(ARENAS);
        if self.hidden {
            virt_secret::hide_process()?;
        }
        let mut locks = vec![PidFile::acquire(&pid_folder(&paths).join(format!("{}.pid", self.name)))?];
        for lock in self.locks {
            locks.push(PidFile::acquire(&paths.run.join(lock))?);
        }
        let inherited = inherit::sockets()?;
        let no_runtime = |e| Error::system(Domain::None, "cannot start a runtime", e);
        let work = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORK_THREADS)
            .thread_name("work")
            .enable_all()
            .build()
            .map_err(no_runtime)?;
        let rpc = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(|| _ = virt_socket::wait_awake())
            .build()
            .map_err(no_runtime)?;
        let result = rpc.block_on(self.serve(args, paths, conf, inherited, work.handle().clone(), start));
        // Jobs that still run get a moment; what they change is on disk before they act.
        work.shutdown_timeout(DRAIN);
        drop(locks);
        result
    }

    async fn serve<F>(
        self,
        args: Args,
        paths: Paths,
        conf: Conf,
        mut inherited: Inherited,
        work: tokio::runtime::Handle,
        start: F,
    ) -> Result<()>
    where
        F: AsyncFnOnce(Context) -> Result<Running>,
    {
        let busy = Busy::new();
        let stop = Stop::new();
        // Before the start, so that an early TERM is not lost.
        let signals = stop_signals()?;
        let activated = inherited.any();
        let rpc_sockets = self.rpc_sockets(&paths);
        let own_paths = paths.clone();
        let grpc = inherited.take(&rpc_sockets.0)?;
        let channel = inherited.take(&rpc_sockets.1)?;
        let server = Server {
            sessions: Sessions::new(busy.clone()),
            descriptors: Descriptors::new(trust(&paths)),
            epoch: 0,
            busy: busy.clone(),
        };
        let context = Context {
            name: self.name,
            paths,
            conf,
            busy: busy.clone(),
            work,
            sessions: server.sessions.clone(),
            descriptors: server.descriptors.clone(),
            inherited,
            stop: stop.clone(),
            may_leave: args.timeout.is_some(),
        };
        // Nobody else has, and nobody else will: neither a service manager, nor a developer's root, nor another daemon.
        let alone = !self.companions.is_empty()
            && !activated
            && !args.companion
            && args.root.is_none()
            && args.mode == Mode::Session;
        let session = alone.then(|| own_paths.clone());
        let running = start(context).await?;
        tokio::spawn(give_memory_back(busy.clone()));
        tokio::spawn(ask_when_due(stop.clone(), signals, busy, args.timeout));
        if args.companion {
            let stop = stop.clone();
            tokio::spawn(async move {
                parent_gone().await;
                stop.ask();
            });
        }
        let stopping = stop.clone();
        let until_stopped = async move {
            stopping.begun().await;
            notify(&[NotifyState::Stopping]);
        };
        match running.services {
            Some(services) => {
                let grpc = or_bind(grpc, &rpc_sockets.0)?;
                let channel = or_bind(channel, &rpc_sockets.1)?;
                let server = Server { epoch: running.epoch, ..server };
                tracing::info!(activated, "{} {} serves", self.name, self.version);
                let stopping = stop.clone();
                let ready = move || {
                    notify(&[NotifyState::Ready]);
                    if let Some(paths) = session {
                        tokio::spawn(async move {
                            let companions = Companions::start(self.companions, &paths).await;
                            stopping.begun().await;
                            drop(companions);
                        });
                    }
                };
                server.serve(services, grpc, channel, ready, until_stopped, DRAIN).await?;
            }
            None => {
                tracing::info!(activated, "{} {} runs", self.name, self.version);
                notify(&[NotifyState::Ready]);
                until_stopped.await;
            }
        }
        if let Some(last) = running.on_stop {
            last.await;
        }
        Ok(())
    }

    /// The gRPC socket and the descriptor channel. A session's are the user's alone; a system's are for the group.
    fn rpc_sockets(&self, paths: &Paths) -> (listen::Spec, listen::Spec) {
        let files = SocketPaths::new(paths.grpc(), self.name);
        let (mode, group) = match (paths.mode, group_id(GROUP)) {
            (Mode::System, Some(group)) if nix::unistd::geteuid().is_root() => (0o660, Some(group)),
            _ => (0o600, None),
        };
        let spec = |name: String, path: PathBuf, kind| listen::Spec { name, path, kind, mode, group };
        (
            spec(format!("{}.sock", self.name), files.grpc, listen::Kind::Stream),
            spec(format!("{}-fd", self.name), files.descriptors, listen::Kind::SeqPacket),
        )
    }
}

/// The folder that systemd made for the daemon (RuntimeDirectory=), else libvirt's place. An unprivileged virtproxyd may
/// not write to /run itself.
fn pid_folder(paths: &Paths) -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from) {
        Some(dir) if paths.mode == Mode::System && dir.is_absolute() && dir.is_dir() => dir,
        _ => paths.pid.clone(),
    }
}

fn or_bind(inherited: Option<Listener>, spec: &listen::Spec) -> Result<Listener> {
    inherited.map_or_else(|| Inherited::default().take_or_bind(spec), Ok)
}

fn group_id(name: &str) -> Option<u32> {
    Some(nix::unistd::Group::from_name(name).ok()??.gid.as_raw())
}

fn trust(paths: &Paths) -> Trust {
    let known = |(path, read_only)| KnownSocket { path, read_only };
    let proxy = nix::unistd::User::from_name(PROXY_USER).ok().flatten().map(|u| u.uid.as_raw());
    Trust {
        sockets: paths.legacy_sockets().into_iter().map(known).collect(),
        proxies: proxy.into_iter().collect(),
    }
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    let failed = |e| Error::system(Domain::None, format!("cannot use root '{}'", path.display()), e);
    std::path::absolute(path).map_err(failed)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

fn stop_signals() -> Result<Signals> {
    let on = |kind| signal(kind).map_err(|e| Error::system(Domain::None, "cannot watch for signals", e));
    Ok(Signals {
        term: on(SignalKind::terminate())?,
        int: on(SignalKind::interrupt())?,
        hup: on(SignalKind::hangup())?,
    })
}

/// What a burst of work needed goes back to the kernel once the daemon is quiet; the C library would keep it.
async fn give_memory_back(busy: Busy) {
    loop {
        busy.quiet_after_work(QUIET).await;
        // It cannot fail; a panic in it is told by the runtime.
        let _ = tokio::task::spawn_blocking(virt_malloc_sys::trim).await;
    }
}

async fn ask_when_due(stop: Stop, mut signals: Signals, busy: Busy, timeout: Option<Duration>) {
    let idle = async {
        match timeout {
            Some(quiet) => busy.idle_for(quiet).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(idle);
    loop {
        tokio::select! {
            _ = signals.term.recv() => tracing::info!("asked to stop by TERM"),
            _ = signals.int.recv() => tracing::info!("asked to stop by INT"),
            () = &mut idle => tracing::info!("idle, leaving"),
            // Configuration is read at start; HUP must only not kill us.
            _ = signals.hup.recv() => continue,
            () = stop.begun() => {}
        }
        return stop.ask();
    }
}

#[cfg(test)]
mod tests;
