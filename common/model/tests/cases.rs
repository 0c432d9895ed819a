//! Reading and writing over recorded cases of the reference. `VIRT_CONFORMANCE` names their folder.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use virt_model::domain::Domain;
use virt_model::{Element, Mode};
use virt_xml::Document;

/// The cases' folder, or `None` with a word that the test was skipped.
fn cases() -> Option<PathBuf> {
    match std::env::var_os("VIRT_CONFORMANCE") {
        Some(dir) => Some(Path::new(&dir).join("cases")),
        None => {
            println!("skipped: VIRT_CONFORMANCE is not set");
            None
        }
    }
}

/// Name and text of every file of a suite with this ending. Recorded `*` stands for a value made up at random.
fn files(suite: &str, ending: &str) -> Vec<(String, String)> {
    let Some(dir) = cases() else { return Vec::new() };
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir.join(suite)).expect("the suite's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_string();
        if let Some(case) = name.strip_suffix(ending) {
            let text = std::fs::read_to_string(&path).expect("a readable case");
            let text = text.replace("mac address=\"*\"", "mac address=\"52:54:00:00:00:01\"");
            out.push((
                format!("{suite}/{case}"),
                text.replace(">*<", ">c7a5fdbd-cdaf-4455-926a-d65c16db1809<"),
            ));
        }
    }
    out.sort();
    out
}

fn tree(text: &str) -> Element {
    let doc = Document::parse(text, Mode::CONFIG, virt_error::Domain::Domain).expect("well-formed");
    doc.root().to_element()
}

/// The first difference between two trees, order included.
fn difference(want: &Element, got: &Element, path: &str) -> Option<String> {
    let path = format!("{path}/{}", want.name);
    if want.name != got.name {
        return Some(format!("{path}: got <{}>", got.name));
    }
    if want.attrs != got.attrs {
        return Some(format!("{path}: want attributes {:?} got {:?}", want.attrs, got.attrs));
    }
    if want.text().trim() != got.text().trim() {
        return Some(format!("{path}: want text {:?} got {:?}", want.text(), got.text()));
    }
    let (a, b): (Vec<_>, Vec<_>) = (want.elements().collect(), got.elements().collect());
    for (x, y) in a.iter().zip(&b) {
        if let Some(d) = difference(x, y, &path) {
            return Some(d);
        }
    }
    let names = |v: &[&Element]| v.iter().map(|e| e.name.clone()).collect::<Vec<_>>().join(" ");
    (a.len() != b.len()).then(|| format!("{path}: want [{}] got [{}]", names(&a), names(&b)))
}

fn verdict(what: &str, total: usize, wrong: &[(String, String)]) {
    let mut text = format!("{what}: {} of {total}", total - wrong.len());
    for (case, why) in wrong.iter().take(60) {
        let _ = write!(text, "\n  {case}: {why}");
    }
    println!("{text}");
    assert!(wrong.is_empty(), "{text}");
}

/// What the reference wrote is read and written back unchanged.
#[test]
fn written_documents_come_back_equal() {
    let mut wrong = Vec::new();
    let mut total = 0;
    for (case, text) in files("domain", ".out.xml").into_iter().chain(files("domain-cross", ".out.xml")) {
        total += 1;
        match Domain::parse(&text, Mode::CONFIG) {
            Err(e) => wrong.push((case, format!("{e:?}"))),
            Ok(d) => {
                if let Some(d) = difference(&tree(&text), &tree(&d.format(Mode::CONFIG)), "") {
                    wrong.push((case, d));
                }
            }
        }
    }
    verdict("written documents", total, &wrong);
}

/// What the reference accepts is accepted, and reading what was written gives the same again.
#[test]
fn accepted_documents_are_stable() {
    let Some(dir) = cases() else { return };
    let mut wrong = Vec::new();
    let mut total = 0;
    for suite in ["domain", "argv", "domain-cross", "argv-cross"] {
        for (case, text) in files(suite, ".in.xml") {
            if dir.join(format!("{case}.err.json")).exists() {
                continue;
            }
            total += 1;
            let first = match Domain::parse(&text, Mode::CONFIG) {
                Ok(d) => d.format(Mode::CONFIG),
                Err(e) => {
                    wrong.push((case, format!("{e:?}")));
                    continue;
                }
            };
            match Domain::parse(&first, Mode::CONFIG) {
                Err(e) => wrong.push((case, format!("own output: {e:?}"))),
                Ok(d) => {
                    if let Some(d) = difference(&tree(&first), &tree(&d.format(Mode::CONFIG)), "") {
                        wrong.push((case, format!("not stable: {d}")));
                    }
                }
            }
        }
    }
    verdict("accepted documents", total, &wrong);
}
