//! Documents against a running libvirt: many variations of a few, each defined on both sides and compared.
//!
//! Runs only when `VIRT_TEST_REFERENCE` names the reference's socket and `virsh` is installed; otherwise it says that it
//! was skipped. `VIRT_TEST_SEED` repeats a run, `VIRT_TEST_COUNT` sets how many documents are tried. With
//! `VIRT_CONFORMANCE` the recorded documents are varied too. Numbers stay small: the reference must survive the test.
#![allow(clippy::unwrap_used)] // A test's helpers may fail loudly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use virt_model::Mode;
use virt_xml::{Element, Node};

use virtqemud::document;
use virtqemud::emulator::Emulators;

mod documents;

use virt_testkit::vary::{self as varying, Random, Seen, tree, vary};

/// Share of documents both sides must agree on.
const AGREE: f64 = 0.9;
/// What the reference makes of a document: its own writing, or its refusal.
fn ask(socket: &str, name: &str, file: &Path) -> Result<String, String> {
    let uri = format!("qemu+unix:///system?socket={socket}");
    let virsh = |args: &[&str]| {
        let out = Command::new("virsh").args(["-q", "-c", &uri]).args(args).output();
        match out {
            Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            Ok(out) => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
            Err(e) => Err(e.to_string()),
        }
    };
    virsh(&["define", &file.display().to_string()])?;
    let shown = virsh(&["dumpxml", "--inactive", "--security-info", name]);
    // Whatever happens, nothing stays behind.
    let _ = virsh(&["undefine", "--nvram", name]);
    shown
}

/// The document as this crate completes it.
fn ours(text: &str, emulators: &Emulators) -> Result<String, String> {
    let (def, _) = document::read(text, emulators).map_err(|e| e.message())?;
    Ok(def.format(Mode::CONFIG))
}

/// Random numbers of one side are not those of the other.
fn steady(text: &str) -> String {
    let made = |l: &&str| {
        let l = l.trim_start();
        !l.starts_with("<uuid>") && !l.starts_with("<genid>") && !l.starts_with("<mac address='52:54:00")
    };
    text.lines().filter(made).map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

fn first_difference(a: &str, b: &str) -> String {
    let pair = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    pair.map_or_else(|| "length".into(), |(a, b)| format!("reference {} ours {}", a.trim(), b.trim()))
}

/// The reference's socket, or a word that the test is skipped.
fn reference() -> Option<String> {
    let socket = std::env::var("VIRT_TEST_REFERENCE").ok();
    if socket.is_none() {
        eprintln!("skipped: VIRT_TEST_REFERENCE does not name a reference's socket");
    }
    socket
}

/// Our own documents, and the recorded ones.
fn bases() -> Vec<Element> {
    let mut bases: Vec<Element> = documents::SEEDS.iter().filter_map(|s| tree(s)).collect();
    if let Some(folder) = std::env::var_os("VIRT_CONFORMANCE") {
        let files = std::fs::read_dir(Path::new(&folder).join("cases/argv")).into_iter().flatten().flatten();
        let documents = files.map(|f| f.path()).filter(|p| p.to_string_lossy().ends_with(".in.xml"));
        bases.extend(documents.filter_map(|p| tree(&std::fs::read_to_string(p).ok()?)));
    }
    assert!(bases.len() >= documents::SEEDS.len());
    bases
}

/// Asks both sides and counts.
struct Judge {
    socket: String,
    /// The name of every guest that is defined meanwhile: tests may run at once.
    name: String,
    emulators: Emulators,
    folder: tempfile::TempDir,
    good: u64,
    total: u64,
    shown: Vec<String>,
}

impl Judge {
    fn new(socket: String, what: &str) -> Self {
        let name = format!("virt-differential-{what}-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        Self { socket, name, emulators: Emulators::new(None), folder, good: 0, total: 0, shown: Vec::new() }
    }

    fn judge(&mut self, mut document: Element) {
        for node in &mut document.children {
            if let Node::Element(e) = node
                && e.name == "name"
            {
                e.children = vec![Node::Text(self.name.clone())];
            }
        }
        document.children.retain(|n| !matches!(n, Node::Element(e) if e.name == "uuid"));
        let mut text = String::new();
        document.dump(&mut text, 0, true);
        let file = self.folder.path().join("guest.xml");
        std::fs::write(&file, &text).unwrap();
        let (want, got) = (ask(&self.socket, &self.name, &file), ours(&text, &self.emulators));
        // Of an emulator's parts that are not installed, ours speaks at the start.
        if matches!(&want, Err(e) if MODULES.iter().any(|m| e.contains(m))) {
            return;
        }
        self.total += 1;
        let difference = match (want, got) {
            (Ok(want), Ok(got)) => {
                let (want, got) = (steady(&want), steady(&got));
                (want != got).then(|| first_difference(&want, &got))
            }
            // Of two mistakes in a document either may be told first.
            (Err(_), Err(_)) => None,
            (Ok(_), Err(e)) => Some(format!("only ours refuses: {e}")),
            (Err(e), Ok(_)) => Some(format!("only the reference refuses: {}", e.replace('\n', " "))),
        };
        match difference {
            None => self.good += 1,
            Some(d) => self.shown.push(format!("{d}\n{text}")),
        }
    }

    fn settle(&self, what: &str) {
        classes(&self.shown);
        let (good, total) = (self.good, self.total);
        println!("{good} of {total} alike");
        let share = good as f64 / total.max(1) as f64;
        assert!(share >= AGREE, "only {good} of {total} documents are judged alike ({what})");
    }
}

/// What the reference says when a module of QEMU's is not installed.
const MODULES: [&str; 3] =
    ["spice graphics are not supported", "video model 'qxl'", "3d acceleration is not supported by this"];

/// Prints the differences by class, the most frequent first, with one document each.
fn classes(shown: &[String]) {
    let mut found: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for text in shown {
        let line = text.lines().next().unwrap_or_default();
        let line = line.split_once("guest.xml error: ").map_or(line, |(_, l)| l);
        let class: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        found.entry(class).or_default().push(text);
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, texts)| std::cmp::Reverse(texts.len()));
    for (class, texts) in &found {
        println!("{:4} {class}", texts.len());
    }
    for (_, texts) in found.iter().take(40) {
        println!("{}\n", texts[0]);
    }
}

#[test]
fn variations_are_judged_alike() {
    let Some(socket) = reference() else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|t| t.parse::<u64>().ok());
    let seed = number("VIRT_TEST_SEED").unwrap_or(0x9e37_79b9);
    let rounds = number("VIRT_TEST_COUNT").unwrap_or(150);
    println!("VIRT_TEST_SEED={seed}");
    let mut random = Random(seed.max(1));
    let bases = bases();
    let mut seen = Seen::default();
    bases.iter().for_each(|b| seen.learn(b));
    let mut judge = Judge::new(socket, "varied");
    for _ in 0..rounds {
        let mut document = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(2) {
            vary(&mut document, &seen, &mut random);
        }
        judge.judge(document);
    }
    judge.settle(&format!("VIRT_TEST_SEED={seed}"));
}

/// Of an element that is there twice, each side takes the same one, or both refuse.
#[test]
fn elements_that_are_there_twice_are_judged_alike() {
    let Some(socket) = reference() else { return };
    let bases = bases();
    let mut seen = Seen::default();
    bases.iter().for_each(|b| seen.learn(b));
    let mut random = Random(0x2f_6e_2b_1d);
    let mut done = BTreeSet::new();
    let mut judge = Judge::new(socket, "twins");
    for base in &bases {
        for n in 1..varying::count(base) {
            let mut document = base.clone();
            let Some((path, parent, name)) = varying::place(&document, n) else { continue };
            if matches!(path.as_str(), "domain/name" | "domain/uuid") || !done.insert(path) {
                continue;
            }
            let Some(e) = varying::nth(&mut document, &mut n.clone()) else { continue };
            // Another one of this name that documents have, or the same with another value.
            let others = seen.children.get(&parent).into_iter().flatten();
            let others: Vec<_> = others.filter(|c| c.name == name && *c != e).collect();
            let mut twin = match others.len() {
                0 => e.clone(),
                many => others[random.below(many)].clone(),
            };
            if twin == *e && !twin.attrs.is_empty() {
                twin.attrs[0].1 = seen.value(&name, &twin.attrs[0].0.clone(), &mut random);
            }
            let Some(parent) = varying::parent(&mut document, n) else { continue };
            parent.children.push(Node::Element(twin));
            judge.judge(document);
        }
    }
    judge.settle("twins");
}
