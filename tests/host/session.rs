//! libvirt's clients that find no daemon of their user start one themselves.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use virt_testkit::host::{bare_xml, program};
use virt_testkit::wait;

/// An ordinary user with a home of his own: whoever runs the test, or "nobody" where that is root.
struct User {
    home: tempfile::TempDir,
    id: Option<u32>,
}

const NOBODY: u32 = 65534;

impl User {
    fn new() -> Option<Self> {
        // Short: sockets lie in it.
        let home = tempfile::Builder::new().prefix("virt-s.").tempdir_in("/tmp").unwrap();
        let id = nix::unistd::geteuid().is_root().then_some(NOBODY);
        let user = Self { home, id };
        for dir in ["run", "bin"] {
            fs::create_dir(user.home.path().join(dir)).unwrap();
        }
        // Clients look for both names in this folder.
        for name in ["libvirtd", "virtqemud"] {
            symlink(program("virtqemud"), user.home.path().join("bin").join(name)).unwrap();
        }
        for dir in ["", "run"] {
            chown(user.home.path().join(dir), id, id).unwrap();
        }
        // A build folder that others may not enter is no fault of the daemons.
        let entered = user.run(&program("virtqemud"), &["--version"]);
        if !entered.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: an ordinary user cannot run the programs of this folder");
            return None;
        }
        Some(user)
    }

    fn run(&self, program: &Path, args: &[&str]) -> std::io::Result<Output> {
        let mut command = match self.id {
            Some(id) => {
                let mut command = Command::new("setpriv");
                let ids = [format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()];
                command.args(ids).arg(program);
                command
            }
            None => Command::new(program),
        };
        let home = self.home.path();
        command.args(args).env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
        command.env("LIBVIRTD_PATH", home.join("bin")).env("VIRTQEMUD_PATH", home.join("bin"));
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.current_dir(home).output()
    }

    fn virsh(&self, uri: &str, args: &[&str]) -> String {
        let out = self.run(Path::new("virsh"), &[&["-c", uri], args].concat()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        assert!(out.status.success(), "{args:?}: {}\n{}", text(&out.stderr), self.log());
        text(&out.stdout)
    }

    fn log(&self) -> String {
        let dir = self.home.path().join("run/libvirt");
        let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
        format!("{:?}", names.collect::<Vec<_>>())
    }

    fn pid(&self, daemon: &str) -> Option<i32> {
        let file = self.home.path().join("run/libvirt").join(format!("{daemon}.pid"));
        let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        // The file of one that was killed stays.
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    fn signal(&self, daemon: &str, signal: nix::sys::signal::Signal) {
        if let Some(pid) = self.pid(daemon) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        }
    }

    /// All of the session's daemons end with the one that a client started.
    fn gone(&self) {
        for daemon in ["virtqemud", "virtproxyd", "virtstoraged"] {
            wait::until("a daemon of the session has ended", || self.pid(daemon).is_none());
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for daemon in ["virtqemud", "virtproxyd", "virtnetworkd", "virtsecretd", "virtstoraged"] {
            if let Some(pid) = self.pid(daemon) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGTERM,
                );
            }
        }
    }
}

#[test]
fn a_client_starts_its_users_daemons() {
    use nix::sys::signal::Signal;
    let Some(user) = User::new() else { return };
    let document = user.home.path().join("vm.xml");
    fs::write(&document, bare_xml("mine")).unwrap();
    let document = document.to_string_lossy();
    // As Debian's clients do it, and as those of split daemons do.
    for uri in ["qemu:///session", "qemu:///session?mode=direct"] {
        assert_eq!(user.virsh(uri, &["list", "--all", "--name"]), "");
        user.virsh(uri, &["define", &document]);
        user.virsh(uri, &["start", "mine"]);
        assert_eq!(user.virsh(uri, &["domstate", "mine"]), "running");
        // The others are behind the same socket.
        for list in ["pool-list", "secret-list", "net-list"] {
            user.virsh(uri, &[list]);
        }
        // One of the others that is killed comes back.
        for daemon in ["virtproxyd", "virtstoraged"] {
            let before = user.pid(daemon);
            user.signal(daemon, Signal::SIGKILL);
            wait::until("it was started again", || user.pid(daemon).is_some_and(|pid| Some(pid) != before));
        }
        wait::until("clients get through again", || {
            user.run(Path::new("virsh"), &["-c", uri, "pool-list"]).is_ok_and(|out| out.status.success())
        });
        // However it ends: nobody is left over, the guest runs on, and the next client starts all anew.
        user.signal("virtqemud", Signal::SIGKILL);
        user.gone();
        assert_eq!(user.virsh(uri, &["domstate", "mine"]), "running");
        user.virsh(uri, &["destroy", "mine"]);
        user.virsh(uri, &["undefine", "mine"]);
        user.signal("virtqemud", Signal::SIGTERM);
        user.gone();
    }
}
