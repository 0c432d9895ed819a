//! The content of volumes: up, down, sparse, wiped, given up and killed at any moment.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use virt_testkit::host::{Host, Options};
use virt_tests::level;

/// A pool of a folder with one volume of `size` bytes; its name and the folder.
fn pool(host: &Host, size: u64) -> (String, PathBuf) {
    let name = host.name("pool");
    let dir = host.files().join(&name);
    fs::create_dir(&dir).unwrap();
    let dir_text = dir.to_str().unwrap();
    host.virsh(&["pool-create-as", &name, "dir", "--target", dir_text]);
    host.virsh(&["vol-create-as", &name, "v", &format!("{size}B"), "--allocation", "0"]);
    (name, dir)
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

#[test]
fn what_goes_up_comes_down() {
    let host = Host::start();
    let (pool, dir) = pool(&host, 5_000_000);
    let (up, down) = (host.files().join("up"), host.files().join("down"));
    let data = noise(3_000_001);
    fs::write(&up, &data).unwrap();
    let [up, down] = [&up, &down].map(|p| p.to_str().unwrap());
    host.virsh(&["vol-upload", "--pool", &pool, "v", up, "--offset", "1000"]);
    // It is all there when the command is over.
    assert_eq!(&fs::read(dir.join("v")).unwrap()[1000..3_001_001], &data[..]);
    host.virsh(&["vol-download", "--pool", &pool, "v", down, "--offset", "1000", "--length", "3000001"]);
    assert_eq!(fs::read(down).unwrap(), data);
    host.virsh(&["vol-download", "--pool", &pool, "v", down]);
    assert_eq!(fs::read(down).unwrap().len(), 5_000_000);
    host.virsh(&["vol-wipe", "--pool", &pool, "v"]);
    assert!(fs::read(dir.join("v")).unwrap().iter().all(|b| *b == 0));
    let readonly = host.virsh_at(host.readonly_uri(), &["vol-download", "--pool", &pool, "v", down]);
    assert!(readonly.err.contains("read only access prevents"), "{readonly}");
    host.virsh(&["pool-destroy", &pool]);
}

#[test]
fn holes_stay_holes_both_ways() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let host = Host::start();
    let (pool, dir) = pool(&host, 1000);
    let (up, down) = (host.files().join("up"), host.files().join("down"));
    let file = fs::File::create(&up).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"middle", 700 << 20).unwrap();
    drop(file);
    host.virsh(&["vol-upload", "--sparse", "--pool", &pool, "v", up.to_str().unwrap()]);
    let volume = fs::metadata(dir.join("v")).unwrap();
    assert!(volume.len() == 1 << 30 && volume.blocks() * 512 < 1 << 20, "{volume:?}");
    host.virsh(&["vol-download", "--sparse", "--pool", &pool, "v", down.to_str().unwrap()]);
    let copy = fs::File::open(&down).unwrap();
    let about = copy.metadata().unwrap();
    assert!(about.len() == 1 << 30 && about.blocks() * 512 < 1 << 20, "{about:?}");
    let mut middle = [0; 6];
    copy.read_exact_at(&mut middle, 700 << 20).unwrap();
    assert_eq!(&middle, b"middle");
    host.virsh(&["pool-destroy", &pool]);
}

#[test]
fn an_upload_has_its_bounds_and_can_be_given_up() {
    // The reference itself ends when more comes than was said.
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host, 1_000_000);
    host.python(
        r#"
import libvirt, os, sys, time
libvirt.registerErrorHandler(lambda *a: None, None)
conn = libvirt.open(os.environ["URI"])
pool = conn.storagePoolLookupByName(sys.argv[1])
vol = pool.storageVolLookupByName("v")
def up(data, offset=0, length=0):
    stream = conn.newStream()
    vol.upload(stream, offset, length, 0)
    while data:
        data = data[stream.send(data[:200000]):]
    return stream
try:
    up(b"x" * 500000, 10, 1000).finish()
    raise SystemExit("more than was said was taken")
except libvirt.libvirtError as e:
    assert e.get_error_message() == "cannot write to stream: No space left on device", e
stream = up(b"y" * 100000)
try:
    vol.delete()
    raise SystemExit("a volume was deleted while it was written")
except libvirt.libvirtError as e:
    assert e.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID, e
stream.abort()
# When the answer is there nothing is written any more, and the volume is free.
for attempt in range(30):
    pool.refresh()
    stream = conn.newStream()
    vol.upload(stream, 0, 0, 0)
    for piece in range(attempt):
        stream.send(b"y" * 200000)
    stream.abort()
    with open(vol.path(), "wb") as file:
        file.write(b"mine")
    for look in range(5):
        conn.getLibVersion()
        with open(vol.path(), "rb") as file:
            assert file.read() == b"mine", "written after the end"
# A client that just goes away.
other = libvirt.open(os.environ["URI"])
stream = other.newStream()
other.storageVolLookupByPath(vol.path()).upload(stream, 0, 0, 0)
stream.send(b"z" * 1000)
os._exit(0)
"#,
        &[&pool],
    );
    let free = || host.try_virsh(&["pool-refresh", &pool]).ok();
    virt_testkit::wait::until("the volume of a client that left is free", free);
    assert!(dir.join("v").exists());
    host.virsh(&["vol-delete", "--pool", &pool, "v"]);
    host.virsh(&["pool-destroy", &pool]);
}

#[test]
fn killed_at_any_moment_the_pool_is_clean() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let (pool, dir) = pool(&host, 30_000_000);
    let up = host.files().join("up");
    fs::write(&up, noise(30_000_000)).unwrap();
    let up = up.to_str().unwrap();
    for round in 0..level(9, 60) {
        let work: &[&str] = match round % 3 {
            0 => &["vol-upload", "--pool", &pool, "v", up],
            1 => &["vol-wipe", "--pool", &pool, "v"],
            _ => &["vol-resize", "--pool", &pool, "v", "31M", "--allocate"],
        };
        let mut child = host.spawn_virsh(work);
        std::thread::sleep(Duration::from_millis(20 + 13 * round % 150));
        host.kill("virtstoraged");
        // Whether it was done, or the client was told that the daemon ended.
        child.wait().unwrap();
        // A pool is adopted beside the service; this waits for it.
        host.virsh(&["pool-refresh", &pool]);
        let listed = host.virsh(&["vol-list", &pool]);
        assert_eq!(listed.lines().count(), 1, "{listed}");
        let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        host.virsh(&["vol-delete", "--pool", &pool, "v"]);
        host.virsh(&["vol-create-as", &pool, "v", "30000000B", "--allocation", "0"]);
    }
    host.virsh(&["vol-upload", "--pool", &pool, "v", up]);
    assert_eq!(fs::read(dir.join("v")).unwrap(), fs::read(up).unwrap());
    host.virsh(&["pool-destroy", &pool]);
}
