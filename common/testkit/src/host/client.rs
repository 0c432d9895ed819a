//! Real clients: virsh and libvirt-python.

use std::fmt;
use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Host;
use crate::wait;

/// No client call takes longer in these tests; a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a client answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command, for messages.
    pub command: String,
    /// Exit status; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output without surrounding white space.
    pub out: String,
    /// Standard error without surrounding white space.
    pub err: String,
}

impl Run {
    /// Whether it exited with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (exit {:?})\n{}\n{}", self.command, self.code, self.out, self.err)
    }
}

impl Host {
    /// Runs one virsh command, that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// When virsh fails.
    #[track_caller]
    pub fn virsh(&self, args: &[&str]) -> String {
        let run = self.try_virsh(args);
        assert!(run.ok(), "{run}");
        run.out
    }

    /// Runs one virsh command on the read-write socket.
    #[must_use]
    pub fn try_virsh(&self, args: &[&str]) -> Run {
        self.virsh_at(self.uri(), args)
    }

    /// Runs one virsh command on `uri`.
    #[must_use]
    pub fn virsh_at(&self, uri: &str, args: &[&str]) -> Run {
        let mut command = client("virsh");
        command.args(["-q", "-c", uri]).args(args);
        finish(&mut command, &format!("virsh {}", args.join(" ")))
    }

    /// A virsh command that goes on in the background, its output in `stdout`.
    #[must_use]
    pub fn spawn_virsh(&self, args: &[&str]) -> Child {
        client("virsh")
            .args(["-q", "-c", self.uri()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("virsh does not start")
    }

    /// `virsh console` at a terminal: waits for the first text, types the keys, waits for the answer, leaves. Returns
    /// what the terminal showed.
    ///
    /// # Panics
    /// When one of them does not come.
    #[track_caller]
    #[must_use]
    pub fn console(&self, domain: &str, first: &str, then: Option<(&str, &str)>) -> String {
        let mut command = client("script");
        // virsh refuses to run a console without a terminal; script makes one.
        let line = format!("exec virsh -c '{}' console {domain}", self.uri());
        command.args(["-qfec", &line, "/dev/null"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script does not start");
        let mut keys = child.stdin.take().expect("piped");
        let screen = Screen::of(child.stdout.take().expect("piped"));
        screen.wait_for("Escape character is");
        screen.wait_for(first);
        if let Some((typed, answer)) = then {
            keys.write_all(typed.as_bytes()).expect("typing");
            screen.wait_for(answer);
        }
        keys.write_all(&[ESCAPE]).expect("leaving");
        drop(keys);
        child.wait().expect("the console's end");
        screen.text()
    }

    /// Runs a libvirt-python program. It finds the address in `URI`, the read-only one in `READONLY_URI`, the folder
    /// for files in `FILES`, and `args` in `sys.argv[1:]`.
    #[must_use]
    pub fn try_python(&self, program: &str, args: &[&str]) -> Run {
        let mut command = client("/usr/bin/python3");
        command.args(["-u", "-c", program]).args(args);
        command.env("URI", self.uri()).env("READONLY_URI", self.readonly_uri()).env("FILES", self.files());
        finish(&mut command, "python3")
    }

    /// Like [`Host::try_python`] for a program that must succeed; returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn python(&self, program: &str, args: &[&str]) -> String {
        let run = self.try_python(program, args);
        assert!(run.ok(), "{run}");
        run.out
    }
}

/// Ctrl-], virsh's way out of a console.
const ESCAPE: u8 = 0x1d;

/// What a terminal showed so far, read in the background.
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                sink.lock().expect("the screen").extend_from_slice(&buffer[..n]);
            }
        });
        Self(shown)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the screen")).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait::until(&format!("the console shows {text:?}"), || self.text().contains(text));
    }
}

/// A client without this user's own libvirt settings.
fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIBVIRT_") || name == "VIRSH_DEFAULT_CONNECT_URI" {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

fn finish(command: &mut Command, shown: &str) -> Run {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|e| panic!("{shown}: {e} (tools/setup test installs it)"));
    let pid = child.id();
    let (done, finished) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    let late = finished.recv_timeout(PATIENCE).is_err();
    if late {
        wait::kill(pid);
    }
    let output = waiter.join().expect("the waiting thread").expect("no output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let mut err = text(&output.stderr);
    if late {
        err.push_str(&format!("\nno answer in {PATIENCE:?}, killed"));
    }
    Run { command: shown.to_owned(), code: output.status.code(), out: text(&output.stdout), err }
}
