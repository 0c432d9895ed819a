//! Long work on volumes: several at once, how far it is, how it is cancelled, and what a kill or a full disk leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use virt_api::storage::v1alpha1::storage_data_service_client::StorageDataServiceClient;
use virt_api::storage::v1alpha1::{CancelJobRequest, Job, ListJobsRequest};
use virt_rpc::client;
use virt_rpc::client::Daemon;
use virt_testkit::host::{Host, Options};
use virt_tests::level;

/// The daemon's own view of its jobs.
struct Jobs {
    runtime: tokio::runtime::Runtime,
    daemon: Daemon,
}

impl Jobs {
    fn of(host: &Host) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let daemon = Daemon::new(host.root().join("run/libvirt/grpc"), "virtstoraged");
        Self { runtime, daemon }
    }

    fn list(&self) -> Vec<Job> {
        let daemon = &self.daemon;
        self.runtime.block_on(async {
            let mut service = client!(StorageDataServiceClient, daemon);
            service.list_jobs(ListJobsRequest { pool: None }).await.unwrap().into_inner().jobs
        })
    }

    /// Waits for a job on a volume that has got somewhere.
    fn wait(&self, kind: &str, volume: &str) -> Job {
        let begun = Instant::now();
        loop {
            let found = self.list().into_iter().find(|j| j.kind == kind && j.volume == volume && j.done > 0);
            if let Some(job) = found {
                return job;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {kind} of {volume}: {:?}", self.list());
        }
    }

    fn cancel(&self, id: u64) {
        let daemon = &self.daemon;
        self.runtime.block_on(async {
            client!(StorageDataServiceClient, daemon).cancel_job(CancelJobRequest { id }).await.unwrap();
        });
    }
}

fn pool(host: &Host) -> (String, PathBuf) {
    let name = host.name("jobs");
    let dir = host.files().join(&name);
    fs::create_dir(&dir).unwrap();
    host.virsh(&["pool-create-as", &name, "dir", "--target", dir.to_str().unwrap()]);
    (name, dir)
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_string()).collect()
}

/// Begins an upload that goes on with nothing until the other side ends it, and tells why.
const STALL: &str = r#"
import libvirt, os, sys, time
libvirt.registerErrorHandler(lambda *a: None, None)
conn = libvirt.open(os.environ["URI"])
stream = conn.newStream()
conn.storagePoolLookupByName(sys.argv[1]).storageVolLookupByName(sys.argv[2]).upload(stream, 0, 0, 0)
stream.send(b"x" * 200000)
try:
    while True:
        stream.send(b"x" * 10)
        time.sleep(0.05)
except libvirt.libvirtError as e:
    print(e.get_error_code(), e.get_error_message())
"#;

/// Makes a volume with all of another's content, and tells why not.
const COPY: &str = r#"
import libvirt, os, sys
libvirt.registerErrorHandler(lambda *a: None, None)
pool = libvirt.open(os.environ["URI"]).storagePoolLookupByName(sys.argv[1])
xml = "<volume><name>%s</name><capacity>0</capacity><target><format type='%s'/></target></volume>" % (sys.argv[2], sys.argv[3])
try:
    pool.createXMLFrom(xml, pool.storageVolLookupByName("big"), 0)
except libvirt.libvirtError as e:
    print(e.get_error_code(), e.get_error_message())
"#;

#[test]
fn several_jobs_run_at_once_and_each_can_be_cancelled() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    let jobs = Jobs::of(&host);
    for name in ["up", "big", "wiped"] {
        host.virsh(&["vol-create-as", &pool, name, "1200M", "--allocation", "0"]);
    }
    // Full of data for a wipe: holes would be wiped at once.
    host.virsh(&["vol-resize", "wiped", "1300M", "--allocate", "--pool", &pool]);
    let fill = fs::OpenOptions::new().write(true).open(dir.join("big")).unwrap();
    for at in 0..1200 {
        std::os::unix::fs::FileExt::write_all_at(&fill, &[7; 70_000], at << 20).unwrap();
    }
    drop(fill);
    host.virsh(&["pool-refresh", &pool]);
    assert!(jobs.list().is_empty());
    std::thread::scope(|scope| {
        let run = |program: &'static str, args: Vec<String>| {
            let host = &host;
            scope.spawn(move || {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                host.python(program, &args)
            })
        };
        let of = |name: &str, format: &str| vec![pool.clone(), name.to_string(), format.to_string()];
        let upload = run(STALL, of("up", ""));
        let uploading = jobs.wait("upload", "up");
        let copy = run(COPY, of("raw", "raw"));
        let convert = run(COPY, of("qcow2", "qcow2"));
        // Each is cancelled as soon as it is seen: a fast disk ends them in a second.
        for name in ["raw", "qcow2"] {
            let copying = jobs.wait("copy", name);
            jobs.cancel(copying.id);
            assert!(copying.total == 1200 << 20 && copying.done <= copying.total, "{copying:?}");
        }
        assert!(jobs.list().iter().any(|j| j.id == uploading.id), "they run beside each other");
        // The pool answers and does other work meanwhile.
        host.virsh(&["vol-create-as", &pool, "small", "1M"]);
        let busy = host.try_virsh(&["pool-destroy", &pool]);
        assert!(busy.err.contains("has asynchronous jobs running"), "{busy}");
        jobs.cancel(uploading.id);
        for told in [upload, copy, convert].map(|t| t.join().unwrap()) {
            assert_eq!(told.trim(), "78 operation aborted: cancelled by a request");
        }
    });
    assert_eq!(names(&dir), set(["big", "small", "up", "wiped"]), "nothing half is left");
    let told = host.virsh(&["vol-list", &pool]);
    assert!(!told.contains("raw") && !told.contains("qcow2"), "{told}");
    virt_testkit::wait::until("all jobs are over", || jobs.list().is_empty());
    // Capacity and allocation are what the file system says, without a refresh.
    let told = host.virsh(&["pool-dumpxml", &pool]);
    let field = |name: &str| -> u64 {
        let open = format!("<{name} unit='bytes'>");
        told.split(&open).nth(1).unwrap().split('<').next().unwrap().parse().unwrap()
    };
    assert_eq!(field("capacity"), field("allocation") + field("available"));
    host.virsh(&["pool-destroy", &pool]);
}

/// Programs that still work in a folder.
fn at_work(dir: &Path) -> Vec<String> {
    let here = dir.to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " "));
    lines.filter(|l| l.contains("qemu-img") && l.contains(here)).collect()
}

#[test]
fn killed_at_random_moments_no_volume_is_half_made() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host);
    let data: Vec<u8> = (0..24_u32 << 20).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let up = host.files().join("up");
    fs::write(&up, &data).unwrap();
    host.virsh(&["vol-create-as", &pool, "source", "24M", "--allocation", "0"]);
    host.virsh(&["vol-upload", "--pool", &pool, "source", up.to_str().unwrap()]);
    let document = |name: &str, format: &str| {
        let xml = format!(
            "<volume><name>{name}</name><capacity>0</capacity><target><format type='{format}'/></target></volume>"
        );
        host.document(&format!("{name}.{format}"), &xml)
    };
    let (to_qcow2, to_raw) = (document("new", "qcow2"), document("new", "raw"));
    let mounts =
        || fs::read_to_string("/proc/self/mountinfo").unwrap().matches(dir.to_str().unwrap()).count();
    for round in 0..level(12, 120) {
        let work: &[&str] = match round % 6 {
            0 => &["vol-create-as", &pool, "new", "60M", "--format", "qcow2", "--prealloc-metadata"],
            1 => &["vol-clone", "source", "new", "--pool", &pool],
            2 => &["vol-create-from", &pool, &to_qcow2, "source", "--inputpool", &pool],
            3 => &["vol-create-from", &pool, &to_raw, "source", "--inputpool", &pool],
            4 => &["vol-create-as", &pool, "new", "60M", "--format", "raw"],
            _ => &["vol-delete", "--pool", &pool, "extra"],
        };
        if round % 6 == 5 {
            host.virsh(&["vol-create-as", &pool, "extra", "3M"]);
        }
        let mut child = host.spawn_virsh(work);
        std::thread::sleep(Duration::from_millis(15 + 23 * round % 170));
        host.kill("virtstoraged");
        child.wait().unwrap();
        host.virsh(&["pool-refresh", &pool]);
        let listed = host.virsh(&["vol-list", &pool]);
        let listed: BTreeSet<_> =
            listed.lines().filter_map(|l| l.split_whitespace().next().map(str::to_string)).collect();
        let there = names(&dir);
        assert_eq!(listed, there, "round {round}");
        assert!(there.is_subset(&set(["source", "new", "extra"])), "round {round}: {there:?}");
        if there.contains("new") {
            // What is seen is whole.
            let whole = match round % 6 {
                1 | 3 => fs::read(dir.join("new")).unwrap() == data,
                4 => fs::metadata(dir.join("new")).unwrap().len() == 60 << 20,
                _ => {
                    let run = Command::new("qemu-img").arg("check").arg(dir.join("new")).output().unwrap();
                    println!("{run:?}");
                    run.status.success()
                }
            };
            assert!(whole, "round {round}");
            host.virsh(&["vol-delete", "--pool", &pool, "new"]);
        }
        virt_testkit::wait::until("no program works for a daemon that is gone", || at_work(&dir).is_empty());
        assert_eq!(mounts(), 0);
        let _ = host.try_virsh(&["vol-delete", "--pool", &pool, "extra"]);
    }
    assert_eq!(fs::read(dir.join("source")).unwrap(), data);
    host.virsh(&["pool-destroy", &pool]);
}

/// A file system without room: each job is refused with the system's own reason, and takes nothing.
#[test]
fn a_full_disk_leaves_a_clean_pool() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let dir = host.files().join("full");
    fs::create_dir(&dir).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&dir).status();
    if !mounted.is_ok_and(|m| m.success()) {
        println!("skipped: nothing can be mounted here");
        return;
    }
    let _mount = Mount(dir.clone());
    let pool = host.name("full");
    host.virsh(&["pool-create-as", &pool, "dir", "--target", dir.to_str().unwrap()]);
    host.virsh(&["vol-create-as", &pool, "source", "14M"]);
    let up = host.files().join("up");
    fs::write(&up, vec![7; 14 << 20]).unwrap();
    host.virsh(&["vol-upload", "--pool", &pool, "source", up.to_str().unwrap()]);
    let before = (names(&dir), host.virsh(&["pool-info", &pool, "--bytes"]));
    let (up, qcow2) = (up.to_str().unwrap(), host.files().join("qcow2.xml"));
    fs::write(
        &qcow2,
        "<volume><name>new</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>",
    )
    .unwrap();
    host.virsh(&["vol-create-as", &pool, "thin", "20M", "--allocation", "0"]);
    let work: [&[&str]; 5] = [
        &["vol-create-as", &pool, "new", "20M"],
        &["vol-clone", "source", "new", "--pool", &pool],
        &["vol-create-from", &pool, qcow2.to_str().unwrap(), "source", "--inputpool", &pool],
        &["vol-resize", "source", "30M", "--allocate", "--pool", &pool],
        &["vol-upload", "--pool", &pool, "thin", up],
    ];
    for work in work {
        let run = host.try_virsh(work);
        let refused = ["No space left on device", "Not enough space left in storage pool"];
        assert!(run.code == Some(1) && refused.iter().any(|r| run.err.contains(r)), "{work:?}: {run}");
        assert_eq!(names(&dir), set(["source", "thin"]), "{work:?}");
    }
    assert_eq!(fs::metadata(dir.join("source")).unwrap().len(), 14 << 20);
    host.virsh(&["vol-delete", "--pool", &pool, "thin"]);
    assert_eq!((names(&dir), host.virsh(&["pool-info", &pool, "--bytes"])), before);
    host.virsh(&["pool-destroy", &pool]);
}

/// Unmounted with the test.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
