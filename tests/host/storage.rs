//! Storage pools and volumes through the real client, and what a killed daemon leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use virt_testkit::host::{Host, Options, bare_xml};

/// A started pool of type dir, and its folder.
fn pool(host: &Host) -> (String, PathBuf) {
    let (name, dir) = (host.name("pool"), host.files().join("pool"));
    let xml =
        format!("<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>", dir.display());
    host.virsh(&["pool-define", &host.document(&name, &xml)]);
    host.virsh(&["pool-build", &name]);
    host.virsh(&["pool-start", &name]);
    (name, dir)
}

fn end(host: &Host, pool: &str) {
    host.virsh(&["pool-destroy", pool]);
    host.virsh(&["pool-undefine", pool]);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).expect("a folder").map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn volumes_live_and_end() {
    let host = Host::start();
    let (pool, dir) = pool(&host);
    host.virsh(&["vol-create-as", &pool, "base", "20M", "--format", "qcow2"]);
    host.virsh(&["vol-create-as", &pool, "raw", "5M", "--allocation", "1M"]);
    let top = ["vol-create-as", &pool, "top", "20M", "--format", "qcow2", "--backing-vol", "base"];
    host.virsh(&[&top[..], &["--backing-vol-format", "qcow2"]].concat());
    let meta = fs::metadata(dir.join("raw")).expect("a file");
    assert_eq!(meta.len(), 5 << 20);
    assert!((1 << 20..2 << 20).contains(&(meta.blocks() * 512)), "{} blocks", meta.blocks());
    assert!(
        host.virsh(&["vol-dumpxml", "top", "--pool", &pool]).contains(&format!("{}/base", dir.display()))
    );
    host.virsh(&["vol-clone", "raw", "copy", "--pool", &pool]);
    assert_eq!(fs::metadata(dir.join("copy")).expect("a file").len(), 5 << 20);
    host.virsh(&["vol-resize", "raw", "8M", "--pool", &pool]);
    assert_eq!(fs::metadata(dir.join("raw")).expect("a file").len(), 8 << 20);
    let again = host.try_virsh(&["vol-create-as", &pool, "raw", "1M"]);
    assert!(again.err.contains("storage volume 'raw' exists already"), "{again}");
    for name in ["top", "base", "raw", "copy"] {
        host.virsh(&["vol-delete", name, "--pool", &pool]);
    }
    assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    end(&host, &pool);
}

/// Names and links never lead out of the pool, and a failed request leaves nothing.
#[test]
fn nothing_leaves_the_pool() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    let outside = host.files().join("outside");
    fs::write(&outside, vec![7; 4096]).expect("a file");
    symlink(&outside, dir.join("out")).expect("a link");
    host.virsh(&["pool-refresh", &pool]);
    for name in ["../outside", "..", ".", "a/b", "/etc/x"] {
        let run = host.try_virsh(&["vol-create-as", &pool, name, "1M"]);
        assert_eq!(run.code, Some(1), "{name}: {run}");
    }
    let run = host.try_virsh(&["vol-resize", "out", "1M", "--pool", &pool]);
    assert!(run.code == Some(1) && run.err.contains("outside of its pool"), "{run}");
    let got = host.files().join("got");
    let got = got.to_str().expect("a path");
    for args in [
        vec!["vol-clone", "out", "copy", "--pool", &pool],
        vec!["vol-wipe", "out", "--pool", &pool],
        vec!["vol-download", "out", got, "--pool", &pool],
        vec!["vol-upload", "out", outside.to_str().expect("a path"), "--pool", &pool],
    ] {
        let run = host.try_virsh(&args);
        assert!(run.code == Some(1) && run.err.contains("outside of its pool"), "{args:?}: {run}");
    }
    assert!(fs::metadata(got).map_or(0, |m| m.len()) == 0 && !dir.join("copy").exists());
    assert_eq!(fs::read(&outside).expect("a file"), vec![7; 4096]);
    host.virsh(&["vol-delete", "out", "--pool", &pool]);
    assert!(outside.exists(), "only the link is deleted");
    let bad = format!("{}.bad", host.files().join("x").display());
    fs::write(
        &bad,
        "<volume><name>v</name><capacity>1024</capacity><target><format type='bochs'/></target></volume>",
    )
    .expect("a file");
    let run = host.try_virsh(&["vol-create", &pool, &bad]);
    assert!(run.code == Some(1) && run.err.contains(&format!("{}/v", dir.display())), "{run}");
    assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    end(&host, &pool);
}

/// A guest that writes another format's header into its raw disk gains nothing by a refresh.
#[test]
fn a_raw_volume_stays_raw() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    host.virsh(&["vol-create-as", &pool, "disk", "5M"]);
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw"])
        .arg(host.files().join("evil"))
        .arg("5M")
        .status();
    assert!(made.expect("qemu-img").success());
    let evil = fs::read(host.files().join("evil")).expect("an image");
    // Written in place, as a guest would.
    let file = fs::OpenOptions::new().write(true).open(dir.join("disk")).expect("the volume");
    std::os::unix::fs::FileExt::write_all_at(&file, &evil, 0).expect("written");
    host.virsh(&["pool-refresh", &pool]);
    let xml = host.virsh(&["vol-dumpxml", "disk", "--pool", &pool]);
    assert!(xml.contains("<format type='raw'/>") && !xml.contains("passwd"), "{xml}");
    end(&host, &pool);
}

/// kill -9 while volumes are made: no half volume is seen afterwards, none is left on disk, the pool goes on.
#[test]
fn a_killed_daemon_leaves_no_half_volume() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    host.virsh(&["vol-create-as", &pool, "big", "300M", "--format", "raw"]);
    for round in 0..3 {
        let name = format!("clone{round}");
        let mut clone = host.spawn_virsh(&["vol-clone", "big", &name, "--pool", &pool]);
        let begun = Instant::now();
        while names(&dir).len() < 2 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        host.kill("virtstoraged");
        let _ = clone.wait();
        // The next call starts the daemon again; it sweeps before it answers for the pool, and answers in full.
        let list = loop {
            let run = host.try_virsh(&["vol-list", &pool]);
            if run.code == Some(0) {
                break run.out;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{run}");
        };
        assert!(list.contains("big"), "{list}");
        let whole = fs::metadata(dir.join(&name)).is_ok_and(|m| m.len() == 300 << 20);
        assert_eq!(list.contains(&name), whole, "{list}");
        assert!(names(&dir).iter().all(|n| !n.starts_with(".virtd")), "{:?}", names(&dir));
        if whole {
            host.virsh(&["vol-delete", &name, "--pool", &pool]);
        }
    }
    end(&host, &pool);
}

/// A disk of type volume is what its pool says when the guest starts.
#[test]
fn a_guest_uses_a_volume() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    host.virsh(&["vol-create-as", &pool, "disk", "5M", "--format", "qcow2"]);
    let name = host.name("vm");
    let disk = format!(
        "<disk type='volume'><source pool='{pool}' volume='disk'/><target dev='vda' bus='virtio'/></disk>"
    );
    let xml = bare_xml(&name).replace("<serial type='null'/>", &disk);
    host.virsh(&["define", &host.document(&name, &xml)]);
    host.virsh(&["start", &name]);
    // Clients see the volume's name, QEMU its place.
    let told = |index: u32| format!("<source pool='{pool}' volume='disk' index='{index}'/>");
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains("<disk type='volume' device='disk'>") && live.contains(&told(1)), "{live}");
    let line = fs::read(format!("/proc/{}/cmdline", host.emulators()[0])).unwrap();
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.contains(&format!("{}/disk", dir.display())), "{line}");
    host.kill("virtqemud");
    let again = host.virsh(&["dumpxml", &name]);
    assert_eq!(again, live, "after a restart of the daemon");
    let sizes = host.virsh(&["domblkinfo", &name, "vda"]);
    assert!(sizes.contains("5242880"), "{sizes}");
    assert_eq!(host.virsh(&["domblkinfo", &name, &format!("{}/disk", dir.display())]), sizes);
    // A volume that is plugged in, and one in a drive.
    host.virsh(&["vol-create-as", &pool, "more", "1M"]);
    let more = format!(
        "<disk type='volume'><source pool='{pool}' volume='more'/><target dev='vdb' bus='virtio'/></disk>"
    );
    let more = host.document("more", &more);
    host.virsh(&["attach-device", &name, &more, "--live"]);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains(&format!("<source pool='{pool}' volume='more' index=")), "{live}");
    let saved = host.files().join("saved");
    let saved = saved.to_str().unwrap();
    host.virsh(&["save", &name, saved]);
    let kept = host.virsh(&["save-image-dumpxml", saved]);
    assert!(kept.contains(&format!("<source pool='{pool}' volume='more'/>")), "{kept}");
    host.virsh(&["restore", saved]);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains(&format!("<source pool='{pool}' volume='disk' index=")), "{live}");
    let kept = host.virsh(&["dumpxml", "--inactive", &name]);
    assert!(kept.contains(&format!("pool='{pool}'")), "{kept}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["vol-delete", "disk", "--pool", &pool]);
    let run = host.try_virsh(&["start", &name]);
    assert!(run.code == Some(1) && run.err.contains("no storage vol with matching name 'disk'"), "{run}");
    // One that may be missing is left out.
    host.virsh(&["undefine", &name]);
    let optional = xml.replace("volume='disk'/>", "volume='disk' startupPolicy='optional'/>");
    host.virsh(&["define", &host.document(&name, &optional)]);
    host.virsh(&["start", &name]);
    assert!(!host.virsh(&["dumpxml", &name]).contains("<disk"));
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
    end(&host, &pool);
}

/// A file system and a partition table on loop devices: mounted, used, gone.
#[test]
fn pools_on_devices() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let Some(device) = Loop::new(&host.files().join("image"), 96 << 20) else {
        println!("skipped: no loop devices here");
        return;
    };
    let (name, dir) = (host.name("fs"), host.files().join("mnt"));
    let xml = format!(
        "<pool type='fs'><name>{name}</name><source><device path='{}'/><format type='ext4'/></source>\
         <target><path>{}</path></target></pool>",
        device.0,
        dir.display()
    );
    host.virsh(&["pool-define", &host.document(&name, &xml)]);
    host.virsh(&["pool-build", &name, "--no-overwrite"]);
    let again = host.try_virsh(&["pool-build", &name, "--no-overwrite"]);
    assert!(again.code == Some(1) && again.err.contains("detected as 'ext4'"), "{again}");
    host.virsh(&["pool-start", &name]);
    host.virsh(&["vol-create-as", &name, "v", "1M"]);
    let full = host.try_virsh(&["vol-create-as", &name, "full", "500M"]);
    assert!(full.code == Some(1) && full.err.contains("No space left on device"), "{full}");
    assert_eq!(names(&dir), ["lost+found", "v"]);
    end(&host, &name);
    assert!(names(&dir).is_empty(), "unmounted");
}

/// Partitions of a disk: made where there is room, told with what is left, deleted.
#[test]
fn a_disk_is_a_pool() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let Some(device) = Loop::new(&host.files().join("disk"), 64 << 20) else {
        println!("skipped: no loop devices here");
        return;
    };
    if Command::new("parted").arg("--version").output().is_err() {
        println!("skipped: parted is not installed");
        return;
    }
    let (name, part) = (host.name("disk"), format!("{}p1", device.0.rsplit('/').next().expect("a name")));
    let xml = format!(
        "<pool type='disk'><name>{name}</name><source><device path='{}'/><format type='gpt'/></source>\
         <target><path>/dev</path></target></pool>",
        device.0
    );
    host.virsh(&["pool-define", &host.document(&name, &xml)]);
    host.virsh(&["pool-build", &name]);
    let again = host.try_virsh(&["pool-build", &name]);
    assert!(again.code == Some(1) && again.err.contains("requires overwrite to continue"), "{again}");
    host.virsh(&["pool-start", &name]);
    let free = |n: u64| format!("<freeExtent start='{n}'");
    assert!(host.virsh(&["pool-dumpxml", &name]).contains(&free(17_408)));
    let wrong = host.try_virsh(&["vol-create-as", &name, "other", "10M"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("invalid partition name"), "{wrong}");
    host.virsh(&["vol-create-as", &name, &part, "10M"]);
    assert!(host.virsh(&["pool-dumpxml", &name]).contains(&free(11_534_336)));
    assert!(
        host.virsh(&["vol-dumpxml", &part, "--pool", &name])
            .contains("<extent start='1048576' end='11534336'/>")
    );
    host.virsh(&["vol-delete", &part, "--pool", &name]);
    assert!(host.virsh(&["pool-dumpxml", &name]).contains(&free(17_408)));
    end(&host, &name);
}

/// A loop device that goes away with the test.
struct Loop(String);

impl Loop {
    fn new(image: &Path, size: u64) -> Option<Self> {
        fs::File::create(image).and_then(|f| f.set_len(size)).expect("an image");
        let made =
            Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(image).output().ok()?;
        let device = String::from_utf8(made.stdout).ok()?.trim().to_string();
        (made.status.success() && !device.is_empty()).then_some(Self(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
