//! Pools of servers that are really there: a cluster of Ceph and an iSCSI target, both started by the test.
//!
//! They need the packages of `tools/setup full` and run at that level only.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use virt_testkit::host::{Host, Options};
use virt_testkit::wait::until;
use virt_tests::level;

/// Whether these programs are here, at this level.
fn wanted(programs: &[&str]) -> bool {
    if level(0, 1) == 0 {
        println!("skipped: servers of their own are for TEST_LEVEL=full");
        return false;
    }
    let folders = ["/usr/bin", "/usr/sbin"];
    let missing = programs.iter().find(|p| !folders.iter().any(|dir| Path::new(dir).join(p).exists()));
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

/// A port that is free, and the one after it.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn secret(host: &Host, n: u32, usage: &str, value: &Path, plain: bool) -> String {
    let uuid = format!("5ec2e703-0000-4000-8000-{n:012x}");
    let xml = format!("<secret private='yes'><uuid>{uuid}</uuid>{usage}</secret>");
    host.virsh(&["secret-define", &host.document(&uuid, &xml)]);
    let mut args = vec!["secret-set-value", &uuid, "--file", value.to_str().unwrap()];
    args.extend(plain.then_some("--plain"));
    host.virsh(&args);
    uuid
}

struct Ceph {
    script: PathBuf,
    dir: PathBuf,
}

impl Ceph {
    fn start(dir: PathBuf, port: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("beds/ceph");
        fs::create_dir(&dir).unwrap();
        let cluster = Self { script, dir };
        let begun = Command::new(&cluster.script)
            .arg(&cluster.dir)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(begun.unwrap().success(), "the cluster does not start");
        cluster
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        let _ = Command::new(&self.script).arg(&self.dir).arg("stop").status();
    }
}

#[test]
fn images_of_a_ceph_cluster() {
    if !wanted(&["ceph-mon", "ceph-osd", "ceph", "rbd"]) {
        return;
    }
    let Some(host) = Host::ours(Options::default()) else { return };
    let port = port();
    let cluster = Ceph::start(host.files().join("ceph"), port);
    let key = fs::read_to_string(cluster.dir.join("key")).unwrap();
    let uuid =
        secret(&host, 1, "<usage type='ceph'><name>admin</name></usage>", &cluster.dir.join("key"), false);
    let name = host.name("rbd");
    let xml = |auth: &str| {
        let xml = format!(
            "<pool type='rbd'><name>{name}</name><source><host name='127.0.0.1' port='{port}'/><name>rbd</name>{auth}\
             </source></pool>"
        );
        host.document(&name, &xml)
    };
    let auth = format!("<auth type='ceph' username='admin'><secret uuid='{uuid}'/></auth>");
    let refused = host.try_virsh(&["pool-create", &xml(&auth.replace("e703", "e7ff"))]);
    assert!(refused.err.contains("Secret not found"), "{refused}");
    host.virsh(&["pool-create", &xml(&auth)]);
    host.virsh(&["vol-create-as", &name, "one", "8M"]);
    let told = host.virsh(&["vol-dumpxml", "one", "--pool", &name]);
    assert!(told.contains("<path>rbd/one</path>") && told.contains("8388608"), "{told}");
    host.virsh(&["vol-resize", "one", "12M", "--pool", &name]);
    host.virsh(&["vol-clone", "one", "two", "--pool", &name]);
    host.virsh(&["pool-refresh", &name]);
    let listed = host.virsh(&["vol-list", &name, "--details"]);
    assert!(
        listed.contains("rbd/one") && listed.contains("rbd/two") && listed.contains("12.00 MiB"),
        "{listed}"
    );
    let again = host.try_virsh(&["vol-create-as", &name, "one", "8M"]);
    assert!(again.err.contains("storage volume 'one' exists already"), "{again}");
    for volume in ["one", "two"] {
        host.virsh(&["vol-delete", volume, "--pool", &name]);
    }
    for daemon in ["virtstoraged", "virtproxyd", "virtsecretd"] {
        assert!(!host.log(daemon).contains(key.trim()), "{daemon} logged the key");
    }
    host.virsh(&["pool-destroy", &name]);
    host.virsh(&["secret-undefine", &uuid]);
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn units_of_an_iscsi_target_behind_a_password() {
    if !wanted(&["tgtd", "tgtadm", "iscsi-ls", "iscsi-readcapacity16"]) {
        return;
    }
    let Some(host) = Host::ours(Options::default()) else { return };
    // The number of the control socket is a small one.
    let (port, control) = (port(), (std::process::id() % 30_000 + 1).to_string());
    let (image, password) = (host.files().join("unit"), host.files().join("password"));
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    fs::write(&password, "twelve-bytes!").unwrap();
    let target = "iqn.2026-01.test:unit";
    let log = fs::File::create(host.files().join("tgtd.log")).unwrap();
    let daemon = Command::new("tgtd")
        .args(["-f", "-C", &control, "--iscsi", &format!("portal=127.0.0.1:{port}")])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    let _daemon = Running(daemon.unwrap());
    let admin = |args: &[&str]| {
        let run =
            Command::new("tgtadm").args(["-C", &control, "--lld", "iscsi"]).args(args).output().unwrap();
        run.status.success()
    };
    until("the target's daemon answers", || admin(&["--mode", "target", "--op", "show"]));
    let tid = ["--tid", "1"];
    for args in [
        &["--mode", "target", "--op", "new", "-T", target, tid[0], tid[1]][..],
        &[
            "--mode",
            "logicalunit",
            "--op",
            "new",
            "--lun",
            "1",
            "-b",
            image.to_str().unwrap(),
            tid[0],
            tid[1],
        ],
        &["--mode", "target", "--op", "bind", "-I", "ALL", tid[0], tid[1]],
        &["--mode", "account", "--op", "new", "--user", "joe", "--password", "twelve-bytes!"],
        &["--mode", "account", "--op", "bind", "--user", "joe", tid[0], tid[1]],
    ] {
        assert!(admin(args), "{args:?}");
    }
    let uuid =
        secret(&host, 2, &format!("<usage type='iscsi'><target>{target}</target></usage>"), &password, true);
    let name = host.name("iscsi");
    let xml = |auth: &str| {
        let xml = format!(
            "<pool type='iscsi-direct'><name>{name}</name><source><host name='127.0.0.1' port='{port}'/>\
             <device path='{target}'/><initiator><iqn name='iqn.2026-01.test:me'/></initiator>{auth}</source></pool>"
        );
        host.document(&name, &xml)
    };
    let refused = host.try_virsh(&["pool-create", &xml("")]);
    assert!(refused.code == Some(1) && refused.err.contains("iscsi-ls"), "{refused}");
    let auth = format!("<auth type='chap' username='joe'><secret usage='{target}'/></auth>");
    host.virsh(&["pool-create", &xml(&auth)]);
    let told = host.virsh(&["vol-dumpxml", "unit:0:0:1", "--pool", &name]);
    assert!(told.contains("<capacity unit='bytes'>67108864</capacity>"), "{told}");
    for daemon in ["virtstoraged", "virtproxyd", "virtsecretd"] {
        assert!(!host.log(daemon).contains("twelve-bytes!"), "{daemon} logged the password");
    }
    host.virsh(&["pool-destroy", &name]);
    host.virsh(&["secret-undefine", &uuid]);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let Some(host) = Host::ours(Options::default()) else { return };
    if Path::new("/usr/sbin/zpool").exists() || Path::new("/sbin/zpool").exists() {
        println!("skipped: ZFS is installed");
        return;
    }
    let name = host.name("zfs");
    let xml = format!("<pool type='zfs'><name>{name}</name><source><name>tank</name></source></pool>");
    let run = host.try_virsh(&["pool-create", &host.document(&name, &xml)]);
    assert!(
        run.code == Some(1) && run.err.contains("Cannot find 'z") && run.err.contains("in path"),
        "{run}"
    );
    let capabilities = host.virsh(&["pool-capabilities"]);
    assert!(capabilities.contains("<pool type='zfs' supported='no'>"), "{capabilities}");
    assert!(capabilities.contains("<pool type='dir' supported='yes'>"), "{capabilities}");
}
