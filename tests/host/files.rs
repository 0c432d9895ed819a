//! Files and sockets of the host that a document names: those QEMU could not use, and those it could not make itself.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use virt_testkit::host::{Host, Options, bare_xml};

fn with_devices(name: &str, devices: &str) -> String {
    bare_xml(name).replace("<serial type='null'/>", devices)
}

fn disk(path: &Path) -> String {
    format!("<disk type='file'><source file='{}'/><target dev='vda' bus='virtio'/></disk>", path.display())
}

/// A named pipe waits for a writer, a folder has no bytes: neither may hold a start or a running guest up.
#[test]
fn what_is_no_image_is_refused_at_once() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let at = |name: &str| host.files().join(name);
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
    assert!(made.expect("mkfifo").success());
    fs::create_dir(at("folder")).expect("a folder");
    let cases = [
        ("pipe", "to be a regular file"),
        ("folder", "Is a directory"),
        ("missing", "Cannot access storage file"),
    ];
    let running = host.name("running");
    host.virsh(&["create", &host.document(&running, &bare_xml(&running))]);
    for (file, text) in cases {
        let name = host.name("bad");
        let begun = Instant::now();
        let run = host.try_virsh(&["create", &host.document(&name, &with_devices(&name, &disk(&at(file))))]);
        assert!(run.code == Some(1) && run.err.contains(text), "{run}");
        let plug = host.document(&format!("plug-{file}"), &disk(&at(file)));
        let run = host.try_virsh(&["attach-device", &running, &plug]);
        assert!(run.code == Some(1) && run.err.contains(text), "{run}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{file}: {:?}", begun.elapsed());
    }
    let name = host.name("pipe-port");
    let port = format!("<serial type='file'><source path='{}'/></serial>", at("pipe").display());
    let run = host.try_virsh(&["create", &host.document(&name, &with_devices(&name, &port))]);
    assert!(run.code == Some(1) && run.err.contains("Unable to open file"), "{run}");
    assert_eq!(host.virsh(&["domstate", &running]), "running");
    assert_eq!(host.emulators().len(), 1, "only the first guest runs");
    host.virsh(&["destroy", &running]);
}

/// QEMU's user may not write in the folder: the daemon makes the socket and hands it over, also to a guest that a
/// restarted daemon finds again.
#[test]
fn a_port_listens_where_only_the_daemon_may_write() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let folder = host.files().join("closed");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    let socket = folder.join("port.sock");
    let name = host.name("socket");
    let port = format!(
        "<serial type='unix'><source mode='bind' path='{}'/></serial>\
         <channel type='unix'><target type='virtio' name='org.example.0'/></channel>",
        socket.display()
    );
    host.virsh(&["define", &host.document(&name, &with_devices(&name, &port))]);
    host.virsh(&["start", &name]);
    let mut talk = UnixStream::connect(&socket).expect("somebody listens");
    talk.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    // The firmware of a machine without a disk says so on its serial port, or the reset does on its screen; a reset at
    // the least keeps the connection.
    host.virsh(&["reset", &name]);
    talk.set_nonblocking(true).expect("set");
    let mut byte = [0];
    let open = match talk.read(&mut byte) {
        Ok(n) => n > 0,
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    };
    assert!(open, "QEMU holds the connection");
    drop(talk);
    host.kill("virtqemud");
    assert_eq!(host.virsh(&["domstate", &name]), "running");
    host.virsh(&["destroy", &name]);
    assert!(!socket.exists(), "the socket goes with the guest");
    host.virsh(&["start", &name]);
    assert!(UnixStream::connect(&socket).is_ok());
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
    // A start that fails later leaves no socket.
    let broken = with_devices(&name, &format!("{port}{}", disk(Path::new("/no/such/image"))));
    host.virsh(&["define", &host.document(&name, &broken)]);
    assert_eq!(host.try_virsh(&["start", &name]).code, Some(1));
    assert!(!socket.exists());
}

/// Mistakes of clients are told to them, and are no errors in the daemons' logs.
#[test]
fn mistakes_of_clients_are_not_logged_as_errors() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("mistakes");
    host.virsh(&["define", &host.document(&name, &with_devices(&name, &disk(Path::new("/no/such/image"))))]);
    let bad = host.document("bad", "<domain type='qemu'><name>x</name>");
    let unknown =
        host.document("unknown", &bare_xml("x").replace("machine='pc'", "machine='no-such-machine'"));
    for args in [
        &["start", &name][..],
        &["define", &bad],
        &["define", &unknown],
        &["destroy", &name],
        &["domblkinfo", &name, "vda"],
        &["dominfo", "no-such-guest"],
        &["qemu-monitor-command", &name, "{"],
    ] {
        assert_eq!(host.try_virsh(args).code, Some(1), "{args:?}");
    }
    for daemon in ["virtqemud", "virtproxyd"] {
        let log = host.log(daemon);
        assert!(!log.contains("ERROR"), "{daemon}:\n{log}");
    }
}
