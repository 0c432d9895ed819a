//! The launcher as a daemon uses it: real processes, real descriptors.

#![allow(clippy::expect_used)]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use virt_launch::{Failure, Keep, Launched, Limit, Request, Resource, Step, User, launch};

fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_virt-launch").into()
}

fn shell(script: &str) -> Request {
    Request {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        ..Request::default()
    }
}

fn wait(launched: &Launched) {
    let mut fds = [PollFd::new(&launched.pidfd, PollFlags::IN)];
    let limit = rustix::fs::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&limit)).expect("polled"), 1, "the process ends");
}

fn failed(request: &Request) -> Failure {
    let e = launch(&launcher(), request, Vec::new()).expect_err("fails");
    e.into_inner().expect("a failure").downcast_ref::<Failure>().expect("a failure").clone()
}

fn output(dir: &Path, script: &str) -> (Launched, String) {
    let log = dir.join("log");
    let request = Request { log: Some(log.clone()), ..shell(script) };
    let launched = launch(&launcher(), &request, Vec::new()).expect("starts");
    wait(&launched);
    (launched, std::fs::read_to_string(log).expect("a log"))
}

#[test]
fn a_process_of_its_own_session_and_environment() {
    let dir = tempfile::tempdir().expect("a folder");
    let (launched, text) =
        output(dir.path(), "echo $$; env | sort; pwd; cut -d' ' -f6 /proc/self/stat; echo x >&2");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], launched.pid.to_string());
    assert!(lines.contains(&"PATH=/usr/bin:/bin"), "{text}");
    assert!(!text.contains("CARGO"), "nothing is inherited: {text}");
    assert!(lines.contains(&"/") && lines.contains(&"x"), "{text}");
    let ours =
        std::process::Command::new("cut").args(["-d ", "-f6", "/proc/self/stat"]).output().expect("cut");
    assert!(!lines.contains(&String::from_utf8_lossy(&ours.stdout).trim()), "another session: {text}");
}

#[test]
fn descriptors_have_their_numbers_and_no_others_are_open() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let pipes: Vec<_> = (0..3).map(|_| rustix::pipe::pipe().expect("pipe")).collect();
    let (reads, writes): (Vec<_>, Vec<OwnedFd>) = pipes.into_iter().unzip();
    let script = "printf a >&4; printf b >&3; printf c >/proc/self/fd/30; ls /proc/$$/fd";
    let keep = [4, 3, 30].map(|number| Keep { number }).to_vec();
    let request = Request { keep, log: Some(log.clone()), ..shell(script) };
    let launched = launch(&launcher(), &request, writes).expect("starts");
    wait(&launched);
    let got: Vec<_> = reads
        .into_iter()
        .map(|fd| {
            let mut text = String::new();
            std::fs::File::from(fd).read_to_string(&mut text).expect("read");
            text
        })
        .collect();
    assert_eq!(got, ["a", "b", "c"]);
    let open = std::fs::read_to_string(log).expect("a log");
    assert_eq!(
        open.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "30", "4"],
        "nothing leaked"
    );
}

#[test]
fn identity_limits_umask_and_pid_file() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("open folder");
    let root = nix::unistd::geteuid().is_root();
    let user = root.then(|| User { uid: 65534, gid: 65534, groups: vec![7, 65534] });
    let pid_file = dir.path().join("pid");
    let request = Request {
        user,
        umask: Some(0o027),
        limits: vec![Limit { resource: Resource::Files, value: Some(321) }],
        pid_file: Some(pid_file.clone()),
        dir: Some(dir.path().into()),
        log: Some(dir.path().join("log")),
        ..shell("ulimit -n; id -u; id -G; grep CapEff /proc/self/status; echo hi > made")
    };
    let launched = launch(&launcher(), &request, Vec::new()).expect("starts");
    wait(&launched);
    let text = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "321");
    if root {
        assert_eq!(&lines[1..4], ["65534", "65534 7", "CapEff:\t0000000000000000"]);
    }
    assert_eq!(std::fs::metadata(dir.path().join("made")).expect("made").mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_to_string(pid_file).expect("a pid file"), launched.pid.to_string());
}

#[test]
fn root_without_capabilities() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let request =
        Request { drop_capabilities: true, log: Some(log.clone()), ..shell("grep CapEff /proc/self/status") };
    wait(&launch(&launcher(), &request, Vec::new()).expect("starts"));
    assert_eq!(std::fs::read_to_string(log).expect("a log"), "CapEff:\t0000000000000000\n");
}

#[test]
fn failures_name_their_step() {
    let dir = tempfile::tempdir().expect("a folder");
    let gone = dir.path().join("no/such");
    let f = failed(&Request { argv: vec!["/no/such/program".into()], ..Request::default() });
    assert_eq!((f.step, f.errno, f.what.as_str()), (Step::Exec, 2, "/no/such/program"));
    assert_eq!(
        f.to_string(),
        "cannot execute binary /no/such/program: No such file or directory (os error 2)"
    );
    assert_eq!(failed(&Request::default()).step, Step::Request);
    assert_eq!(failed(&Request { log: Some(gone.clone()), ..shell("true") }).step, Step::Log);
    assert_eq!(failed(&Request { pid_file: Some(gone.clone()), ..shell("true") }).step, Step::PidFile);
    assert_eq!(failed(&Request { cgroups: vec![gone.clone()], ..shell("true") }).step, Step::Cgroup);
    assert_eq!(failed(&Request { dir: Some(gone), ..shell("true") }).step, Step::Folder);
}

#[test]
fn the_process_outlives_launcher_and_caller() {
    let launched = launch(&launcher(), &shell("exec sleep 60"), Vec::new()).expect("starts");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", launched.pid)).expect("it runs");
    let parent: i32 =
        stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)?.parse().ok()).expect("ppid");
    assert_ne!(parent, i32::try_from(std::process::id()).expect("small"), "not our child");
    rustix::process::pidfd_send_signal(&launched.pidfd, rustix::process::Signal::KILL).expect("killed");
    wait(&launched);
}

#[test]
fn a_bad_request_starts_nothing() {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
    let mut child =
        std::process::Command::new(launcher()).stdin(OwnedFd::from(theirs)).spawn().expect("runs");
    ours.write_all(b"\0\0\0\x05hello").expect("sent");
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).expect("answered");
    assert!(String::from_utf8_lossy(&answer).contains("Request"), "{answer:?}");
    child.wait().expect("ended");
}

#[test]
fn a_start_costs_little() {
    let begun = Instant::now();
    let rounds = 20;
    for _ in 0..rounds {
        wait(&launch(&launcher(), &shell("exit"), Vec::new()).expect("starts"));
    }
    let each = begun.elapsed() / rounds;
    println!("one launch and its end: {each:?}");
    assert!(each < Duration::from_millis(100), "{each:?}");
}

#[test]
fn a_lock_is_held_until_the_launcher_ends_and_not_by_the_process() {
    use rustix::fs::{FlockOperation, flock};
    let dir = tempfile::tempdir().expect("a folder");
    let open = || std::fs::File::open(dir.path()).expect("the folder");
    let locked = open();
    flock(&locked, FlockOperation::NonBlockingLockExclusive).expect("locked");
    let request = Request { lock: true, ..shell("exec sleep 60") };
    let launched = launch(&launcher(), &request, vec![locked.into()]).expect("starts");
    let taken = flock(open(), FlockOperation::NonBlockingLockExclusive);
    let pid = rustix::process::Pid::from_raw(launched.pid).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    taken.expect("free while the process runs");
    let missing = Request { lock: true, ..shell("true") };
    assert!(launch(&launcher(), &missing, Vec::new()).is_err());
}
