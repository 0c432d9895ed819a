//! Documents of networks and filters against a running libvirt: variations of a few are defined on both sides, and what
//! the servers make of them is compared. Nothing is started.
//!
//! Runs only when `VIRT_TEST_REFERENCE` names the reference's socket. `VIRT_TEST_SEED` repeats a run, `VIRT_TEST_COUNT`
//! sets how many documents of each kind are tried. With `VIRT_CONFORMANCE` the recorded documents are varied too.

use std::collections::BTreeMap;
use std::path::Path;

use virt_testkit::host::{Host, Options, Run};
use virt_testkit::vary::{Random, Seen, tree, vary};
use virt_tests::{level, reference};
use virt_xml::{Element, Node};

/// Percent that must be alike.
const FLOOR: f64 = 97.0;

/// A kind of document.
struct Kind {
    /// The name its recordings are under.
    folder: &'static str,
    define: &'static str,
    dump: &'static [&'static str],
    undefine: &'static str,
    seeds: &'static [&'static str],
}

const NETWORKS: Kind = Kind {
    folder: "network",
    define: "net-define",
    dump: &["net-dumpxml", "--inactive"],
    undefine: "net-undefine",
    seeds: &[
        "<network><name>a</name><forward mode='nat'><nat><port start='2000' end='3000'/></nat></forward>\
         <bridge name='vdf0' stp='off' delay='2'/><domain name='d.example' localOnly='yes'/>\
         <dns><forwarder addr='192.0.2.1'/><txt name='t' value='v'/><srv service='s' protocol='tcp' target='x' port='80'/>\
         <host ip='198.51.100.9'><hostname>h</hostname></host></dns>\
         <ip address='198.51.100.1' netmask='255.255.255.0'><dhcp><range start='198.51.100.2' end='198.51.100.8'/>\
         <host mac='52:54:00:00:00:01' name='one' ip='198.51.100.7'/></dhcp></ip>\
         <ip family='ipv6' address='2001:db8::1' prefix='64'/>\
         <route address='203.0.113.0' prefix='24' gateway='198.51.100.5'/></network>",
        "<network><name>a</name><forward mode='bridge'/><bridge name='vdf1'/><vlan trunk='yes'><tag id='4'/></vlan>\
         <portgroup name='p' default='yes'><bandwidth><inbound average='10' peak='20' burst='30'/></bandwidth></portgroup>\
         </network>",
        "<network><name>a</name><forward mode='passthrough'><interface dev='vdfa'/><interface dev='vdfb'/></forward>\
         <virtualport type='802.1Qbh'><parameters profileid='p'/></virtualport></network>",
    ],
};

const FILTERS: Kind = Kind {
    folder: "nwfilter",
    define: "nwfilter-define",
    dump: &["nwfilter-dumpxml"],
    undefine: "nwfilter-undefine",
    seeds: &[
        "<filter name='a' chain='ipv4' priority='-700'><rule action='accept' direction='out' priority='500'>\
         <tcp srcipaddr='192.0.2.1' srcipmask='24' dstportstart='22' dstportend='23' state='NEW'/></rule>\
         <rule action='drop' direction='inout' statematch='false'><all comment='rest'/></rule></filter>",
        "<filter name='a' chain='arp'><rule action='return' direction='in'><arp opcode='Request' gratuitous='true'\
         arpsrcmacaddr='$MAC'/></rule><rule action='reject' direction='out'><icmpv6 type='128' code='0'/></rule></filter>",
    ],
};

impl Kind {
    /// Documents to vary.
    fn bases(&self) -> Vec<Element> {
        let mut bases: Vec<Element> = self.seeds.iter().map(|s| tree(s).expect("a document")).collect();
        if let Some(folder) = std::env::var_os("VIRT_CONFORMANCE") {
            let folder = Path::new(&folder).join("cases").join(self.folder);
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
            let good = files.filter(|p| {
                p.to_str().is_some_and(|p| {
                    p.strip_suffix(".in.xml")
                        .is_some_and(|stem| Path::new(&format!("{stem}.out.xml")).exists())
                })
            });
            bases.extend(good.filter_map(|p| tree(&std::fs::read_to_string(p).ok()?)));
        }
        bases
    }

    /// What a server makes of a document: its own writing, or its refusal. Nothing stays.
    fn ask(&self, host: &Host, uri: &str, file: &str, name: &str) -> Result<String, String> {
        let told = |run: Run| if run.ok() { Ok(run.out) } else { Err(run.err) };
        told(host.virsh_at(uri, &["-q", self.define, file]))?;
        let args: Vec<&str> = ["-q"].iter().chain(self.dump).copied().chain([name]).collect();
        let shown = told(host.virsh_at(uri, &args));
        let gone = host.virsh_at(uri, &["-q", self.undefine, name]);
        assert!(gone.ok(), "{gone}");
        shown
    }
}

/// Gives the document a name of the test's own, and takes its UUID off.
fn renamed(mut document: Element, name: &str) -> String {
    document.children.retain(|n| !matches!(n, Node::Element(e) if e.name == "uuid"));
    for (attr, value) in &mut document.attrs {
        if attr == "name" {
            *value = name.to_string();
        }
    }
    for node in &mut document.children {
        if let Node::Element(e) = node
            && e.name == "name"
        {
            e.children = vec![Node::Text(name.into())];
        }
    }
    let mut text = String::new();
    document.dump(&mut text, 0, true);
    text
}

/// What each server makes up itself is not compared.
fn steady(text: &str) -> String {
    let own = |l: &str| {
        l.starts_with("<uuid>")
            || l.starts_with("<mac address='52:54:00")
            || l.starts_with("<bridge name='virbr")
    };
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !own(l)).collect::<Vec<_>>().join("\n")
}

fn differ(want: Result<String, String>, got: Result<String, String>) -> Option<String> {
    match (want, got) {
        (Ok(want), Ok(got)) => {
            let (want, got) = (steady(&want), steady(&got));
            let pair = want.lines().zip(got.lines()).find(|(a, b)| a != b);
            let lines = || pair.map_or("length".into(), |(a, b)| format!("reference {a} ours {b}"));
            (want != got).then(lines)
        }
        // Of two mistakes in a document either may be told first.
        (Err(_), Err(_)) => None,
        (Ok(_), Err(e)) => Some(format!("only ours refuses: {e}")),
        (Err(e), Ok(_)) => Some(format!("only the reference refuses: {e}")),
    }
}

fn judged_alike(kind: &Kind) {
    let Some(uri) = reference() else { return };
    let Some(host) = Host::ours(Options::default()) else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|t| t.parse::<u64>().ok());
    let seed = number("VIRT_TEST_SEED").unwrap_or(0x51a7_03d9).max(1);
    let rounds = number("VIRT_TEST_COUNT").unwrap_or(level(150, 500));
    println!("VIRT_TEST_SEED={seed}");
    let (mut random, mut seen) = (Random(seed), Seen::default());
    let bases = kind.bases();
    bases.iter().for_each(|b| seen.learn(b));
    let name = host.name("differential");
    let mut found: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for _ in 0..rounds {
        let mut document = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(2) {
            vary(&mut document, &seen, &mut random);
        }
        let text = renamed(document, &name);
        let file = host.document("differential", &text);
        let (want, got) = (kind.ask(&host, &uri, &file, &name), kind.ask(&host, host.uri(), &file, &name));
        if let Some(difference) = differ(want, got) {
            found.entry(difference).or_insert((0, text)).0 += 1;
        }
    }
    for (difference, (times, text)) in &found {
        println!("{times} times: {difference}\n{text}\n");
    }
    let alike = rounds - found.values().map(|(times, _)| times).sum::<u64>();
    let percent = 100.0 * alike as f64 / rounds as f64;
    println!("{alike} of {rounds} alike");
    assert!(percent >= FLOOR, "only {alike} of {rounds} are judged alike; VIRT_TEST_SEED={seed}");
}

#[test]
fn networks_are_judged_alike() {
    judged_alike(&NETWORKS);
}

#[test]
fn filters_are_judged_alike() {
    judged_alike(&FILTERS);
}
