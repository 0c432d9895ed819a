//! Devices that come and go while the guest runs: nothing is left of what was refused, or of what a killed daemon began.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;

const RNG: &str = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";

/// A machine with buses to plug into and nothing that would let a PCI device go.
fn guest(host: &Host, name: &str) -> u32 {
    let buses = "<devices><controller type='usb' model='qemu-xhci'/><controller type='virtio-serial'/>\
                 <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>";
    let xml = bare_xml(name).replacen("<devices>", buses, 1);
    host.virsh(&["define", &host.document(name, &xml)]);
    host.virsh(&["start", name]);
    host.emulators()[0]
}

fn attach(host: &Host, name: &str, xml: &str, more: &[&str]) {
    let file = host.document("device", xml);
    let mut args = vec!["attach-device", name, &file];
    args.extend(more);
    host.virsh(&args);
}

fn refused(host: &Host, command: &str, name: &str, xml: &str, more: &[&str]) -> String {
    let file = host.document("device", xml);
    let mut args = vec![command, name, &file];
    args.extend(more);
    let run = host.try_virsh(&args);
    assert!(!run.ok(), "{run}");
    run.err
}

fn detach(host: &Host, name: &str, xml: &str) {
    let file = host.document("device", xml);
    host.virsh(&["detach-device", name, &file, "--live"]);
}

/// What QEMU has of a kind, by name.
fn in_qemu(host: &Host, name: &str, command: &str, key: &str) -> Vec<String> {
    let answer = host.virsh(&["qemu-monitor-command", name, command]);
    let key = format!("\"{key}\":\"");
    let mut found: Vec<_> =
        answer.split(&key).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    found.sort();
    found
}

fn everything(host: &Host, name: &str) -> Vec<String> {
    let objects = r#"{"execute":"qom-list","arguments":{"path":"/objects"}}"#;
    let mut all = in_qemu(host, name, r#"{"execute":"query-named-block-nodes"}"#, "node-name");
    all.extend(in_qemu(host, name, r#"{"execute":"query-chardev"}"#, "label"));
    all.extend(in_qemu(host, name, objects, "name"));
    all
}

#[test]
fn what_is_plugged_out_is_gone_altogether() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("plug");
    guest(&host, &name);
    let before = everything(&host, &name);
    let (image, port) = (host.files().join("image"), host.files().join("port"));
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let disk = |target: &str, bus: &str| {
        format!(
            "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='{target}' bus='{bus}'/></disk>",
            image.display()
        )
    };
    let channel = format!(
        "<channel type='unix'><source mode='bind' path='{}'/><target type='virtio' name='org.test.0'/></channel>",
        port.display()
    );
    let redir =
        "<redirdev bus='usb' type='tcp'><source mode='connect' host='127.0.0.1' service='9'/></redirdev>";
    let tablet = "<input type='tablet' bus='usb'/>";
    let controller = "<controller type='scsi' index='0' model='virtio-scsi'/>";
    attach(&host, &name, controller, &["--live"]);
    // Twice: a second device of the same name does not meet what the first one left.
    for _ in 0..2 {
        for xml in [&disk("sda", "scsi"), &channel, tablet] {
            attach(&host, &name, xml, &["--live"]);
        }
        assert!(UnixStream::connect(&port).is_ok(), "somebody listens at the channel");
        let busy = refused(&host, "detach-device", &name, controller, &["--live"]);
        assert!(busy.contains("device cannot be detached: device is busy"), "{busy}");
        let twin = refused(&host, "attach-device", &name, &disk("sda", "usb"), &["--live"]);
        assert!(twin.contains("XML error: target 'sda' duplicated for disk sources"), "{twin}");
        for xml in [&disk("sda", "scsi"), &channel, tablet] {
            detach(&host, &name, xml);
        }
        assert!(!port.exists(), "the channel's socket is gone");
    }
    // Nobody is at the other end.
    let lost = refused(&host, "attach-device", &name, redir, &["--live"]);
    assert!(lost.contains("Failed to connect"), "{lost}");
    assert_eq!(everything(&host, &name), before);
    let again = refused(&host, "detach-device", &name, tablet, &["--live"]);
    assert!(again.contains("device not found: matching input device not found"), "{again}");
    for (xml, text) in [
        ("<sound model='ich6'/>", "live attach of device 'sound' is not supported"),
        ("<input type='mouse' bus='ps2'/>", "input device on bus 'ps2' cannot be hot plugged."),
        ("<controller type='usb' index='3'/>", "'usb' controller cannot be hot plugged."),
    ] {
        let said = refused(&host, "attach-device", &name, xml, &["--live"]);
        assert!(said.contains(text), "{said}");
    }
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn a_change_of_guest_and_definition_is_made_in_both_or_in_none() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("halves");
    guest(&host, &name);
    let named = RNG.replace("</rng>", "<alias name='ua-rng'/></rng>");
    attach(&host, &name, &named, &["--config"]);
    let xml = || (host.virsh(&["dumpxml", &name]), host.virsh(&["dumpxml", &name, "--inactive"]));
    let before = xml();
    // The definition refuses, then the guest.
    let both = ["--live", "--config"];
    let said = refused(&host, "attach-device", &name, &named, &both);
    assert!(said.contains("non unique alias detected: ua-rng"), "{said}");
    let second = "<rng model='virtio'><backend model='random'>/dev/no/such</backend></rng>";
    refused(&host, "attach-device", &name, second, &both);
    let run = host.try_virsh(&["schedinfo", &name, "--live", "--config", "--set", "vcpu_period=5"]);
    assert!(!run.ok(), "{run}");
    assert_eq!(xml(), before);
    let file = |name: &str| std::fs::read_to_string(host.root().join(format!("etc/libvirt/qemu/{name}.xml")));
    assert!(!file(&name).unwrap().contains("/dev/no/such"));
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

/// Speaks to QEMU while no daemon does.
fn without_daemon(host: &Host, id: &str, command: &str) {
    let folder = host.root().join("var/lib/libvirt/qemu");
    let monitor =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path().join("monitor.sock")).find(|p| {
            p.exists()
                && p.parent().and_then(Path::file_name).is_some_and(|n| n.to_string_lossy().contains(id))
        });
    let mut stream = UnixStream::connect(monitor.expect("a monitor")).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for line in [r#"{"execute":"qmp_capabilities"}"#, command] {
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        while !answer.contains("\"return\"") {
            answer.clear();
            assert!(answers.read_line(&mut answer).unwrap() > 0, "QEMU left");
            assert!(!answer.contains("\"error\""), "{answer}");
        }
    }
}

#[test]
fn a_guest_lets_a_device_go_when_it_likes() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("later");
    guest(&host, &name);
    let channel = "<channel type='pty'><target type='virtio' name='org.test.0'/></channel>";
    attach(&host, &name, channel, &["--live"]);
    attach(&host, &name, RNG, &["--live"]);
    let before = everything(&host, &name);
    // Nothing in the machine answers: the call ends all the same, and the device stays.
    let begun = Instant::now();
    detach(&host, &name, RNG);
    assert!(begun.elapsed().as_secs() >= 4, "the guest was given time");
    assert!(host.virsh(&["dumpxml", &name]).contains("<rng"));
    assert_eq!(everything(&host, &name), before);
    // A reset takes away what the guest was asked for; what QEMU lost while nobody watched is noticed, too.
    host.kill("virtqemud");
    without_daemon(&host, &name, r#"{"execute":"device_del","arguments":{"id":"channel0"}}"#);
    wait::until("the lost channel is noticed", || !host.virsh(&["dumpxml", &name]).contains("<channel"));
    host.virsh(&["reset", &name]);
    wait::until("the device is gone", || !host.virsh(&["dumpxml", &name]).contains("<rng"));
    let left: Vec<_> = everything(&host, &name)
        .into_iter()
        .filter(|n| n.contains("channel0") || n.contains("rng"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    attach(&host, &name, channel, &["--live"]);
    host.virsh(&["detach-device-alias", &name, "channel0", "--live"]);
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn a_medium_that_cannot_be_read_leaves_the_old_one_in() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("medium");
    guest(&host, &name);
    let place = |file: &str| {
        let path = host.files().join(file);
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (place("good"), place("bad"));
    host.virsh(&["change-media", &name, "hdc", &good, "--insert", "--live"]);
    let before = everything(&host, &name);
    let xml = format!(
        "<disk type='file' device='cdrom'><driver name='qemu' type='qcow2'/><source file='{bad}'/>\
         <target dev='hdc' bus='ide'/></disk>"
    );
    let said = refused(&host, "update-device", &name, &xml, &["--live", "--config"]);
    assert!(said.contains("Image is not in qcow2 format"), "{said}");
    assert_eq!(everything(&host, &name), before);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains(&good) && !live.contains(&bad), "{live}");
    assert!(!host.virsh(&["dumpxml", &name, "--inactive"]).contains(&bad));
    let drive = host.virsh(&["qemu-monitor-command", &name, r#"{"execute":"query-block"}"#]);
    assert!(drive.contains(&good) && drive.contains("\"tray_open\":false"), "{drive}");
    host.virsh(&["change-media", &name, "hdc", "--eject", "--live"]);
    let drive = host.virsh(&["qemu-monitor-command", &name, r#"{"execute":"query-block"}"#]);
    assert!(!drive.contains(&good) && drive.contains("\"tray_open\":false"), "{drive}");
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}
