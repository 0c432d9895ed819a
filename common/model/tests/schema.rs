//! Which attributes and elements of the published schema the types know. What they do not is listed in
//! `known-gaps.txt`; the test fails when the list and the truth differ either way.
#![allow(clippy::expect_used)] // A test's helpers may fail loudly.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use virt_model::Mode;
use virt_model::domain::Domain;
use virt_xml::{Document, El, Shape};

const SCHEMAS: &str = "/usr/share/libvirt/schemas";
const GAPS: &str = include_str!("known-gaps.txt");

/// A RELAX NG grammar, as far as names go.
struct Grammar {
    defines: HashMap<String, Vec<virt_model::Element>>,
}

impl Grammar {
    fn load(file: &str) -> Option<Self> {
        let mut grammar = Self { defines: HashMap::new() };
        grammar.file(file, &mut BTreeSet::new())?;
        Some(grammar)
    }

    fn file(&mut self, file: &str, seen: &mut BTreeSet<String>) -> Option<()> {
        if !seen.insert(file.to_string()) {
            return Some(());
        }
        let text = std::fs::read_to_string(Path::new(SCHEMAS).join(file)).ok()?;
        let doc = Document::parse(&text, Mode::CONFIG, virt_error::Domain::Xml).expect("a schema");
        for e in doc.root().children() {
            self.entry(e, seen);
        }
        Some(())
    }

    fn entry(&mut self, e: El<'_>, seen: &mut BTreeSet<String>) {
        let name = match e.local_name() {
            "include" => {
                self.file(e.attr("href").unwrap_or_default(), seen);
                return;
            }
            "start" => "start",
            "define" => e.attr("name").unwrap_or_default(),
            _ => return,
        };
        self.defines.entry(name.to_string()).or_default().push(e.to_element());
    }

    fn walk(&self, e: &virt_model::Element, path: &str, refs: &mut Vec<String>, out: &mut BTreeSet<String>) {
        for child in e.elements() {
            match child.name.rsplit(':').next().unwrap_or_default() {
                "ref" => {
                    let name = child.attr("name").unwrap_or_default();
                    if refs.iter().filter(|r| *r == name).count() > 1 {
                        continue;
                    }
                    refs.push(name.to_string());
                    for define in self.defines.get(name).into_iter().flatten() {
                        self.walk(define, path, refs, out);
                    }
                    refs.pop();
                }
                kind @ ("element" | "attribute") => {
                    let Some(name) = child.attr("name").filter(|_| child.attr("ns").is_none()) else {
                        continue;
                    };
                    if kind == "attribute" {
                        out.insert(format!("{path}@{name}"));
                        continue;
                    }
                    let inner = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
                    out.insert(inner.clone());
                    // An image's chain and what describes other objects inside are followed once.
                    if path.matches(&format!("/{name}")).count() < 1 {
                        self.walk(child, &inner, refs, out);
                    }
                }
                _ => self.walk(child, path, refs, out),
            }
        }
    }
}

/// One kind of document: its grammar, its root element and what the types know.
fn kinds() -> Vec<(&'static str, &'static str, BTreeSet<String>)> {
    use virt_model::{backup, interface, network, nwfilter, secret, snapshot, storage};
    vec![
        ("domain.rng", "domain", Shape::of::<Domain>("domain").paths),
        ("domainsnapshot.rng", "domainsnapshot", Shape::of::<snapshot::Snapshot>("domainsnapshot").paths),
        (
            "domaincheckpoint.rng",
            "domaincheckpoint",
            Shape::of::<snapshot::Checkpoint>("domaincheckpoint").paths,
        ),
        ("domainbackup.rng", "domainbackup", Shape::of::<backup::Backup>("domainbackup").paths),
        ("network.rng", "network", Shape::of::<network::Network>("network").paths),
        ("networkport.rng", "networkport", Shape::of::<network::port::NetworkPort>("networkport").paths),
        ("secret.rng", "secret", Shape::of::<secret::Secret>("secret").paths),
        (
            "nwfilterbinding.rng",
            "filterbinding",
            Shape::of::<nwfilter::binding::Binding>("filterbinding").paths,
        ),
        ("storagepool.rng", "pool", Shape::of::<storage::Pool>("pool").paths),
        ("interface.rng", "interface", Shape::of::<interface::Interface>("interface").paths),
    ]
}

/// Parts that are other documents, or kept verbatim.
fn elsewhere(root: &str, path: &str) -> bool {
    let inner = ["metadata/", "domain/", "inactiveDomain/"];
    let below = path.strip_prefix(root).and_then(|p| p.strip_prefix('/')).unwrap_or_default();
    let guest = root != "domain" && (below.starts_with("domain@") || below.starts_with("inactiveDomain@"));
    // An interface in an interface is of the same type.
    let again = root == "interface" && below.contains("/interface");
    guest || again || path.contains("/privateData") || inner.iter().any(|i| below.starts_with(i))
}

#[test]
fn every_attribute_is_modelled_or_listed() {
    let listed: BTreeSet<&str> = GAPS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let (mut missing, mut names) = (BTreeSet::new(), 0);
    for (file, root, ours) in kinds() {
        let Some(grammar) = Grammar::load(file) else {
            println!("skipped: {SCHEMAS} is not installed");
            return;
        };
        let mut schema = BTreeSet::new();
        for start in grammar.defines.get("start").into_iter().flatten() {
            grammar.walk(start, "", &mut vec!["start".into()], &mut schema);
        }
        schema.retain(|p| p.split(['/', '@']).next() == Some(root) && !elsewhere(root, p));
        let gaps: BTreeSet<String> = schema.iter().filter(|p| !ours.contains(*p)).cloned().collect();
        println!("{file}: {} names, {} not modelled", schema.len(), gaps.len());
        assert!(!schema.is_empty(), "{file} has no element {root}");
        names += schema.len();
        missing.extend(gaps);
    }
    println!("{names} names, {} not modelled", missing.len());
    let missing: BTreeSet<&str> = missing.iter().map(String::as_str).collect();
    let new: Vec<_> = missing.difference(&listed).collect();
    let done: Vec<_> = listed.difference(&missing).collect();
    for path in &new {
        println!("  {path}");
    }
    assert!(new.is_empty(), "not modelled and not listed: {}", new.len());
    assert!(done.is_empty(), "listed as gaps but modelled or not in the schema: {done:?}");
}
