//! Documents against a running libvirt: many variations of a few, each defined on both sides and compared.
//!
//! Runs only when `VIRT_TEST_REFERENCE` names the reference's socket and `virsh` is installed; otherwise it says that it
//! was skipped. `VIRT_TEST_SEED` repeats a run, `VIRT_TEST_COUNT` sets how many documents are tried. With
//! `VIRT_CONFORMANCE` the recorded documents are varied too. Numbers stay small: the reference must survive the test.

use std::path::Path;
use std::process::Command;

use virt_model::Mode;
use virt_xml::{Element, Node};

use virtqemud::document;
use virtqemud::emulator::Emulators;

mod documents;
mod vary;

use vary::{Random, Seen, tree, vary};

/// Share of documents both sides must agree on.
const AGREE: f64 = 0.9;
/// The name of every guest that is defined meanwhile.
const NAME: &str = "virt-differential";

/// What the reference makes of a document: its own writing, or its refusal.
fn ask(socket: &str, file: &Path) -> Result<String, String> {
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
    let shown = virsh(&["dumpxml", "--inactive", "--security-info", NAME]);
    // Whatever happens, nothing stays behind.
    let _ = virsh(&["undefine", "--nvram", NAME]);
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
        !l.starts_with("<uuid>") && !l.starts_with("<mac address='52:54:00")
    };
    text.lines().filter(made).map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

fn first_difference(a: &str, b: &str) -> String {
    let pair = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    pair.map_or_else(|| "length".into(), |(a, b)| format!("reference {} ours {}", a.trim(), b.trim()))
}

#[test]
fn variations_are_judged_alike() {
    let Ok(socket) = std::env::var("VIRT_TEST_REFERENCE") else {
        eprintln!("skipped: VIRT_TEST_REFERENCE does not name a reference's socket");
        return;
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|t| t.parse::<u64>().ok());
    let seed = number("VIRT_TEST_SEED").unwrap_or(0x9e37_79b9);
    let rounds = number("VIRT_TEST_COUNT").unwrap_or(150);
    println!("VIRT_TEST_SEED={seed}");
    let mut random = Random(seed.max(1));
    let mut bases: Vec<Element> = documents::SEEDS.iter().filter_map(|s| tree(s)).collect();
    if let Some(folder) = std::env::var_os("VIRT_CONFORMANCE") {
        let files = std::fs::read_dir(Path::new(&folder).join("cases/argv")).into_iter().flatten().flatten();
        let documents = files.map(|f| f.path()).filter(|p| p.to_string_lossy().ends_with(".in.xml"));
        bases.extend(documents.filter_map(|p| tree(&std::fs::read_to_string(p).ok()?)));
    }
    assert!(bases.len() >= documents::SEEDS.len());
    let mut seen = Seen::default();
    bases.iter().for_each(|b| seen.learn(b));
    let emulators = Emulators::new(None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.xml");
    let (mut good, mut total, mut shown) = (0_u64, 0_u64, Vec::new());
    for _ in 0..rounds {
        let mut document = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(2) {
            vary(&mut document, &seen, &mut random);
        }
        for node in &mut document.children {
            if let Node::Element(e) = node
                && e.name == "name"
            {
                e.children = vec![Node::Text(NAME.into())];
            }
        }
        document.children.retain(|n| !matches!(n, Node::Element(e) if e.name == "uuid"));
        let mut text = String::new();
        document.dump(&mut text, 0, true);
        std::fs::write(&file, &text).unwrap();
        let (want, got) = (ask(&socket, &file), ours(&text, &emulators));
        total += 1;
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
            None => good += 1,
            Some(d) => shown.push(format!("{d}\n{text}")),
        }
    }
    for text in shown.iter().take(10) {
        println!("{text}\n");
    }
    let share = good as f64 / total.max(1) as f64;
    println!("{good} of {total} alike");
    assert!(share >= AGREE, "only {good} of {total} documents are judged alike (VIRT_TEST_SEED={seed})");
}
