//! Encrypted volumes: made, copied, resized, read by a guest, with passphrases that only virtsecretd and qemu-img know.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use virt_testkit::host::{Host, Options, bare_xml};

/// qemu-img that makes keys which are cheap to guess and so to derive: else every opening of an image takes two seconds
/// of a processor.
const CHEAP: Options = Options {
    timeout: 0,
    session: false,
    programs: &[(
        "qemu-img",
        r#"#!/bin/sh
for arg; do
    shift
    case "$before $arg" in
        "-o "*encrypt.key-secret=*) arg="$arg,encrypt.iter-time=10" ;;
        "-o "*key-secret=*) arg="$arg,iter-time=10" ;;
    esac
    before=$arg
    set -- "$@" "$arg"
done
PATH=${PATH#*:}
exec qemu-img "$@"
"#,
    )],
};

/// A value that cannot be anywhere by chance.
const MARK: &str = "correct-horse-battery-staple-4711";

struct Pool<'a> {
    host: &'a Host,
    name: String,
    dir: PathBuf,
    secret: String,
}

impl<'a> Pool<'a> {
    /// A pool, and a secret for its volume `first`.
    fn new(host: &'a Host, n: u32) -> Self {
        let name = host.name("luks");
        let dir = host.files().join(&name);
        fs::create_dir(&dir).unwrap();
        host.virsh(&["pool-create-as", &name, "dir", "--target", dir.to_str().unwrap()]);
        let secret = define(host, n, "volume", &format!("<volume>{}/first</volume>", dir.display()), MARK);
        Self { host, name, dir, secret }
    }

    fn document(&self, name: &str, format: &str, encryption: &str) -> String {
        let xml = format!(
            "<volume><name>{name}</name><capacity>4194304</capacity><target><format type='{format}'/>{encryption}\
             </target></volume>"
        );
        self.host.document(&format!("{name}.vol"), &xml)
    }

    fn luks(&self) -> String {
        format!("<encryption format='luks'><secret type='passphrase' uuid='{}'/></encryption>", self.secret)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn xml(&self, name: &str) -> String {
        self.host.virsh(&["vol-dumpxml", name, "--pool", &self.name])
    }
}

fn define(host: &Host, n: u32, kind: &str, usage: &str, value: &str) -> String {
    let uuid = format!("5ec2e702-0000-4000-8000-{n:012x}");
    let xml =
        format!("<secret private='yes'><uuid>{uuid}</uuid><usage type='{kind}'>{usage}</usage></secret>");
    host.virsh(&["secret-define", &host.document(&uuid, &xml)]);
    let file = host.files().join(format!("{uuid}.value"));
    fs::write(&file, value).unwrap();
    host.virsh(&["secret-set-value", &uuid, "--file", file.to_str().unwrap(), "--plain"]);
    fs::remove_file(&file).unwrap();
    uuid
}

/// What an image holds, read with the passphrase.
fn content(dir: &Path, options: &str) -> Vec<u8> {
    let (password, plain) = (dir.join("password"), dir.join("plain"));
    fs::write(&password, MARK).unwrap();
    let object = format!("secret,id=s,file={}", password.display());
    let read = Command::new("qemu-img")
        .args(["convert", "--object", &object, "--image-opts", options, "-O", "raw"])
        .arg(&plain)
        .output()
        .unwrap();
    fs::remove_file(&password).unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let content = fs::read(&plain).unwrap();
    fs::remove_file(&plain).unwrap();
    content
}

#[test]
fn encrypted_volumes_live_and_end() {
    let host = Host::start_with(CHEAP);
    let pool = Pool::new(&host, 1);
    let plain = pool.document("plain", "raw", "");
    host.virsh(&["vol-create", &pool.name, &plain]);
    let mut data = vec![0; 4 << 20];
    data[1_000_000..1_000_006].copy_from_slice(b"inside");
    fs::write(pool.path("plain"), &data).unwrap();

    host.virsh(&["vol-create", &pool.name, &pool.document("first", "raw", &pool.luks())]);
    let made = pool.xml("first");
    assert!(
        made.contains(&pool.secret) && made.contains("<capacity unit='bytes'>4194304</capacity>"),
        "{made}"
    );
    let from = |name: &str, format: &str, from: &str, encryption: &str| {
        let document = pool.document(name, format, encryption);
        host.virsh(&["vol-create-from", &pool.name, &document, from, "--inputpool", &pool.name]);
    };
    from("luks", "raw", "plain", &pool.luks());
    from("qcow2", "qcow2", "luks", &pool.luks());
    from("back", "raw", "qcow2", "");
    assert_eq!(fs::read(pool.path("back")).unwrap(), data, "through two encryptions and back");
    let luks = format!("driver=luks,key-secret=s,file.filename={}", pool.path("luks").display());
    assert_eq!(content(host.files(), &luks), data);
    host.virsh(&["vol-clone", "qcow2", "clone", "--pool", &pool.name]);
    let qcow2 = format!("driver=qcow2,encrypt.key-secret=s,file.filename={}", pool.path("clone").display());
    assert_eq!(content(host.files(), &qcow2), data);

    for name in ["first", "qcow2"] {
        host.virsh(&["vol-resize", name, "6M", "--pool", &pool.name]);
        assert!(
            host.virsh(&["vol-info", name, "--pool", &pool.name, "--bytes"]).contains("6291456"),
            "{name}"
        );
    }
    let run = host.try_virsh(&["vol-resize", "first", "8M", "--allocate", "--pool", &pool.name]);
    let text = "preallocate is only supported for an unencrypted raw volume";
    assert!(run.code == Some(1) && run.err.contains(text), "{run}");

    // A look at the files finds only the secret that is for a volume of that path.
    host.virsh(&["pool-refresh", &pool.name]);
    assert!(pool.xml("first").contains(&pool.secret));
    assert!(
        pool.xml("qcow2").contains("<encryption format='luks'>") && !pool.xml("qcow2").contains(&pool.secret)
    );
    let run = host.try_virsh(&["vol-resize", "qcow2", "8M", "--pool", &pool.name]);
    assert!(run.code == Some(1) && run.err.contains("no secret provided for luks encryption"), "{run}");
    host.virsh(&["pool-destroy", &pool.name]);
    host.virsh(&["secret-undefine", &pool.secret]);
}

#[test]
fn a_secret_that_is_missing_or_wrong_leaves_no_volume() {
    let host = Host::start();
    let pool = Pool::new(&host, 2);
    let iscsi = define(&host, 3, "iscsi", "<target>x</target>", MARK);
    let cases = [
        ("5ec2e702-0000-4000-8000-0000000000ff", "Secret not found: no secret with matching uuid"),
        (iscsi.as_str(), "is of type 'iscsi' not expected 'volume' type"),
    ];
    for (secret, text) in cases {
        let luks = pool.luks().replace(&pool.secret, secret);
        let run = host.try_virsh(&["vol-create", &pool.name, &pool.document("v", "qcow2", &luks)]);
        assert!(run.code == Some(1) && run.err.contains(text), "{run}");
    }
    let run = host.try_virsh(&["vol-create", &pool.name, &pool.document("v", "vmdk", &pool.luks())]);
    assert!(run.err.contains("volume encryption unsupported with format vmdk"), "{run}");
    assert_eq!(fs::read_dir(&pool.dir).unwrap().count(), 0);
    assert!(!host.virsh(&["vol-list", &pool.name]).contains(" v "));
    host.virsh(&["pool-destroy", &pool.name]);
    for secret in [&pool.secret, &iscsi] {
        host.virsh(&["secret-undefine", secret]);
    }
}

/// A guest reads an encrypted volume of a pool; another passphrase does not open it; nothing shows either.
#[test]
fn a_guest_opens_an_encrypted_volume() {
    let Some(host) = Host::ours(CHEAP) else { return };
    let pool = Pool::new(&host, 4);
    host.virsh(&["vol-create", &pool.name, &pool.document("first", "qcow2", &pool.luks())]);
    let name = host.name("luks");
    let disk = format!(
        "<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='{}' volume='first'>{}</source>\
         <target dev='vda' bus='virtio'/></disk>",
        pool.name,
        pool.luks()
    );
    let xml = bare_xml(&name).replace("<serial type='null'/>", &disk);
    host.virsh(&["define", &host.document(&name, &xml)]);
    host.virsh(&["start", &name]);
    let nodes = r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#;
    assert!(
        host.virsh(&["qemu-monitor-command", &name, nodes]).contains(r#""format": "luks""#)
            || host.virsh(&["qemu-monitor-command", &name, nodes]).contains(r#""format":"luks""#)
    );
    // Another one while it runs, with the same secret, and after the daemon was away.
    host.virsh(&["vol-create", &pool.name, &pool.document("more", "raw", &pool.luks())]);
    host.kill("virtqemud");
    let more = format!(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'>{}</source>\
         <target dev='vdb' bus='virtio'/></disk>",
        pool.path("more").display(),
        pool.luks()
    );
    let more = host.document("more.disk", &more);
    let objects = || host.virsh(&["qemu-monitor-command", &name, "--hmp", "info qom-tree /objects"]);
    let wrong = define(&host, 5, "volume", "<volume>wrong</volume>", "wrong");
    let refused = fs::read_to_string(&more).unwrap().replace(&pool.secret, &wrong);
    let refused = host.try_virsh(&["attach-device", &name, &host.document("wrong.disk", &refused), "--live"]);
    assert!(refused.err.contains("Invalid password, cannot unlock any keyslot"), "{refused}");
    assert_eq!(objects().matches("encryption-secret0").count(), 1, "{}", objects());
    host.virsh(&["attach-device", &name, &more, "--live"]);
    assert!(host.virsh(&["domblklist", &name]).contains("vdb"));
    assert_eq!(objects().matches("encryption-secret0").count(), 2, "{}", objects());
    let line = fs::read(format!("/proc/{}/cmdline", host.emulators()[0])).unwrap();
    assert!(!line.windows(MARK.len()).any(|w| w == MARK.as_bytes()));
    host.virsh(&["destroy", &name]);
    let file = host.files().join("wrong");
    fs::write(&file, "wrong").unwrap();
    host.virsh(&["secret-set-value", &pool.secret, "--file", file.to_str().unwrap(), "--plain"]);
    let run = host.try_virsh(&["start", &name]);
    assert!(run.code == Some(1) && run.err.contains("Invalid password, cannot unlock any keyslot"), "{run}");
    host.virsh(&["undefine", &name]);
    for daemon in ["virtstoraged", "virtqemud", "virtsecretd", "virtproxyd"] {
        assert!(!host.log(daemon).contains(MARK), "{daemon} logged it");
    }
    host.virsh(&["pool-destroy", &pool.name]);
}
