//! Secrets: real clients, values that nothing shows, and daemons that are killed at any moment.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use virt_api::common::v1alpha1::Ticket;
use virt_api::secret::v1alpha1::secret_service_client::SecretServiceClient;
use virt_api::secret::v1alpha1::{GetValueRequest, RevealRequest, SecretRef, Usage};
use virt_rpc::client;
use virt_rpc::client::{Client, ClientSession, Daemon};
use virt_rpc::from_status;
use virt_secret::Value;
use virt_testkit::host::{Host, Options};
use virt_tests::level;

fn uuid(n: usize) -> String {
    format!("5ec2e700-0000-4000-8000-{n:012x}")
}

/// Defines a secret for volume `/n` and gives it a value.
fn make(host: &Host, n: usize, attributes: &str, value: &str) -> String {
    let uuid = uuid(n);
    let xml = format!(
        "<secret {attributes}><uuid>{uuid}</uuid><usage type='volume'><volume>/{n}</volume></usage></secret>"
    );
    host.virsh(&["secret-define", &host.document(&uuid, &xml)]);
    let file = host.files().join(format!("{uuid}.value"));
    fs::write(&file, value).unwrap();
    host.virsh(&["secret-set-value", &uuid, "--file", file.to_str().unwrap(), "--plain"]);
    fs::remove_file(&file).unwrap();
    uuid
}

#[test]
fn values_come_back_unless_private() {
    let host = Host::start();
    let shown = make(&host, 1, "", "hunter2");
    let hidden = make(&host, 2, "private='yes'", "hunter3");
    assert_eq!(host.virsh(&["secret-get-value", &shown, "--plain"]), "hunter2");
    let refused = host.try_virsh(&["secret-get-value", &hidden]);
    assert!(
        refused.code == Some(1) && refused.err.ends_with("Invalid secret: secret is private"),
        "{refused}"
    );
    let readonly = host.virsh_at(host.readonly_uri(), &["secret-get-value", &shown]);
    assert!(readonly.err.contains("read only access prevents virSecretGetValue"), "{readonly}");
    let listed = host.virsh_at(host.readonly_uri(), &["secret-list", "--private"]);
    assert!(listed.out.contains(&hidden) && !listed.out.contains(&shown), "{listed}");
    for secret in [shown, hidden] {
        host.virsh(&["secret-undefine", &secret]);
    }
}

#[test]
fn events_reach_clients() {
    let host = Host::start();
    host.python(
        r#"
import libvirt, os, sys, threading, time
uuid = sys.argv[1]
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
conn = libvirt.open(os.environ["URI"])
seen, condition = [], threading.Condition()
def note(text):
    with condition:
        seen.append(text); condition.notify_all()
def life(conn, secret, event, detail, opaque):
    if secret.UUIDString() == uuid:
        note("life %d %d %s" % (event, secret.usageType(), secret.usageID()))
def changed(conn, secret, opaque):
    if secret.UUIDString() == uuid:
        note("value")
conn.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE, life, None)
value = conn.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED, changed, None)
secret = conn.secretDefineXML("<secret><uuid>%s</uuid><usage type='tls'><name>%s</name></usage></secret>" % (uuid, uuid))
secret.setValue(b"\0\xffx")
assert secret.value() == b"\0\xffx"
conn.secretEventDeregisterAny(value)
secret.setValue(b"y")
secret.undefine()
wanted = ["life 0 4 " + uuid, "value", "life 1 4 " + uuid]
with condition:
    while len(seen) < len(wanted) and condition.wait(20):
        pass
assert seen == wanted, seen
"#,
        &[&uuid(3)],
    );
}

/// A value that cannot be anywhere by chance.
const MARK: &str = "correct-horse-battery-staple-0815";

#[test]
fn a_value_is_in_no_log_no_journal_and_no_memory() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let secret = make(&host, 4, "private='no'", MARK);
    assert_eq!(host.virsh(&["secret-get-value", &secret, "--plain"]), MARK);
    make(&host, 5, "private='yes'", MARK);
    let refused = host.try_virsh(&["secret-get-value", &uuid(5)]);
    assert!(!refused.err.contains(MARK), "{refused}");
    // What is on disk is damaged in a way that an error could quote.
    let file = host.root().join(format!("etc/libvirt/secrets/{secret}.base64"));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    fs::write(&file, format!("{MARK}!!")).unwrap();
    let damaged = host.try_virsh(&["secret-get-value", &secret]);
    assert!(damaged.err.contains("not valid base64") && !damaged.err.contains(MARK), "{damaged}");
    let base64 = Value::new(MARK.into()).to_base64();
    for daemon in ["virtsecretd", "virtproxyd"] {
        let log = host.log(daemon);
        assert!(!log.contains(MARK) && !log.contains(&base64[..20]), "{daemon} logged it:\n{log}");
    }
    let journal = fs::read(host.root().join("run/libvirt/secrets/virtd-events")).unwrap();
    assert!(!contains(&journal, MARK.as_bytes()));
    let pid = host.pid("virtsecretd").unwrap();
    match search_memory(pid, &[MARK.as_bytes(), &base64.as_bytes()[..20]]) {
        Some(found) => assert_eq!(found, 0, "the daemon's memory holds a value that nobody asks for"),
        None => println!("skipped: the memory of another process cannot be read here"),
    }
}

#[test]
fn an_ordinary_users_daemons_are_hidden_from_his_other_programs() {
    let Some(host) = Host::ours(Options { session: true, ..Options::default() }) else { return };
    let secret = make(&host, 6, "", MARK);
    assert_eq!(host.virsh(&["secret-get-value", &secret, "--plain"]), MARK);
    for daemon in ["virtsecretd", "virtproxyd"] {
        let process = format!("/proc/{}", host.pid(daemon).unwrap());
        let user: u32 = fs::read_to_string(format!("{process}/status"))
            .unwrap()
            .lines()
            .find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
            .unwrap();
        if user == 0 {
            println!("skipped: for root there is nothing to see");
            return;
        }
        // The kernel gives the files of a process that must not be dumped to root.
        assert_eq!(fs::metadata(format!("{process}/mem")).unwrap().uid(), 0, "{daemon} would be dumped");
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|w| w == mark)
}

/// How often one of `marks` is in a process's writable memory; `None` when it cannot be read.
fn search_memory(pid: u32, marks: &[&[u8]]) -> Option<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let (mut found, mut read) = (0, 0);
    for line in maps.lines().filter(|l| l.contains(" rw")) {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let [start, end] = [start, end].map(|n| u64::from_str_radix(n, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.seek(SeekFrom::Start(start)).ok()?;
        if memory.read_exact(&mut bytes).is_ok() {
            read += bytes.len();
            found += marks.iter().filter(|m| contains(&bytes, m)).count();
        }
    }
    (read > 0).then_some(found)
}

fn daemon(host: &Host) -> Daemon {
    Daemon::new(host.root().join("run/libvirt/grpc"), "virtsecretd")
}

async fn value(daemon: &Daemon, ticket: Ticket) -> Value {
    Value::from_memfd(daemon.claim(&ticket.token).await.unwrap().pop().unwrap()).unwrap()
}

#[test]
fn only_daemons_are_told_a_private_value() {
    let Some(host) = Host::ours(Options::default()) else { return };
    make(&host, 7, "private='yes'", MARK);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let daemon = daemon(&host);
        let mut secrets = client!(SecretServiceClient, daemon);
        let usage = Some(Usage { r#type: 1, id: "/7".into() });
        let secret = Some(SecretRef { usage, ..SecretRef::default() });
        // As virtqemud asks: the daemon's own user, for itself.
        let wanted = RevealRequest { secret: secret.clone(), usage_type: Some(1) };
        let ticket = secrets.reveal(wanted.clone()).await.unwrap().into_inner();
        assert_eq!(value(&daemon, ticket.clone()).await.bytes(), MARK.as_bytes());
        assert!(daemon.claim(&ticket.token).await.is_err(), "a ticket is good once");
        let other = RevealRequest { usage_type: Some(2), ..wanted.clone() };
        assert!(secrets.reveal(other).await.is_err(), "a secret is revealed for its use only");
        let plain = GetValueRequest { secret, flags: 0 };
        let refused = from_status(&secrets.get_value(plain).await.unwrap_err());
        assert_eq!(refused.message(), "Invalid secret: secret is private");
        // As virtproxyd asks: for a client.
        let session = ClientSession::open(&daemon, Client::default()).await.unwrap();
        let refused = from_status(&secrets.reveal(session.request(wanted)).await.unwrap_err());
        assert_eq!(refused.code(), virt_error::Code::AccessDenied);
    });
}

/// Each secret on disk is whole: a document, and a value that was really set.
fn check_files(dir: &Path) -> usize {
    let names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    let mut documents = 0;
    for path in &names {
        let bytes = fs::read(path).unwrap();
        match path.extension().and_then(|e| e.to_str()) {
            Some("xml") => {
                documents += 1;
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.ends_with("</secret>\n"), "{}: {text}", path.display());
            }
            Some("base64") => {
                assert!(path.with_extension("xml").exists(), "{} has no document", path.display());
                let value = Value::from_base64(&bytes).unwrap();
                assert!(value.bytes().starts_with(b"value-"), "{}", path.display());
            }
            _ => panic!("{} was left behind", path.display()),
        }
    }
    documents
}

#[test]
fn killed_at_any_moment_no_secret_is_half_made() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let dir = host.root().join("etc/libvirt/secrets");
    make(&host, 8, "", "value-that-stays");
    for round in 0..level(6, 60) {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                host.try_python(
                    r#"
import libvirt, os, sys
libvirt.registerErrorHandler(lambda *a: None, None)
for i in range(400):
    try:
        conn = libvirt.open(os.environ["URI"])
        uuid = "5ec2e701-0000-4000-8000-%012x" % (i % 7)
        secret = conn.secretDefineXML("<secret ephemeral='%s'><uuid>%s</uuid></secret>" % ("yes" if i % 5 == 4 else "no", uuid))
        secret.setValue(b"value-%d" % i)
        if i % 3 == 0:
            secret.undefine()
    except libvirt.libvirtError:
        break
"#,
                    &[],
                )
            });
            std::thread::sleep(std::time::Duration::from_millis(100 + 37 * round % 400));
            host.kill("virtsecretd");
            work.join().unwrap();
        });
        // The next call starts it again; it tidies before it answers.
        let listed = host.virsh(&["secret-list", "--no-ephemeral"]).lines().count();
        assert_eq!(check_files(&dir), listed);
        assert_eq!(host.virsh(&["secret-get-value", &uuid(8), "--plain"]), "value-that-stays");
    }
}

#[test]
fn a_guest_opens_its_encrypted_disk_and_no_command_line_shows_why() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let password = host.files().join("password");
    fs::write(&password, MARK).unwrap();
    let image = host.files().join("luks.img");
    let object = format!("secret,id=s,file={}", password.display());
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "luks", "--object", &object, "-o", "key-secret=s,iter-time=10"])
        .args([image.to_str().unwrap(), "4M"])
        .status()
        .unwrap();
    assert!(made.success());
    fs::remove_file(&password).unwrap();
    let secret = make(&host, 9, "private='yes'", MARK);
    let name = host.name("luks");
    let disk = format!(
        "<devices><disk type='file'><driver name='qemu' type='raw'/><source file='{}'><encryption format='luks'>\
         <secret type='passphrase' uuid='{secret}'/></encryption></source><target dev='vda' bus='virtio'/></disk>",
        image.display()
    );
    let xml = virt_testkit::host::bare_xml(&name).replace("<devices>", &disk);
    assert!(xml.contains(&secret), "{xml}");
    host.virsh(&["create", &host.document(&name, &xml)]);
    let nodes = r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#;
    let nodes = host.virsh(&["qemu-monitor-command", &name, nodes]);
    assert!(nodes.contains(r#""drv":"luks""#), "{nodes}");
    let emulator = host.emulators();
    let line = fs::read(format!("/proc/{}/cmdline", emulator[0])).unwrap();
    let base64 = Value::new(MARK.into()).to_base64();
    assert!(contains(&line, b"keyid") && !contains(&line, MARK.as_bytes()));
    assert!(!contains(&line, &base64.as_bytes()[..20]));
    assert!(!host.log("virtqemud").contains(MARK));
    let document = host.virsh(&["dumpxml", "--security-info", &name]);
    assert!(!document.contains(MARK) && document.contains(&secret));
    host.virsh(&["destroy", &name]);
    host.virsh(&["secret-undefine", &secret]);
    // Without the secret nothing is started, and nothing is left.
    let refused = host.try_virsh(&["create", &host.document(&name, &xml)]);
    assert!(refused.err.contains("Secret not found: no secret with matching uuid"), "{refused}");
    assert!(host.emulators().is_empty());
}
