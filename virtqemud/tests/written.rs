//! What we write keeps to the published schema. Debian's libvirt-common installs it; without it, or without xmllint,
//! the test says that it was skipped. A document that did not keep to it when it was read need not when it is written.
#![allow(clippy::unwrap_used)] // A test's helpers may fail loudly.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use virt_model::Mode;
use virtqemud::document;
use virtqemud::emulator::Emulators;

mod documents;

const SCHEMA: &str = "/usr/share/libvirt/schemas/domain.rng";

/// The files that keep to the schema.
fn valid(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut good = BTreeSet::new();
    for some in files.chunks(200) {
        let out = Command::new("xmllint").args(["--noout", "--relaxng", SCHEMA]).args(some).output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        good.extend(text.lines().filter_map(|l| l.strip_suffix(" validates")).map(PathBuf::from));
    }
    good
}

/// The schema's complaint about one file.
fn complaint(file: &Path) -> String {
    let out = Command::new("xmllint").args(["--noout", "--relaxng", SCHEMA]).arg(file).output().unwrap();
    String::from_utf8_lossy(&out.stderr).lines().next().unwrap_or_default().to_string()
}

#[test]
fn what_is_written_keeps_to_the_schema() {
    if !Path::new(SCHEMA).exists() || Command::new("xmllint").arg("--version").output().is_err() {
        eprintln!("skipped: {SCHEMA} or xmllint is not installed");
        return;
    }
    let mut texts: Vec<(String, String)> =
        documents::SEEDS.iter().enumerate().map(|(i, s)| (format!("own-{i}"), (*s).to_string())).collect();
    for suite in ["argv", "domain", "argv-cross", "domain-cross"] {
        let Some(folder) = std::env::var_os("VIRT_CONFORMANCE") else { continue };
        let entries = std::fs::read_dir(Path::new(&folder).join("cases").join(suite)).into_iter().flatten();
        for path in entries.flatten().map(|e| e.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let (Some(case), Ok(text)) = (name.strip_suffix(".in.xml"), std::fs::read_to_string(&path)) {
                texts.push((format!("{suite}-{case}"), text));
            }
        }
    }
    let emulators = Emulators::new(None);
    let folder = tempfile::tempdir().unwrap();
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for (name, text) in texts {
        let Ok((def, _)) = document::read(&text, &emulators) else { continue };
        let (a, b) =
            (folder.path().join(format!("{name}.in.xml")), folder.path().join(format!("{name}.out.xml")));
        std::fs::write(&a, text).unwrap();
        std::fs::write(&b, def.format(Mode::CONFIG)).unwrap();
        read.push(a);
        written.push(b);
    }
    assert!(!written.is_empty(), "no document was accepted");
    let (good_in, good_out) = (valid(&read), valid(&written));
    let broken: Vec<String> = read
        .iter()
        .zip(&written)
        .filter(|(a, b)| good_in.contains(*a) && !good_out.contains(*b))
        .map(|(_, b)| complaint(b))
        .collect();
    assert!(broken.is_empty(), "{} of {} fail:\n{}", broken.len(), written.len(), broken.join("\n"));
    println!("{} documents keep to the schema", good_out.len());
}
