//! Every refusal of a document tells where: the element's path, its line, and what stands there or is missing.
//!
//! Tried on documents with random changes, and with `VIRT_CONFORMANCE` on all recorded wrong documents.
#![allow(clippy::unwrap_used)] // A test's helpers may fail loudly.

use std::path::Path;

use virt_error::{Code, Error};
use virt_xml::Element;
use virtqemud::emulator::Emulators;
use virtqemud::{command, document};

mod documents;

use virt_testkit::vary::{Random, Seen, tree, vary};

/// How many changed documents are tried.
const ROUNDS: usize = 3000;
/// Share of refusals that may name no element nearer than `<devices>` or the whole.
const VAGUE: f64 = 0.1;

#[derive(Default)]
struct Tally {
    refused: usize,
    vague: usize,
    /// Refusals without place.
    bare: Vec<String>,
}

impl Tally {
    fn count(&mut self, error: &Error) {
        self.refused += 1;
        let syntax = error.code() == Code::XmlDetail && error.message().contains("at line ");
        let what = ["value", "missing"].iter().any(|k| error.fact(k).is_some());
        let place = error.fact("element").is_some() || error.fact("missing").is_some();
        if error.fact("line").is_none() || !(syntax || place && what) || error.fact("offset").is_some() {
            self.bare.push(format!("{error}: {:?}", error.context()));
        }
        if matches!(error.fact("element"), Some("/domain" | "/domain/devices")) && !syntax {
            self.vague += 1;
            if std::env::var_os("VIRT_TEST_VERBOSE").is_some() {
                println!("vague: {error}");
            }
        }
    }

    fn judge(&self) {
        println!("{} refusals, {} name only <devices> or the whole", self.refused, self.vague);
        for text in self.bare.iter().take(20) {
            println!("  {text}");
        }
        assert!(self.bare.is_empty(), "{} of {} refusals tell no place", self.bare.len(), self.refused);
        let share = self.vague as f64 / self.refused.max(1) as f64;
        assert!(share <= VAGUE, "{:.1}% of all refusals are vague", 100.0 * share);
    }
}

fn refusal(text: &str, emulators: &Emulators) -> Option<Error> {
    let line = document::read(text, emulators).and_then(|(def, emulator)| {
        command::native(def, &emulator, emulators.cpus(), command::Settings::default())
            .map_err(|e| virt_xml::locate(e, text))
    });
    line.err()
}

fn recorded(suites: &[&str], ending: &str) -> Vec<String> {
    let Some(folder) = std::env::var_os("VIRT_CONFORMANCE") else { return Vec::new() };
    let mut texts = Vec::new();
    for suite in suites {
        let entries = std::fs::read_dir(Path::new(&folder).join("cases").join(suite)).into_iter().flatten();
        for path in entries.flatten().map(|e| e.path()) {
            let name = path.display().to_string();
            if let Some(stem) = name.strip_suffix(ending)
                && let Ok(text) = std::fs::read_to_string(format!("{stem}.in.xml"))
            {
                texts.push(text);
            }
        }
    }
    texts.sort();
    texts
}

#[test]
fn recorded_refusals_tell_where() {
    let texts = recorded(&["argv", "domain", "argv-cross", "domain-cross"], ".err.json");
    if texts.is_empty() {
        eprintln!("skipped: VIRT_CONFORMANCE is not set");
        return;
    }
    let emulators = Emulators::new(None);
    let mut tally = Tally::default();
    texts.iter().filter_map(|t| refusal(t, &emulators)).for_each(|e| tally.count(&e));
    assert!(tally.refused > 100, "only {} documents are refused", tally.refused);
    tally.judge();
}

#[test]
fn refusals_of_changed_documents_tell_where() {
    let mut bases: Vec<Element> = documents::SEEDS.iter().filter_map(|s| tree(s)).collect();
    bases.extend(recorded(&["argv"], ".argv.json").iter().filter_map(|t| tree(t)));
    let mut seen = Seen::default();
    bases.iter().for_each(|b| seen.learn(b));
    let seed = std::env::var("VIRT_TEST_SEED").ok().and_then(|t| t.parse().ok()).unwrap_or(0x51_7c_c1_b7);
    println!("VIRT_TEST_SEED={seed}");
    let mut random = Random(seed);
    let emulators = Emulators::new(None);
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        let mut document = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(2) {
            vary(&mut document, &seen, &mut random);
        }
        let mut text = String::new();
        document.dump(&mut text, 0, true);
        if let Some(error) = refusal(&text, &emulators) {
            tally.count(&error);
        }
    }
    assert!(tally.refused > ROUNDS / 20, "only {} documents are refused", tally.refused);
    tally.judge();
}
