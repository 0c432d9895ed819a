//! What clients change and read of a running guest: single vCPUs, thresholds of images, connections to displays, figures.

use std::fs;

use virt_testkit::host::{Host, Options, bare_xml};

/// A guest with nothing to boot but a disk, a display, I/O threads and room for vCPUs.
fn rich_xml(host: &Host, name: &str) -> String {
    let image = host.files().join(format!("{name}.qcow2"));
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&image)
        .arg("64M")
        .status();
    assert!(made.unwrap().success());
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
         <target dev='vda' bus='virtio'/></disk>\
         <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>\
         <graphics type='vnc' port='-1' autoport='yes'/><video><model type='vga'/></video>",
        image.display()
    );
    bare_xml(name)
        .replace("<vcpu>1</vcpu>", "<vcpu current='2'>4</vcpu><iothreads>2</iothreads>")
        .replace("<features><acpi/>", "<features><acpi/><apic/>")
        .replace("<devices>", &format!("<devices>{disk}"))
}

#[test]
fn single_vcpus_come_while_the_guest_runs_and_go_from_its_definition() {
    let host = Host::start();
    let name = host.name("vcpu");
    host.virsh(&["define", &host.document(&name, &rich_xml(&host, &name))]);
    host.virsh(&["start", &name]);
    let refused = |args: &[&str]| {
        let run = host.try_virsh(&[&["setvcpu", name.as_str()], args].concat());
        assert_eq!(run.code, Some(1), "{run}");
        run.err.trim().to_string()
    };
    host.virsh(&["setvcpu", &name, "3", "--enable"]);
    let live = host.virsh(&["dumpxml", &name]);
    assert!(live.contains("<vcpu placement='static' current='3'>4</vcpu>"), "{live}");
    assert!(live.contains("<vcpu id='1' enabled='yes' hotpluggable='no' order='2'/>"), "{live}");
    assert!(live.contains("<vcpu id='2' enabled='no' hotpluggable='yes'/>"), "{live}");
    assert!(live.contains("<vcpu id='3' enabled='yes' hotpluggable='yes' order='3'/>"), "{live}");
    assert_eq!(
        refused(&["1", "--enable"]),
        "error: invalid argument: vcpu '1' is already in requested state"
    );
    assert_eq!(refused(&["1", "--disable"]), "error: Operation not supported: vcpu '1' can't be unplugged");
    assert_eq!(refused(&["9", "--enable"]), "error: invalid argument: vcpu 9 is not present in live config");
    assert_eq!(
        refused(&["0,3", "--disable"]),
        "error: Operation not supported: only one hotpluggable entity can be selected"
    );
    host.virsh(&["setvcpu", &name, "2,3", "--enable", "--config"]);
    host.virsh(&["setvcpu", &name, "1", "--disable", "--config"]);
    let kept = host.virsh(&["dumpxml", &name, "--inactive"]);
    assert!(kept.contains("<vcpu placement='static' current='3'>4</vcpu>"), "{kept}");
    assert!(kept.contains("<vcpu id='1' enabled='no' hotpluggable='yes'/>"), "{kept}");
    assert_eq!(
        refused(&["0", "--disable", "--config"]),
        "error: invalid argument: vCPU '0' can't be modified"
    );
    host.virsh(&["destroy", &name]);
    // What is listed is what starts.
    host.virsh(&["start", &name]);
    assert!(host.virsh(&["vcpucount", &name, "--live", "--active"]).contains('3'));
    host.virsh(&["destroy", &name]);
    host.virsh(&["undefine", &name]);
}

#[test]
fn an_image_that_grows_behind_its_threshold_is_told_once() {
    let host = Host::start();
    let name = host.name("grow");
    host.virsh(&["create", &host.document(&name, &rich_xml(&host, &name))]);
    let program = r#"
import libvirt, libvirt_qemu, os, sys, time
libvirt.virEventRegisterDefaultImpl()
conn = libvirt.open(os.environ["URI"])
libvirt.registerErrorHandler(lambda *a: None, None)
dom = conn.lookupByName(sys.argv[1])
told = []
def heard(conn, dom, dev, path, threshold, excess, opaque): told.append((dev, path is not None, threshold, excess > 0))
conn.domainEventRegisterAny(dom, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD, heard, None)
def grow(at):
    command = 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write %s 1M"' % at
    libvirt_qemu.qemuMonitorCommand(dom, command, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
def wait(count):
    end = time.time() + 30
    libvirt.virEventAddTimeout(50, lambda *a: None, None)
    while len(told) < count and time.time() < end: libvirt.virEventRunDefaultImpl()
    return told
def threshold(): return conn.domainListGetStats([dom], libvirt.VIR_DOMAIN_STATS_BLOCK)[0][1].get("block.0.threshold")
dom.setBlockThreshold("vda", 100000)
print(threshold())
grow("0")
print(sorted(wait(2)))
grow("2M")
dom.setBlockThreshold("vda[2]", 4000000)
told.clear()
grow("4M"); grow("6M")
print(wait(1))
print(threshold())
for dev in ["vda[9]", "nix", "hdc"]:
    try: dom.setBlockThreshold(dev, 5)
    except libvirt.libvirtError as e: print(e.get_error_code(), e)
"#;
    let told = host.python(program, &[&name]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "100000",
            "[('vda', True, 100000, True), ('vda[2]', True, 100000, True)]",
            "[('vda[2]', True, 4000000, True)]",
            "None",
            "8 invalid argument: failed to find disk 'vda[9]'",
            "8 invalid argument: failed to find disk 'nix'",
            "1 internal error: argument key 'node-name' must not have null value",
        ],
        "{told}"
    );
    host.virsh(&["destroy", &name]);
}

#[test]
fn a_display_takes_clients_that_bring_their_connection() {
    let host = Host::start();
    let name = host.name("display");
    host.virsh(&["create", &host.document(&name, &rich_xml(&host, &name))]);
    let program = r#"
import libvirt, os, socket, sys
libvirt.registerErrorHandler(lambda *a: None, None)
conn = libvirt.open(os.environ["URI"])
dom = conn.lookupByName(sys.argv[1])
def hello(s):
    s.settimeout(30)
    return s.recv(12)
def brought(index, flags=0):
    ours, theirs = socket.socketpair()
    dom.openGraphics(index, theirs.fileno(), flags)
    theirs.close()
    return hello(ours)
def given(index, flags=0): return hello(socket.socket(fileno=dom.openGraphicsFD(index, flags)))
def attempt(what):
    try: print(what())
    except libvirt.libvirtError as e: print(e.get_error_code(), e)
for call in (brought, given):
    attempt(lambda: call(0))
    attempt(lambda: call(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))
    attempt(lambda: call(5))
attempt(lambda: given(0, 8))
before = len(os.listdir("/proc/self/fd"))
for _ in range(50):
    try: brought(5)
    except libvirt.libvirtError: pass
attempt(lambda: brought(0))
print(len(os.listdir("/proc/self/fd")) - before)
"#;
    let told = host.python(program, &[&name]);
    let hello = "b'RFB 003.008\\n'";
    let none = "1 internal error: No graphics backend with index 5";
    let unknown = "8 unsupported flags (0x8) in function qemuDomainOpenGraphicsFD";
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [hello, hello, none, hello, hello, none, unknown, hello, "0"],
        "{told}"
    );
    host.virsh(&["destroy", &name]);
    let stopped = host.try_python(&program.replace("def attempt", "print(given(0))\ndef attempt"), &[&name]);
    assert!(!stopped.ok());
}

/// Nothing of refused connections stays in the daemons.
#[test]
fn descriptors_of_refused_connections_are_closed() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("refused");
    host.virsh(&["create", &host.document(&name, &rich_xml(&host, &name))]);
    let program = r#"
import libvirt, os, socket, sys
libvirt.registerErrorHandler(lambda *a: None, None)
conn = libvirt.open(os.environ["URI"])
dom = conn.lookupByName(sys.argv[1])
ours, theirs = socket.socketpair()
for _ in range(100):
    try: dom.openGraphics(9, theirs.fileno(), 0)
    except libvirt.libvirtError: pass
    try: dom.openGraphicsFD(9, 0)
    except libvirt.libvirtError: pass
theirs.close()
ours.settimeout(30)
print(ours.recv(1))
"#;
    let open =
        |daemon: &str| fs::read_dir(format!("/proc/{}/fd", host.pid(daemon).unwrap())).unwrap().count();
    host.python(program, &[&name]);
    let before = (open("virtqemud"), open("virtproxyd"));
    // The last print: nobody holds the other end any more.
    assert_eq!(host.python(program, &[&name]), "b''");
    assert!(open("virtqemud") <= before.0 + 3 && open("virtproxyd") <= before.1 + 3);
    host.virsh(&["destroy", &name]);
}

#[test]
fn figures_of_a_running_guest() {
    let host = Host::start();
    let name = host.name("figures");
    host.virsh(&["create", &host.document(&name, &rich_xml(&host, &name))]);
    let stats = host.virsh(&["domstats", &name]);
    for line in [
        "cpu.cache.monitor.count=0",
        "cpu.haltpoll.success.time=",
        "iothread.count=2",
        "iothread.2.poll-max-ns=",
        "iothread.1.poll-grow=0",
        "block.0.allocation=0",
    ] {
        assert!(stats.contains(line), "{line}: {stats}");
    }
    if host.try_virsh(&["schedinfo", &name]).ok() {
        let total = host.virsh(&["cpu-stats", &name, "--total"]);
        assert!(total.contains("cpu_time") && total.contains("user_time"), "{total}");
        let beyond = host.try_virsh(&["cpu-stats", &name, "--start", "100000"]);
        assert!(beyond.err.contains("Start CPU 100000 is out of range"), "{beyond}");
    }
    let shot = host.files().join(format!("{name}.png"));
    host.virsh(&["screenshot", &name, &shot.to_string_lossy()]);
    let bytes = fs::read(&shot).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"P6"));
    host.virsh(&["destroy", &name]);
}
