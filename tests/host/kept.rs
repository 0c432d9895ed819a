//! A connection that looks on never sees less than what another one has done.

use virt_testkit::host::{Host, Options, bare_xml};

#[test]
fn what_one_client_changes_the_other_sees_at_once() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("kept");
    host.python(
        r#"
import libvirt, os, random, sys
xml, name = sys.argv[1:]
libvirt.registerErrorHandler(lambda c, e: None, None)
watcher, actor = libvirt.open(os.environ["URI"]), libvirt.open(os.environ["URI"])
rng = random.Random(5)

def seen(conn):
    def told(f):
        try: return f()
        except libvirt.libvirtError as e: return e.get_error_code()
    rows = []
    for n in names:
        d = told(lambda: conn.lookupByName(n))
        if isinstance(d, int):
            rows.append((n, d)); continue
        again = told(lambda: conn.lookupByUUIDString(d.UUIDString()).name())
        by_id = told(lambda: conn.lookupByID(d.ID()).name()) if d.ID() > 0 else None
        rows.append((n, d.UUIDString(), d.ID(), again, by_id, told(d.state), told(d.isActive), told(d.isPersistent), told(d.autostart)))
    lists = [sorted((d.name(), d.ID()) for d in conn.listAllDomains(f)) for f in (0, 1, 2)]
    return rows, lists, sorted(conn.listDomainsID()), sorted(conn.listDefinedDomains()), conn.numOfDomains()

names = [name + "-%d" % i for i in range(3)] + [name + "-x"]
document = lambda n: xml.replace("<name>" + name + "</name>", "<name>" + n + "</name>")

def act(n):
    what = rng.choice(["define", "create", "undefine", "destroy", "suspend", "resume", "rename", "autostart", "transient"])
    try:
        if what == "define": actor.defineXML(document(n))
        elif what == "transient": actor.createXML(document(n))
        elif what == "rename": actor.lookupByName(n).rename(name + "-x" if n != name + "-x" else names[0])
        elif what == "autostart": actor.lookupByName(n).setAutostart(rng.randrange(2))
        else: getattr(actor.lookupByName(n), what)()
    except libvirt.libvirtError: pass
    return what, n

for step in range(150):
    seen(watcher)
    did = act(rng.choice(names))
    kept = seen(watcher)
    fresh = libvirt.open(os.environ["URI"])
    asked = seen(fresh)
    fresh.close()
    assert kept == asked, (step, did, kept, asked)
for d in actor.listAllDomains(0):
    if d.isActive(): d.destroy()
    if d in actor.listAllDomains(0) or d.name() in actor.listDefinedDomains(): d.undefine()
"#,
        &[&bare_xml(&name), &name],
    );
}
