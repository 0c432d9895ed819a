//! Runs recorded cases against the document and command line code, in this process.
//!
//! The cases are pairs of files in the folder that `VIRT_CONFORMANCE` names: a document and what the reference made of
//! it. Values that differ between two runs of the reference are ignored on both sides.

use std::path::{Path, PathBuf};

use serde_json::Value;
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_xml::Element;
use virtqemud::emulator::Emulators;
use virtqemud::{command, document};

/// How one suite went.
pub struct Score {
    /// Cases that agree.
    pub good: usize,
    /// All cases.
    pub total: usize,
    /// Name and first difference of the others.
    pub differences: Vec<(String, String)>,
}

impl Score {
    /// Percent that agree.
    pub fn percent(&self) -> f64 {
        100.0 * self.good as f64 / self.total.max(1) as f64
    }
}

/// The folder with the cases, if the environment names one.
pub fn cases() -> Option<PathBuf> {
    std::env::var_os("VIRT_CONFORMANCE").map(|p| PathBuf::from(p).join("cases"))
}

/// Runs one suite (`argv` or `domain`), only cases whose name contains `filter`.
pub fn run(folder: &Path, suite: &str, filter: &str) -> Score {
    let emulators = Emulators::new(None);
    let mut names: Vec<String> = std::fs::read_dir(folder.join(suite))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".in.xml").map(str::to_string))
        .filter(|n| n.contains(filter))
        .collect();
    names.sort();
    let mut score = Score { good: 0, total: names.len(), differences: Vec::new() };
    for name in names {
        let stem = folder.join(suite).join(&name);
        let difference =
            if suite.starts_with("argv") { argv(&stem, &emulators) } else { domain(&stem, &emulators) };
        match difference {
            None => score.good += 1,
            Some(text) => score.differences.push((name, text)),
        }
    }
    score
}

fn with(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_os_string();
    path.push(suffix);
    path.into()
}

fn read(stem: &Path, suffix: &str) -> Option<String> {
    std::fs::read_to_string(with(stem, suffix)).ok()
}

fn define(
    text: &str,
    emulators: &Emulators,
) -> virt_error::Result<(Domain, std::sync::Arc<virtqemud::emulator::Emulator>)> {
    document::read(text, emulators)
}

/// A document completed and its command line, or the error.
#[allow(dead_code)]
pub fn show(file: &Path) -> String {
    let emulators = Emulators::new(None);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let shown = define(&text, &emulators).and_then(|(def, emulator)| {
        let xml = def.format(Mode::CONFIG);
        let line = command::native(def, &emulator, emulators.cpus(), command::Settings::default())?;
        Ok(format!("{xml}{}\n", line.to_shell()))
    });
    shown.unwrap_or_else(|e| format!("error {}: {e}\n", e.code() as i32))
}

fn argv(stem: &Path, emulators: &Emulators) -> Option<String> {
    let text = read(stem, ".in.xml")?;
    if let Some(want) = read(stem, ".err.json") {
        return refused(
            &want,
            define(&text, emulators).and_then(|(def, emulator)| {
                command::native(def, &emulator, emulators.cpus(), command::Settings::default())
            }),
        );
    }
    let want: Vec<String> = serde_json::from_str(&read(stem, ".argv.json")?).ok()?;
    let line = define(&text, emulators).and_then(|(def, emulator)| {
        command::native(def, &emulator, emulators.cpus(), command::Settings::default())
    });
    let line = match line {
        Ok(line) => line,
        Err(e) => return Some(format!("error {}: {e}", e.code() as i32)),
    };
    let mut got = vec![line.program];
    got.extend(line.args);
    (0..want.len().max(got.len())).find_map(|i| match (want.get(i), got.get(i)) {
        (Some(w), Some(g)) if like(w, g) => None,
        (w, g) => Some(format!("argument {i}: want {w:?} got {g:?}")),
    })
}

/// Whether a document was refused with the recorded code.
fn refused<T>(want: &str, got: virt_error::Result<T>) -> Option<String> {
    let want: Value = serde_json::from_str(want).ok()?;
    let code = want["code"].as_i64().unwrap_or(0);
    let texts = std::env::var_os("VIRT_CONFORMANCE_TEXTS").is_some();
    match got {
        Err(e) if texts && Some(e.message().as_str()) != want["message"].as_str() => {
            Some(format!("error {} ({e}), want {code} ({})", e.code() as i32, want["message"]))
        }
        Ok(_) => Some(format!("accepted, want error {code}: {}", want["message"])),
        Err(e) if i64::from(e.code() as i32) == code => None,
        Err(e) => Some(format!("error {} ({e}), want {code} ({})", e.code() as i32, want["message"])),
    }
}

fn domain(stem: &Path, emulators: &Emulators) -> Option<String> {
    let text = read(stem, ".in.xml")?;
    let got = define(&text, emulators);
    if let Some(want) = read(stem, ".err.json") {
        return refused(&want, got);
    }
    let want = read(stem, ".out.xml")?;
    match got {
        Err(e) => Some(format!("error {}: {e}", e.code() as i32)),
        Ok((def, _)) => {
            let text = def.format(Mode::CONFIG);
            let (want, got) = (tree(&want), tree(&text));
            match (want, got) {
                (Some(want), Some(got)) => tree_difference(&want, &got, ""),
                _ => Some("a document is not XML".into()),
            }
        }
    }
}

fn tree(text: &str) -> Option<Element> {
    let doc = virt_xml::Document::parse(text, Mode::LIVE, virt_error::Domain::Xml).ok()?;
    Some(doc.root().to_element())
}

fn text_of(e: &Element) -> String {
    let mut out = String::new();
    for node in &e.children {
        match node {
            virt_xml::Node::Text(t) => out.push_str(t),
            virt_xml::Node::Element(_) => break,
        }
    }
    out.trim().to_string()
}

fn elements<'e>(e: &'e Element, name: &str) -> Vec<&'e Element> {
    e.children
        .iter()
        .filter_map(|n| match n {
            virt_xml::Node::Element(c) if c.name == name => Some(c),
            _ => None,
        })
        .collect()
}

fn tree_difference(want: &Element, got: &Element, path: &str) -> Option<String> {
    let path = format!("{path}/{}", want.name);
    let same = |w: &str, g: &str| w == "*" || w == g;
    let (wt, gt) = (text_of(want), text_of(got));
    if !same(&wt, &gt) {
        return Some(format!("{path}: want text {wt:?} got {gt:?}"));
    }
    let attrs = |e: &Element| {
        let mut a: Vec<(String, String)> =
            e.attrs.iter().filter(|(n, _)| !n.starts_with("xmlns")).cloned().collect();
        a.sort();
        a
    };
    let (wa, ga) = (attrs(want), attrs(got));
    let fine = wa.len() == ga.len() && wa.iter().zip(&ga).all(|(w, g)| w.0 == g.0 && same(&w.1, &g.1));
    if !fine {
        return Some(format!("{path}: want attributes {wa:?} got {ga:?}"));
    }
    let mut names: Vec<&str> = Vec::new();
    for node in want.children.iter().chain(&got.children) {
        if let virt_xml::Node::Element(c) = node
            && !names.contains(&c.name.as_str())
        {
            names.push(&c.name);
        }
    }
    names.sort_unstable();
    for name in names {
        let (w, g) = (elements(want, name), elements(got, name));
        if w.len() != g.len() {
            return Some(format!("{path}: want {} <{name}> got {}", w.len(), g.len()));
        }
        if let Some(d) = w.iter().zip(&g).find_map(|(w, g)| tree_difference(w, g, &path)) {
            return Some(d);
        }
    }
    None
}

/// Whether two arguments agree, leaving out what differs between any two runs.
fn like(want: &str, got: &str) -> bool {
    if want == got {
        return true;
    }
    if want.starts_with('{') && got.starts_with('{') {
        let pattern = serde_json::from_str::<Value>(want).ok();
        let value = serde_json::from_str::<Value>(got).ok();
        return matches!((pattern, value), (Some(w), Some(g)) if json_like(&w, &g, ""));
    }
    let (want, got) = (steady(want), steady(got));
    if want == got {
        return true;
    }
    wild(&want, &got)
}

fn json_like(want: &Value, got: &Value, key: &str) -> bool {
    let volatile = matches!(key, "fd" | "fds" | "vhostfd" | "vhostfds" | "data" | "iv");
    match (want, got) {
        _ if volatile => true,
        (Value::Object(w), Value::Object(g)) => {
            let skip = |k: &str| {
                matches!(k, "keyid" | "iv" | "format") && w.get("qom-type") == Some(&Value::from("secret"))
            };
            let count = |o: &serde_json::Map<String, Value>| o.keys().filter(|k| !skip(k)).count();
            count(w) == count(g)
                && w.iter()
                    .filter(|(k, _)| !skip(k))
                    .all(|(k, v)| g.get(k).is_some_and(|o| json_like(v, o, k)))
        }
        (Value::Array(w), Value::Array(g)) => {
            w.len() == g.len() && w.iter().zip(g).all(|(w, g)| json_like(w, g, ""))
        }
        (Value::String(w), Value::String(g)) => wild(w, g),
        _ => want == got,
    }
}

fn wild(want: &str, got: &str) -> bool {
    let Some((start, rest)) = want.split_once("<ANY>") else { return want == got };
    let Some(mut left) = got.strip_prefix(start) else { return false };
    let mut rest = rest;
    while let Some((part, more)) = rest.split_once("<ANY>") {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
        rest = more;
    }
    left.ends_with(rest)
}

/// Clocks differ between any two runs.
fn steady(text: &str) -> String {
    let mut out = Vec::new();
    for part in text.split(',') {
        let dated = part.strip_prefix("base=").is_some_and(|d| d.as_bytes().get(4) == Some(&b'-'));
        out.push(if dated { "base=T".to_string() } else { part.to_string() });
    }
    out.join(",")
}
