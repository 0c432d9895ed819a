//! Real daemons: this test binary starts itself again, and that process runs [`Daemon::run_with`].

use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use virt_rpc::client::{Client, ClientSession, Daemon as Remote};

const NAME: &str = "virttestd";
const ARGS: &str = "VIRT_DAEMON_TEST_ARGS";

/// Not a test by itself: the daemon's process.
#[test]
fn child() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let args = std::iter::once(NAME).chain(args.split('\n').filter(|a| !a.is_empty())).map(OsString::from);
    let daemon = Daemon::new(NAME, "a daemon for tests").locks(&["test/driver.pid"]);
    let status = daemon.run_with(args, async |context: Context| {
        let stopped = context.paths.run.join("stopped");
        Ok(Running::new(Services::new())
            .epoch(5)
            .on_stop(async move { std::fs::write(stopped, "").unwrap() }))
    });
    std::process::exit(status.into());
}

struct Host {
    root: TempDir,
    notify: UnixDatagram,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(root.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { root, notify }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        self.environment(&mut command, args);
        command.args(["run::tests::child", "--exact", "--nocapture", "--test-threads=1"]);
        command
    }

    fn environment(&self, command: &mut Command, args: &[&str]) {
        let root = self.root.path().to_str().unwrap();
        let args: Vec<_> = ["--root", root].iter().chain(args).copied().collect();
        command.env(ARGS, args.join("\n")).env("NOTIFY_SOCKET", self.root.path().join("notify"));
        command
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
    }

    fn start(&self, args: &[&str]) -> Process {
        let child = Process(self.command(args).spawn().unwrap());
        assert_eq!(self.told(), "READY=1");
        child
    }

    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let n = self.notify.recv(&mut buffer).expect("the daemon says something in 20 s");
        String::from_utf8_lossy(&buffer[..n]).trim().to_string()
    }

    fn grpc(&self) -> std::path::PathBuf {
        self.root.path().join("run/libvirt/grpc")
    }

    fn remote(&self) -> Remote {
        Remote::new(self.grpc(), NAME)
    }

    fn path(&self, rest: &str) -> std::path::PathBuf {
        self.root.path().join(rest)
    }
}

/// A daemon that does not outlive its test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn wait(mut self) -> (i32, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                let mut text = String::new();
                std::io::Read::read_to_string(self.0.stderr.as_mut().unwrap(), &mut text).unwrap();
                return (status.code().unwrap_or(-1), text);
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn serves_and_leaves_nothing_behind() {
    let host = Host::new();
    let child = host.start(&[]);
    block_on(async {
        let session = ClientSession::open(&host.remote(), Client::default()).await.unwrap();
        assert_eq!(session.epoch(), 5);
        child.signal(nix::sys::signal::Signal::SIGHUP);
        child.signal(nix::sys::signal::Signal::SIGTERM);
        session.closed().await;
    });
    assert_eq!(host.told(), "STOPPING=1");
    assert_eq!(child.wait().0, 0);
    assert_eq!(std::fs::read_dir(host.grpc()).unwrap().count(), 0);
    assert!(host.path("run/libvirt/stopped").exists());
}

#[test]
fn two_daemons_never_share_a_root() {
    let host = Host::new();
    let _first = host.start(&[]);
    let (status, text) = Process(host.command(&[]).spawn().unwrap()).wait();
    let pid_file = host.path("run/virttestd.pid");
    assert_eq!(status, 1);
    let expected =
        format!("Failed to acquire pid file '{}': Resource temporarily unavailable", pid_file.display());
    assert!(text.contains(&expected), "{text}");
    // The first one is not harmed.
    block_on(async { ClientSession::open(&host.remote(), Client::default()).await.map(drop).unwrap() });
}

#[test]
fn a_driver_lock_of_somebody_else_is_respected() {
    let host = Host::new();
    let _held = PidFile::acquire(&host.path("run/libvirt/test/driver.pid")).unwrap();
    assert_eq!(Process(host.command(&[]).spawn().unwrap()).wait().0, 1);
}

#[test]
fn a_wrong_configuration_ends_with_64_before_any_socket() {
    let host = Host::new();
    std::fs::create_dir_all(host.path("etc/libvirt")).unwrap();
    std::fs::write(host.path("etc/libvirt/virttestd.conf"), "# fine\nlog_level = \n").unwrap();
    let (status, text) = Process(host.command(&[]).spawn().unwrap()).wait();
    assert_eq!(status, 64);
    assert!(text.contains("virttestd.conf:2: expecting a value"), "{text}");
    assert!(!host.path("run").exists());
    let (status, text) = Process(host.command(&["-f", "/nosuch.conf"]).spawn().unwrap()).wait();
    assert_eq!(status, 64);
    assert!(text.contains("Failed to open file '/nosuch.conf': No such file or directory"), "{text}");
    assert_eq!(Process(host.command(&["-d"]).spawn().unwrap()).wait().0, 64);
    let long = format!("/tmp/{}", "x".repeat(100));
    let (status, text) = Process(host.command(&["--root", &long]).spawn().unwrap()).wait();
    assert_eq!(status, 64, "{text}");
}

#[test]
fn leaves_when_idle_and_not_before() {
    let host = Host::new();
    let child = host.start(&["--timeout=1"]);
    block_on(async {
        let session = ClientSession::open(&host.remote(), Client::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!session.is_closed(), "it left a session alone");
    });
    let since = Instant::now();
    assert_eq!(host.told(), "STOPPING=1");
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    assert_eq!(child.wait().0, 0);
}

#[test]
fn inherited_sockets_are_used_and_stay() {
    let host = Host::new();
    let (grpc, channel) = (host.path("a.sock"), host.path("a-fd"));
    let stream = UnixListener::bind(&grpc).unwrap();
    // A place for two descriptors in a row that no other test uses.
    const FIRST: i32 = 200;
    let handed = [
        rustix::io::fcntl_dupfd_cloexec(&stream, FIRST).unwrap(),
        rustix::io::fcntl_dupfd_cloexec(seqpacket(&channel), FIRST + 1).unwrap(),
    ];
    assert_eq!([handed[0].as_raw_fd(), handed[1].as_raw_fd()], [FIRST, FIRST + 1]);
    let mut command = host.command(&[]);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDS_FIRST_FD", FIRST.to_string());
    command.env("LISTEN_FDNAMES", "virttestd.sock:virttestd-fd").env_remove("LISTEN_PID");
    for socket in &handed {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    }
    let child = Process(command.spawn().unwrap());
    assert_eq!(host.told(), "READY=1");
    // Not bound anew: the old places answer.
    assert!(!host.grpc().join("virttestd.sock").exists());
    std::fs::create_dir_all(host.grpc()).unwrap();
    std::os::unix::fs::symlink(&grpc, host.grpc().join("virttestd.sock")).unwrap();
    block_on(async { ClientSession::open(&host.remote(), Client::default()).await.map(drop).unwrap() });
    child.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.wait().0, 0);
    assert!(grpc.exists() && channel.exists(), "systemd's files are not ours to remove");
}

fn seqpacket(path: &Path) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 8).unwrap();
    socket
}
