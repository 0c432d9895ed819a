//! A real systemd with our units and daemons, in a container over a throw-away copy of this machine.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use virt_testkit::host::bare_xml;
use virt_testkit::wait;
use virt_tests::level;

use crate::{top, units};

/// Names of the socket units in `folder`.
fn sockets(folder: &str) -> Vec<String> {
    let sockets = units(folder).into_iter().filter(|u| u.extension().is_some_and(|e| e == "socket"));
    sockets.map(|u| u.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

struct Container {
    nspawn: Child,
    /// The container's process 1, as this machine numbers it.
    leader: u32,
    _scratch: TempDir,
}

impl Container {
    fn boot(programs: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("virt-c.").tempdir().unwrap();
        let log = fs::File::create("/dev/null").unwrap();
        let nspawn = Command::new("setpriv")
            // A killed test takes its container along.
            .args(["--pdeathsig", "TERM", "unshare", "-m", "--propagation", "private"])
            .arg(top().join("tests/systemd/boot"))
            .arg(scratch.path())
            .arg(top())
            .env("BINDIR", programs)
            .env_remove("MAKEFLAGS")
            .stdin(Stdio::null())
            .stdout(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut container = Self { leader: 0, nspawn, _scratch: scratch };
        wait::until("the container has a process 1", || {
            assert!(container.nspawn.try_wait().unwrap().is_none(), "the container did not boot");
            container.leader = first_process(container.nspawn.id()).unwrap_or_default();
            container.leader != 0
        });
        wait::until("systemd is up", || {
            let state = container.run(&["systemctl", "is-system-running"]);
            ["running", "degraded"].contains(&String::from_utf8_lossy(&state.stdout).trim())
        });
        container
    }

    fn run(&self, command: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["-t", &self.leader.to_string(), "-a", "--", "timeout", "60"])
            .args(command)
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let text = |b: &[u8]| String::from_utf8_lossy(b).trim().to_owned();
        if !output.status.success() {
            let journal = self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "cat"]);
            panic!("{command:?}: {}\n{}", text(&output.stderr), text(&journal.stdout));
        }
        text(&output.stdout)
    }

    fn virsh(&self, args: &[&str]) -> String {
        self.ok(&[&["virsh", "-q", "-c", "qemu:///system"], args].concat())
    }

    fn active(&self, unit: &str) -> String {
        String::from_utf8_lossy(&self.run(&["systemctl", "is-active", unit]).stdout).trim().to_owned()
    }

    fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "-p", property, unit])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        wait::terminate(self.nspawn.id());
        let _ = self.nspawn.wait();
        wait::kill(self.leader);
    }
}

/// The child that is process 1 of a pid namespace.
fn first_process(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().filter_map(|c| c.parse().ok()).find(|child: &u32| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"))
    })
}

#[test]
fn a_booted_systemd_starts_daemons_by_their_sockets() {
    if level(true, false) {
        println!("skipped: boots a container, for TEST_LEVEL=full");
        return;
    }
    let programs = virt_testkit::host::program("virtqemud");
    let host = Container::boot(programs.parent().unwrap());
    host.ok(&["systemd-sysusers"]);
    host.ok(&["systemd-tmpfiles", "--create", "virtd.conf"]);
    host.ok(&["systemctl", "daemon-reload"]);
    let enabled = sockets("systemd");
    let enabled: Vec<_> = enabled.iter().map(String::as_str).collect();
    host.ok(&[&["systemctl", "enable", "--now"], &enabled[..]].concat());
    for service in ["virtproxyd.service", "virtqemud.service"] {
        assert_eq!(host.active(service), "inactive", "{service} runs before the first call");
    }

    let xml = bare_xml("vm");
    host.ok(&["sh", "-c", &format!("cat >/srv/vm.xml <<'X'\n{xml}\nX")]);
    host.virsh(&["define", "/srv/vm.xml"]);
    host.virsh(&["start", "vm"]);
    assert_eq!(host.virsh(&["domstate", "vm"]), "running");
    for service in ["virtproxyd.service", "virtqemud.service"] {
        assert_eq!(host.active(service), "active");
    }
    let proxy = host.property("virtproxyd.service", "MainPID");
    assert_eq!(host.ok(&["ps", "-o", "user=", "-p", &proxy]), "virtproxy", "the proxy is unprivileged");

    // The guest outlives its daemon however that ends.
    let id = host.virsh(&["domid", "vm"]);
    host.ok(&["systemctl", "kill", "-s", "KILL", "virtqemud.service"]);
    assert_eq!(host.virsh(&["domid", "vm"]), id);
    host.ok(&["systemctl", "stop", "virtqemud.service", "virtproxyd.service"]);
    host.ok(&["pgrep", "qemu-system"]);
    assert_eq!(host.virsh(&["domid", "vm"]), id);

    // Anyone may look; members of the group may do more.
    host.ok(&["useradd", "-m", "stranger"]);
    host.ok(&["useradd", "-m", "-G", "libvirt", "member"]);
    let as_user =
        |user, args: &[&str]| host.run(&[&["runuser", "-u", user, "--", "virsh", "-q"], args].concat());
    let looked = as_user("stranger", &["-r", "-c", "qemu:///system", "domstate", "vm"]);
    assert_eq!(String::from_utf8_lossy(&looked.stdout).trim(), "running");
    assert!(!as_user("stranger", &["-c", "qemu:///system", "destroy", "vm"]).status.success());
    assert!(as_user("member", &["-c", "qemu:///system", "destroy", "vm"]).status.success());
    host.virsh(&["undefine", "vm"]);
    assert!(!host.run(&["pgrep", "qemu-system"]).status.success());

    a_user_has_a_session(&host, "member");
}

/// libvirt's clients find the sockets of the user's own manager, at qemu:///session and nothing more.
fn a_user_has_a_session(host: &Container, user: &str) {
    let enabled = sockets("systemd/user");
    let enabled: Vec<_> = enabled.iter().map(String::as_str).collect();
    host.ok(&[&["systemctl", "--global", "enable"], &enabled[..]].concat());
    host.ok(&["loginctl", "enable-linger", user]);
    let folder = format!("/run/user/{}", host.ok(&["id", "-u", user]));
    let socket = format!("{folder}/libvirt/virtqemud-sock");
    wait::until("the user's socket is there", || host.run(&["test", "-S", &socket]).status.success());
    let runtime = format!("XDG_RUNTIME_DIR={folder}");
    let virsh = |args: &[&str]| {
        let all =
            [&["runuser", "-u", user, "--", "env", &runtime, "virsh", "-q", "-c", "qemu:///session"], args];
        host.ok(&all.concat())
    };
    virsh(&["define", "/srv/vm.xml"]);
    virsh(&["start", "vm"]);
    assert_eq!(virsh(&["domstate", "vm"]), "running");
    assert_eq!(host.ok(&["sh", "-c", "ps -o user= -p $(pgrep qemu-system)"]), user);
    virsh(&["destroy", "vm"]);
    virsh(&["undefine", "vm"]);
}
