//! `virt-up` with stand-ins for the daemons: what they are told, and that they come back.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Notes what it was given, one line a start, and stays: it accepts nothing.
const STAND_IN: &str = r#"#!/bin/bash
exec 9>>"$2/seen.${0##*/}"
sockets=; for n in $(seq 3 $((2 + LISTEN_FDS))); do [ -S /proc/self/fd/$n ] && sockets="$sockets $n"; done
echo "$$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES$sockets" >&9
exec -a "$0 --root $2" sleep 1000 9>&-
"#;

struct Up(Child);

impl Up {
    fn start(root: &Path, bin: &Path) -> Self {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd");
        for service in virt_activate::unit::read_dir(&units).unwrap() {
            let program = bin.join(service.name);
            fs::write(&program, STAND_IN).unwrap();
            fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_virt-up"))
            .args(["--scratch", "--root"])
            .arg(root)
            .arg("--bin-dir")
            .arg(bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("legacy-uri: qemu+unix:///system?socket="), "{line}");
        Self(child)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// The lines a stand-in wrote, once there are `n`.
fn seen(root: &Path, name: &str, n: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(root.join(format!("seen.{name}"))).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= n {
            return lines;
        }
        assert!(Instant::now() < end, "{name} was started {} times, not {n}", lines.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_call_starts_the_daemon_with_all_its_sockets_and_again_after_a_kill() {
    let (root, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = Up::start(root.path(), bin.path());
    assert!(!root.path().join("seen.virtqemud").exists(), "nothing runs before the first call");
    let _first = UnixStream::connect(root.path().join("run/libvirt/grpc/virtqemud.sock")).unwrap();
    let line = &seen(root.path(), "virtqemud", 1)[0];
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[0], words[1], "LISTEN_PID is the daemon's pid");
    assert_eq!(&words[2..], ["2", "virtqemud-fd:virtqemud.sock", "3", "4"]);
    assert!(!root.path().join("seen.virtproxyd").exists(), "only the called daemon starts");
    // The connection was never accepted, so the next start follows at once.
    Command::new("kill").args(["-9", words[0]]).status().unwrap();
    let again = seen(root.path(), "virtqemud", 2);
    assert_ne!(again[0], again[1]);
    up.end();
    assert!(!root.path().exists(), "a scratch root is removed");
    for line in again {
        let pid = line.split(' ').next().unwrap().to_owned();
        assert!(!Path::new("/proc").join(pid).exists(), "{line} outlived its activator");
    }
}

#[test]
fn one_activator_a_root_and_down_ends_it() {
    let (root, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut up = Up::start(root.path(), bin.path());
    let second = Command::new(env!("CARGO_BIN_EXE_virt-up"))
        .arg("--root")
        .arg(root.path())
        .arg("--bin-dir")
        .arg(bin.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("another activator serves this root"), "{text}");
    let down =
        Command::new(env!("CARGO_BIN_EXE_virt-up")).args(["--down", "--root"]).arg(root.path()).status();
    assert!(down.unwrap().success());
    assert!(up.0.try_wait().unwrap().is_some(), "down returns when the activator is gone");
}
