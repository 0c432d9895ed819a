//! A session that no service manager looks after: libvirt's clients start one daemon themselves when they find no socket
//! (`virtqemud --timeout=120`, or the same program as `libvirtd`), and expect all of the user's daemons behind it.
//!
//! ```text
//!   virsh --> virtqemud --+--> virtnetworkd, virtsecretd ... --companion      first: their gRPC sockets
//!                         +--> virtproxyd --companion                        then: the sockets that clients look for
//! ```
//!
//! A companion leaves when its standard input ends, so it ends with the daemon that started it, however that ends. It
//! never leaves by itself: what it serves would be missing while a client is still there. One that is killed is started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use virt_rpc::descriptor::SocketPaths;

use crate::paths::Paths;

/// How long the sockets of daemons may take that must be there before clients come.
const APPEAR: Duration = Duration::from_secs(5);
/// How often they are looked for.
const PAUSE: Duration = Duration::from_millis(10);
/// The daemon that clients talk to.
const PROXY: &str = "virtproxyd";

/// One that ended is started again after this, and after longer when that ends at once too.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The daemons that were started. They end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Companions(JoinSet<()>);

impl Companions {
    /// Starts those of `names` that are installed beside this program, and virtproxyd last.
    pub(crate) async fn start(names: &[&'static str], paths: &Paths) -> Self {
        let mut started = Self::default();
        let Some(dir) = own_folder() else {
            tracing::error!("the session's other daemons are not found: this program has no folder");
            return started;
        };
        let mut wanted: Vec<PathBuf> = Vec::new();
        for name in names {
            if started.one(&dir, name) {
                wanted.push(SocketPaths::new(paths.grpc(), name).grpc);
            }
        }
        let end = Instant::now() + APPEAR;
        while wanted.iter().any(|socket| !socket.exists()) && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
        if !started.one(&dir, PROXY) {
            tracing::error!(dir = %dir.display(), "no virtproxyd beside this program: libvirt's clients cannot come in");
        }
        started
    }

    /// False when it is not installed or does not start.
    fn one(&mut self, dir: &Path, name: &'static str) -> bool {
        let program = dir.join(name);
        let Some(child) = program.is_file().then(|| spawn(&program)).flatten() else { return false };
        self.0.spawn(keep(program, child, name));
        true
    }
}

fn spawn(program: &Path) -> Option<Child> {
    let child = Command::new(program)
        .args(["--session", "--companion"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    child
        .inspect_err(|error| {
            tracing::error!(%error, program = %program.display(), "a daemon of the session does not start");
        })
        .ok()
}

/// Starts a companion again whenever it ends. Its standard input is open as long as this runs.
async fn keep(program: PathBuf, first: Child, name: &'static str) {
    let (mut running, mut pause) = (Some(first), FIRST_PAUSE);
    loop {
        let begun = Instant::now();
        if let Some(mut child) = running {
            let _open = child.stdin.take();
            match child.wait().await {
                Ok(status) => {
                    tracing::warn!(%status, name, "a daemon of the session has ended, starting it again")
                }
                Err(error) => tracing::warn!(%error, name, "a daemon of the session cannot be watched"),
            }
        }
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        running = spawn(&program);
    }
}

/// The folder of this program's file, behind links.
fn own_folder() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_owned)
}

/// Returns when standard input ends. A thread of its own reads: the process ends without waiting for it.
pub(crate) async fn parent_gone() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Nothing is ever sent; an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    let _ = end.await;
}
