//! A root folder with all daemons listening: what `virt-up` does.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::service::Service;
use crate::{leftovers, socket, unit};

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything moves under this folder.
    pub root: PathBuf,
    /// The user's own daemons (`qemu:///session`) instead of the host's.
    pub session: bool,
    /// Folder of the daemons' programs.
    pub bin_dir: PathBuf,
    /// Folder of the unit files.
    pub units: PathBuf,
    /// Seconds without work after which a daemon leaves; 0 = never.
    pub timeout: u64,
    /// Daemons log more.
    pub verbose: bool,
    /// For a parent that may be killed: when standard input ends, end with everything, guests too, and remove `root`.
    pub scratch: bool,
}

/// The folder for pid files and logs under `root`.
#[must_use]
pub fn state_dir(root: &Path) -> PathBuf {
    root.join("run/virt-up")
}

/// Listens, prints the addresses and serves until SIGTERM, SIGINT or the end of standard input.
///
/// # Errors
/// Another activator on the same root, a path that is too long, no program of any daemon.
pub async fn up(mut options: Options) -> Result<()> {
    fs::create_dir_all(&options.root).with_context(|| options.root.display().to_string())?;
    options.root = fs::canonicalize(&options.root)?;
    let dir = state_dir(&options.root);
    fs::create_dir_all(&dir)?;
    let lock = lock(&dir)?;
    let services = services(&options, &dir)?;
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    announce(&options)?;
    let mut tasks = tokio::task::JoinSet::new();
    for service in services {
        let stopped = stopped.clone();
        tasks.spawn(async move {
            if let Err(e) = service.run(stopped).await {
                eprintln!("{}: {e:#}", service.name);
            }
        });
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end_of_input(options.scratch) => {}
    }
    stop.send_replace(true);
    tasks.join_all().await;
    if options.scratch {
        leftovers::kill_all(&options.root);
        fs::remove_dir_all(&options.root)?;
    }
    drop(lock);
    Ok(())
}

/// Ends the activator of `root`, its daemons and its guests.
///
/// # Errors
/// An activator that does not leave.
pub fn down(root: &Path) -> Result<()> {
    let Ok(root) = fs::canonicalize(root) else { return Ok(()) };
    let file = state_dir(&root).join("up.pid");
    if let Some(mut running) = File::open(&file).ok().filter(is_locked) {
        let mut text = String::new();
        running.read_to_string(&mut text)?;
        let pid = Pid::from_raw(text.trim().parse().with_context(|| file.display().to_string())?);
        kill(pid, Signal::SIGTERM)?;
        let end = Instant::now() + Duration::from_secs(30);
        while is_locked(&running) {
            if Instant::now() > end {
                bail!("the activator of {} (pid {pid}) does not leave", root.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    for (pid, program) in leftovers::kill_all(&root) {
        println!("ended {program} ({pid})");
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join("up.pid");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
    let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!("another activator serves this root ({} is locked)", path.display());
    };
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

fn is_locked(file: &File) -> bool {
    file.try_clone().is_ok_and(|f| Flock::lock(f, FlockArg::LockSharedNonblock).is_err())
}

fn services(options: &Options, dir: &Path) -> Result<Vec<Service>> {
    let mut services = Vec::new();
    for unit in unit::read_dir(&options.units)? {
        let program = options.bin_dir.join(&unit.name);
        if !program.is_file() {
            // As on a host where a daemon is not installed: its calls answer "not supported".
            eprintln!("virt-up: {} is not built, going on without it", program.display());
            continue;
        }
        let mut args = vec!["--root".to_owned(), options.root.to_string_lossy().into_owned()];
        if options.session {
            args.push("--session".to_owned());
        }
        if options.timeout > 0 {
            args.extend(["--timeout".to_owned(), options.timeout.to_string()]);
        }
        if options.verbose {
            args.push("--verbose".to_owned());
        }
        let listeners = unit
            .sockets
            .iter()
            .map(|s| socket::open(&options.root, s, options.session))
            .collect::<Result<Vec<_>>>()?;
        services.push(Service { name: unit.name, program, args, dir: dir.to_owned(), listeners });
    }
    if services.is_empty() {
        bail!("no daemon is built in {}: cargo build --workspace", options.bin_dir.display());
    }
    Ok(services)
}

fn announce(options: &Options) -> Result<()> {
    let run = options.root.join("run/libvirt");
    let path = if options.session { "session" } else { "system" };
    // One write: a reader that needs only the first line may close the pipe after it.
    let text = format!(
        "legacy-uri: qemu+unix:///{path}?socket={}\nreadonly-uri: qemu+unix:///{path}?socket={}\ngrpc-dir: {}\nlogs: {}\n",
        run.join("libvirt-sock").display(),
        run.join("libvirt-sock-ro").display(),
        run.join("grpc").display(),
        state_dir(&options.root).display()
    );
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A thread of its own reads: the runtime has nothing else that blocks, and the process ends without waiting for it.
async fn end_of_input(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    let _ = end.await;
}
