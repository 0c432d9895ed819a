//! A temporary host: a root folder of its own with all daemons listening, and real clients to call them.
//!
//! Everything is gone when it is dropped, also in a failing test, and also when the test itself is killed: the activator
//! notices that its parent left. With `VIRT_TEST_URI` set, tests talk to that server instead (the reference, for
//! instance), and those that need our own daemons say that they were skipped.

mod client;
mod daemons;
mod guest;
mod session;

pub use client::Run;
pub use guest::{Image, bare_xml, built, linux_xml};

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Names the URI of a server to test instead of our own daemons.
pub const URI_VARIABLE: &str = "VIRT_TEST_URI";

/// When set, our own daemons log more.
pub const VERBOSE_VARIABLE: &str = "VIRT_TEST_VERBOSE";

/// A server to test, with the real clients.
pub struct Host {
    uri: String,
    readonly_uri: String,
    own: Option<Own>,
    /// Files of the test; readable by everyone, since QEMU may run as another user.
    files: TempDir,
    /// Names given out, to be cleaned away on a server that goes on.
    names: Mutex<Vec<String>>,
}

/// Our own daemons under a root folder.
struct Own {
    root: PathBuf,
    activator: Child,
    /// Its end tells the activator to end.
    input: Option<ChildStdin>,
}

/// What a host should be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Seconds without work after which a daemon leaves; 0 = never.
    pub timeout: u64,
    /// An ordinary user's own daemons; a test run by root plays the user nobody.
    pub session: bool,
    /// Programs that daemons find before the host's own: names and shell scripts.
    pub programs: &'static [(&'static str, &'static str)],
}

impl Host {
    /// Our own daemons, or the server that `VIRT_TEST_URI` names.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// The same; the options are for our own.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        match std::env::var(URI_VARIABLE) {
            Ok(uri) if !uri.is_empty() => Self {
                readonly_uri: readonly(&uri),
                uri,
                own: None,
                files: folder("virt-t."),
                names: Mutex::default(),
            },
            _ => Self::own(options),
        }
    }

    /// Our own daemons, for a test that looks inside; `None`, and a line that says so, when another server is tested.
    #[must_use]
    pub fn ours(options: Options) -> Option<Self> {
        if std::env::var(URI_VARIABLE).is_ok_and(|u| !u.is_empty()) {
            println!("skipped: this test needs our own daemons, and {URI_VARIABLE} names another server");
            return None;
        }
        Some(Self::own(options))
    }

    fn own(options: Options) -> Self {
        let files = folder("virt-t.");
        // Short, for a unix socket's path has 107 bytes.
        let root = files.path().join("r");
        let mut command = match session::ordinary_user().filter(|_| options.session) {
            Some(user) => session::as_user(&user, files.path()),
            None => Command::new(program("virt-up")),
        };
        command.arg("--root").arg(&root).arg("--scratch").args(["--timeout", &options.timeout.to_string()]);
        if options.session {
            command.arg("--session");
        }
        if std::env::var_os(VERBOSE_VARIABLE).is_some() {
            command.arg("--verbose");
        }
        if !options.programs.is_empty() {
            command.env("PATH", programs(&files.path().join("bin"), options.programs));
        }
        let mut activator =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("virt-up does not start");
        let mut lines = BufReader::new(activator.stdout.take().expect("piped")).lines();
        let mut address = |label: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            line.strip_prefix(label)
                .unwrap_or_else(|| panic!("virt-up said {line:?}, not {label:?}"))
                .to_owned()
        };
        let uri = address("legacy-uri: ");
        let readonly_uri = address("readonly-uri: ");
        let input = activator.stdin.take();
        Self { uri, readonly_uri, own: Some(Own { root, activator, input }), files, names: Mutex::default() }
    }

    /// The address for libvirt's clients.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The address of the read-only socket.
    #[must_use]
    pub fn readonly_uri(&self) -> &str {
        &self.readonly_uri
    }

    /// A folder for the test's files that every user can read.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The root folder of our own daemons.
    ///
    /// # Panics
    /// When another server is tested.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.own.as_ref().expect("the root of another server is unknown").root
    }

    /// A name no other test of this run has.
    #[must_use]
    pub fn name(&self, stem: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.names.lock().expect("names").push(name.clone());
        name
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else {
            let names = std::mem::take(&mut *self.names.lock().expect("names"));
            for name in names {
                let _ = self.try_virsh(&["destroy", &name]);
                let _ = self.try_virsh(&["undefine", &name]);
            }
            return;
        };
        if std::thread::panicking() {
            daemons::print_logs(&own.root);
        }
        drop(own.input.take());
        let _ = own.activator.wait();
        let left = virt_activate::leftovers::find(&own.root);
        if !left.is_empty() && !std::thread::panicking() {
            panic!("processes outlived their host: {left:?}");
        }
    }
}

/// A folder with these programs; the value of PATH that has it first.
fn programs(dir: &Path, scripts: &[(&str, &str)]) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(dir).expect("a folder for programs");
    for (name, script) in scripts {
        let path = dir.join(name);
        std::fs::write(&path, script).expect("a program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let mut paths = vec![dir.to_path_buf()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(paths).expect("PATH")
}

/// A temporary folder that other users can enter.
fn folder(prefix: &str) -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new().prefix(prefix).tempdir().expect("no temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// The read-only socket beside the one `uri` names.
fn readonly(uri: &str) -> String {
    if uri.ends_with("-sock") { format!("{uri}-ro") } else { uri.to_owned() }
}

/// A program of this repository, built with the same profile as the running test.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built: run `cargo build --workspace --bins` (make test does)")
    })
}
