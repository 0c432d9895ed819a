//! libvirt-python, the binding most programs use.

use virt_testkit::host::{Host, bare_xml, linux_xml};

#[test]
fn open_list_and_lifecycle() {
    let host = Host::start();
    let name = host.name("py");
    let xml = bare_xml(&name);
    host.python(
        r#"
import libvirt, os, sys
xml, name = sys.argv[1:]
conn = libvirt.open(os.environ["URI"])
assert conn.getType() == "QEMU", conn.getType()
assert conn.getLibVersion() == 11003000, conn.getLibVersion()
assert conn.isAlive()
dom = conn.defineXML(xml)
assert dom.name() == name and dom.ID() == -1 and not dom.isActive() and dom.isPersistent()
assert name in [d.name() for d in conn.listAllDomains(0)]
assert name in conn.listDefinedDomains()
assert conn.lookupByUUIDString(dom.UUIDString()).name() == name
dom.create()
assert dom.isActive() and dom.ID() > 0
assert conn.lookupByID(dom.ID()).name() == name
state, reason = dom.state()
assert (state, reason) == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED), (state, reason)
state, maximum, memory, vcpus, cpu = dom.info()
assert (maximum, memory, vcpus) == (16384, 16384, 1), dom.info()
dom.suspend(); assert dom.state()[0] == libvirt.VIR_DOMAIN_PAUSED
dom.resume(); assert dom.state()[0] == libvirt.VIR_DOMAIN_RUNNING
dom.destroy()
assert dom.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED], dom.state()
dom.undefine()
try:
    conn.lookupByName(name)
    raise SystemExit("still there")
except libvirt.libvirtError as e:
    assert e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN and e.get_error_domain() == libvirt.VIR_FROM_QEMU, e
    assert e.get_error_message() == "Domain not found: no domain with matching name '%s'" % name, e
conn.close()
"#,
        &[&xml, &name],
    );
}

/// Listens with one connection while another one works, and prints what came as `event detail` in order.
const EVENTS: &str = r#"
import libvirt, os, sys, threading, time
linux, bare, name, bare_name = sys.argv[1:]
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
seen, condition = [], threading.Condition()
def note(text):
    with condition:
        seen.append(text); condition.notify_all()
def wait_for(text, patience=60):
    end = time.time() + patience
    with condition:
        while text not in seen:
            if not condition.wait(end - time.time()):
                sys.exit("no %r came, only %r" % (text, seen))
def lifecycle(conn, dom, event, detail, opaque):
    if dom.name() in (name, bare_name):
        note("%s %d/%d" % ("linux" if dom.name() == name else "bare", event, detail))
def reboot(conn, dom, opaque):
    if dom.name() == name:
        note("linux reboot")
listener = libvirt.open(os.environ["URI"])
ids = [listener.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None),
       listener.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, reboot, None)]
conn = libvirt.open(os.environ["URI"])
"#;

#[test]
fn events_come_in_the_references_order() {
    let host = Host::start();
    let (linux, bare) = (host.name("linux"), host.name("bare"));
    let (linux_doc, bare_doc) = (linux_xml(&linux, &host.image()), bare_xml(&bare));
    let program = format!(
        "{EVENTS}{}",
        r#"
dom = conn.defineXML(linux)
dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "t", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
conn.defineXML(dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
dom.rename(name + "x"); dom.rename(name)
dom.create(); dom.suspend(); dom.resume()
stream = conn.newStream(); dom.openConsole(None, stream, 0)
text = b""
while b"guest ready" not in text:
    text += stream.recv(4096)
stream.abort()
dom.shutdown()
wait_for("linux 5/0")
dom.undefine()
other = conn.createXML(bare, libvirt.VIR_DOMAIN_START_PAUSED)
other.resume(); other.destroy()
wait_for("bare 5/1")
print("\n".join(seen))
for i in ids:
    listener.domainEventDeregisterAny(i)
"#
    );
    let seen = host.python(&program, &[&linux_doc, &bare_doc, &linux, &bare]);
    // event/detail of the lifecycle event. The rename in between has the other name and is not counted there: the
    // reference reports both names, each once.
    let expected = "\
linux 0/0
linux 0/1
linux 1/1
linux 0/2
linux 4/0
linux 2/0
linux 3/0
linux 4/0
linux 6/1
linux 5/0
linux 1/0
bare 2/0
bare 3/0
bare 4/0
bare 6/2
bare 5/1";
    assert_eq!(seen, expected);
}

#[test]
fn a_console_stream_without_threads() {
    let host = Host::start();
    let name = host.name("linux");
    let xml = linux_xml(&name, &host.image());
    host.python(
        r#"
import libvirt, os, sys
conn = libvirt.open(os.environ["URI"])
dom = conn.createXML(sys.argv[1], 0)
def talk(keys, expected):
    stream = conn.newStream(0)
    dom.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    if keys:
        assert stream.send(keys) == len(keys)
    text = b""
    while expected not in text:
        piece = stream.recv(1024)
        assert piece, "the console ended after %r" % text
        text += piece
    return stream
talk(b"", b"guest ready").finish()
first = talk(b"echo one-$((1+1))\n", b"one-2")
try:                                             # taken
    dom.openConsole(None, conn.newStream(0), libvirt.VIR_DOMAIN_CONSOLE_SAFE)
    second = conn.newStream(0); dom.openConsole(None, second, 0)
    sys.exit("two clients at one console")
except libvirt.libvirtError as e:
    assert "Active console session exists" in str(e) or "SAFE" in str(e) or e.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED, e
first.abort()
dom.destroy()
"#,
        &[&xml],
    );
}
