//! virtqemud killed with SIGKILL at random moments of define, start, destroy and undefine.
//!
//! After each kill every object is whole (the old or the new one), every running guest is known with its id, and no
//! QEMU, file or control group is there that belongs to none.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime};

use virt_testkit::host::{Host, Options, bare_xml};
use virt_testkit::wait;
use virt_tests::level;

/// Begins the names of guests that are acted on.
const VICTIM: &str = "victim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Define,
    Start,
    Destroy,
    Undefine,
}

impl Act {
    const ALL: [Self; 4] = [Self::Define, Self::Start, Self::Destroy, Self::Undefine];

    /// A kill comes up to this long after the request left: the act takes about as long, a little more is allowed so
    /// that its last steps are met as well.
    fn window(self) -> Duration {
        Duration::from_millis(match self {
            Self::Define | Self::Undefine => 6,
            Self::Start => 130,
            Self::Destroy => 10,
        })
    }
}

/// A small generator; its seed is printed, and `VIRT_TEST_SEED` sets it.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("VIRT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now) | 1;
        println!("VIRT_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % u64::try_from(limit.as_micros()).unwrap())
    }
}

/// A client that is connected and acts when told, so that a kill can be timed from the request.
const CLIENT: &str = r#"
import libvirt, os, sys
libvirt.registerErrorHandler(lambda ctx, err: None, None)
act, name, xml = sys.argv[1:]
conn = libvirt.open(os.environ["URI"])
dom = None if act == "Define" else conn.lookupByName(name)
print("ready", flush=True)
sys.stdin.readline()
print("asked", flush=True)
try:
    if act == "Define": conn.defineXML(xml)
    elif act == "Start": dom.create()
    elif act == "Destroy": dom.destroy()
    elif act == "Undefine": dom.undefine()
    print("done", flush=True)
except libvirt.libvirtError as e:
    print("failed: %s" % e, flush=True)
"#;

struct Client {
    child: Child,
    keys: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Client {
    fn ready(host: &Host, act: Act, name: &str, xml: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", CLIENT, &format!("{act:?}"), name, xml])
            .env("URI", host.uri())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self { child, keys, lines };
        assert_eq!(client.line(), "ready");
        client
    }

    fn line(&mut self) -> String {
        self.lines.next().and_then(Result::ok).unwrap_or_default()
    }

    /// Returns when the request is about to leave.
    fn go(&mut self) {
        self.keys.write_all(b"go\n").unwrap();
        assert_eq!(self.line(), "asked");
    }

    fn end(mut self) -> String {
        let answer = self.line();
        self.child.wait().unwrap();
        answer
    }
}

/// A domain document with a title, which the second definition changes.
fn titled(name: &str) -> String {
    bare_xml(name).replacen("<memory", "<title>old</title><memory", 1)
}

/// What a kill must leave alone.
struct Bystander {
    name: String,
    id: String,
    emulators: Vec<u32>,
}

fn files(host: &Host, dir: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(host.root().join(dir)) else { return BTreeSet::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// Nothing is left over and nothing is missing, as seen from outside.
fn check(host: &Host, bystander: &Bystander, when: &str) {
    assert_eq!(host.virsh(&["domid", &bystander.name]), bystander.id, "{when}: the bystander's id");
    assert_eq!(host.virsh(&["domstate", &bystander.name]), "running", "{when}");
    // A guest that was told to end just before the kill may need a moment for it: all that count as running must answer.
    let running = || lines(&host.virsh(&["list", "--name"]));
    let answers =
        |name: &String| host.try_virsh(&["qemu-monitor-command", name, "--hmp", "info status"]).ok();
    wait::until("as many QEMU as running guests, all of which answer", || {
        let running = running();
        host.emulators().len() == running.len() && running.iter().all(answers)
    });
    let running = running();
    let persistent = lines(&host.virsh(&["list", "--all", "--persistent", "--name"]));
    let emulators = host.emulators();
    assert!(bystander.emulators.iter().all(|pid| emulators.contains(pid)), "{when}: the bystander's process");
    assert_eq!(emulators.len(), running.len(), "{when}: QEMU processes for the running guests {running:?}");
    let ids: BTreeSet<_> = running.iter().map(|n| host.virsh(&["domid", n])).collect();
    assert_eq!(ids.len(), running.len(), "{when}: every running guest has an id of its own");
    let configs: BTreeSet<_> = persistent.iter().map(|n| format!("{n}.xml")).collect();
    assert_eq!(files(host, "etc/libvirt/qemu"), configs, "{when}: definitions on disk");
    let live: BTreeSet<_> = running.iter().flat_map(|n| [format!("{n}.xml"), format!("{n}.pid")]).collect();
    let mut state = files(host, "run/libvirt/qemu");
    // Not of one guest: the driver's number and marks, the event journal.
    state.retain(|f| !f.starts_with("virtd-") && f != "driver.pid" && f != "autostarted");
    assert_eq!(state, live, "{when}: state of running guests");
    let grouped = grouped_victims();
    assert!(
        grouped.is_subset(&running),
        "{when}: control groups of {grouped:?}, but running are {running:?}"
    );
    for name in &persistent {
        host.virsh(&["dumpxml", name, "--inactive"]);
    }
}

/// Names of victims that have a control group, in any hierarchy and by either way of naming.
fn grouped_victims() -> BTreeSet<String> {
    let mark = format!("{VICTIM}-{}-", std::process::id());
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            let name = entry.file_name().to_string_lossy().replace("\\x2d", "-");
            if let Some(at) = name.find(&mark) {
                found.insert(name[at..].split('.').next().unwrap_or_default().to_owned());
            }
            folders.push(entry.path());
        }
    }
    found
}

#[test]
fn virtqemud_at_random_moments() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let mut random = Random::new();
    let name = host.name("bystander");
    host.virsh(&["create", &host.document(&name, &bare_xml(&name))]);
    let bystander = Bystander { id: host.virsh(&["domid", &name]), emulators: host.emulators(), name };
    let mut answered = 0;
    let points = level(8, 50);
    for point in 0..points {
        let act = Act::ALL[point % Act::ALL.len()];
        let name = host.name(VICTIM);
        let old = titled(&name);
        host.virsh(&["define", &host.document(&name, &old)]);
        let before = host.virsh(&["dumpxml", &name, "--inactive"]);
        if act == Act::Destroy {
            host.virsh(&["start", &name]);
        }
        // The same UUID, so that the second definition replaces the first.
        let new = before.replacen("<title>old</title>", "<title>new</title>", 1);
        assert!(new.contains("<title>new</title>"), "{new}");
        let mut client = Client::ready(&host, act, &name, &new);
        let delay = random.below(act.window());
        client.go();
        // The moment of the kill is the experiment: nothing to wait for.
        std::thread::sleep(delay);
        host.kill("virtqemud");
        let answer = client.end();
        answered += usize::from(answer == "done");
        let when = format!("point {point}: {act:?} killed after {delay:?}, the client was told {answer:?}");
        println!("{when}");
        check(&host, &bystander, &when);
        settle(&host, act, &name, &before, &answer, &when);
        check(&host, &bystander, &format!("{when}, tidied up"));
    }
    println!("{answered} of {points} acts were answered before the kill");
    host.virsh(&["destroy", &bystander.name]);
    wait::until("no QEMU is left", || host.emulators().is_empty());
}

/// The victim is the old or the new one; then it goes.
fn settle(host: &Host, act: Act, name: &str, before: &str, answer: &str, when: &str) {
    let done = answer == "done";
    let now = host.try_virsh(&["dumpxml", name, "--inactive"]);
    match act {
        Act::Undefine => assert!(if now.ok() { !done && now.out == before } else { true }, "{when}: {now}"),
        Act::Define => {
            let new = before.replacen("<title>old</title>", "<title>new</title>", 1);
            assert!(now.out == new || (!done && now.out == before), "{when}: {now}");
        }
        Act::Start | Act::Destroy => assert_eq!(now.out, before, "{when}"),
    }
    if now.ok() {
        let state = host.virsh(&["domstate", name]);
        match act {
            Act::Start => assert!(state == "running" || (!done && state == "shut off"), "{when}: {state}"),
            Act::Destroy => assert!(state == "shut off" || (!done && state == "running"), "{when}: {state}"),
            Act::Define | Act::Undefine => assert_eq!(state, "shut off", "{when}"),
        }
        if state == "running" {
            host.virsh(&["destroy", name]);
        }
        host.virsh(&["undefine", name]);
    }
}

#[test]
fn guests_run_on_while_every_daemon_is_killed() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let names: Vec<_> = (0..3).map(|_| host.name("bare")).collect();
    for name in &names {
        host.virsh(&["create", &host.document(name, &bare_xml(name))]);
    }
    let ids: Vec<_> = names.iter().map(|n| host.virsh(&["domid", n])).collect();
    let emulators = host.emulators();
    for daemon in ["virtqemud", "virtproxyd", "virtqemud"] {
        host.kill(daemon);
        let now: Vec<_> = names.iter().map(|n| host.virsh(&["domid", n])).collect();
        assert_eq!(now, ids, "after {daemon} was killed");
        assert_eq!(host.emulators(), emulators);
    }
    for name in &names {
        host.virsh(&["suspend", name]);
        assert_eq!(host.virsh(&["domstate", name]), "paused");
        host.virsh(&["destroy", name]);
    }
}

/// Clients go on calling while the daemon dies again and again: readers never notice, and who asked for a change is told
/// that the daemon ended, in libvirt's words.
#[test]
fn clients_that_call_through_kills_are_told_the_truth() {
    let Some(host) = Host::ours(Options::default()) else { return };
    let name = host.name("called");
    host.virsh(&["define", &host.document(&name, &bare_xml(&name))]);
    let program = r#"
import libvirt, os, sys, threading, time
libvirt.registerErrorHandler(lambda *a: None, None)
uri, name, end = os.environ["URI"], sys.argv[1], time.time() + float(sys.argv[2])
told, reads, changes = set(), [0], [0]
def call(count, act):
    while time.time() < end:
        try:
            conn = libvirt.open(uri)
            dom = conn.lookupByName(name)
            for _ in range(50):
                act(conn, dom)
                count[0] += 1
        except libvirt.libvirtError as e:
            told.add(("read" if count is reads else "change", e.get_error_code(), str(e)))
def change(conn, dom): dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, str(changes[0]), None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
acts = [(reads, lambda c, d: d.XMLDesc()), (reads, lambda c, d: c.listAllDomains()), (reads, lambda c, d: d.info()), (changes, change), (changes, change)]
threads = [threading.Thread(target=call, args=a) for a in acts]
for t in threads: t.start()
for t in threads: t.join()
print(reads[0] > 0 and changes[0] > 0)
for kind, code, text in sorted(told): print(kind, code, text)
"#;
    let seconds = level(6, 60);
    let out = std::thread::scope(|scope| {
        let caller = scope.spawn(|| host.python(program, &[&name, &seconds.to_string()]));
        let mut kills = 0;
        while !caller.is_finished() {
            if host.pid("virtqemud").is_some() {
                host.kill("virtqemud");
                kills += 1;
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        assert!(kills > 3, "{kills} kills");
        caller.join().unwrap()
    });
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("True"), "{out}");
    for line in lines {
        assert!(line.starts_with("change 38 Cannot recv data: the daemon at "), "{out}");
    }
}
