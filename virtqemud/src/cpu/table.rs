//! The x86 CPU models that documents may name.
//!
//! `x86-models.txt` has one line a model: name, vendor, signatures (`family/model` or `family/model/steppings`), whether
//! a CPU may be described by it to guests or only to hosts, and its features as differences from a model above
//! (`+` has, `-` lacks, `!` had once: an emulator may still switch it on by default, so it is switched off by name).
//! The facts were observed: which features each model expands to was asked of a running libvirt 11.3, vendors and
//! numbers are in the makers' manuals (docs/adr/0017). `tests/cpu_reference.rs` compares the table with a running libvirt.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::decode::Signature;
use super::features::{self, Features};

/// One model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name in documents.
    pub name: &'static str,
    /// libvirt's vendor name; models of no vendor describe an idea of a CPU.
    pub vendor: Option<&'static str>,
    /// Whether a guest's CPU may be described by it. Versions are accepted, but their plain model is the answer.
    pub for_guests: bool,
    /// Its features.
    pub features: Features,
    /// Features it had before: QEMU's model of that name may have them still.
    pub removed: Features,
    /// Whether the table decides what a host must have for the model. Of the others, which are QEMU's own versions,
    /// the emulator itself says what it cannot give.
    pub judged_here: bool,
    signatures: Vec<Range>,
}

/// CPUs of one family and model, and some of its steppings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    family: u32,
    model: u32,
    steppings: (u32, u32),
}

impl Known {
    /// Whether CPUs with this signature are of this model.
    pub fn is(&self, s: Signature) -> bool {
        let within = |r: &Range| (r.steppings.0..=r.steppings.1).contains(&s.stepping);
        self.signatures.iter().any(|r| (r.family, r.model) == (s.family, s.model) && within(r))
    }
}

static TEXT: &str = include_str!("x86-models.txt");

static MODELS: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut out: Vec<Known> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for line in TEXT.lines() {
        // A line that cannot be read would be a fault of the table; a test reads them all.
        let Some(known) = read(line, |base| places.get(base).map(|at| out[*at].features.clone())) else {
            continue;
        };
        places.insert(known.name, out.len());
        out.push(known);
    }
    out
});

/// All models in the order documents and lists have.
pub fn all() -> &'static [Known] {
    &MODELS
}

/// The model of this name.
pub fn get(name: &str) -> Option<&'static Known> {
    MODELS.iter().find(|m| m.name == name)
}

fn read(line: &'static str, base: impl Fn(&str) -> Option<Features>) -> Option<Known> {
    let (head, tail) = line.split_once(" = ")?;
    let mut head = head.split(' ');
    let (name, vendor, signatures, use_) = (head.next()?, head.next()?, head.next()?, head.next()?);
    let mut words = tail.split(' ');
    let mut features = match words.next()? {
        "none" => Features::new(),
        other => base(other)?,
    };
    let mut removed = Features::new();
    for word in words {
        let (sign, feature) = word.split_at_checked(1)?;
        let feature = features::known(feature)?;
        match sign {
            "+" => _ = features.insert(feature),
            "-" => _ = features.remove(feature),
            "!" => _ = removed.insert(feature),
            _ => return None,
        }
    }
    let signatures = match signatures {
        "-" => Vec::new(),
        list => list.split(',').map(range).collect::<Option<_>>()?,
    };
    Some(Known {
        name,
        vendor: (vendor != "-").then_some(vendor),
        for_guests: use_ == "guest",
        judged_here: !(is_version(name) || matches!(name, "Denverton" | "KnightsMill")),
        features,
        removed,
        signatures,
    })
}

/// Whether a name ends in a version: "Haswell-v4".
fn is_version(name: &str) -> bool {
    let number = name.rsplit_once("-v").map(|(_, n)| n);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split('/');
    let family = parts.next()?.parse().ok()?;
    let model = parts.next()?.parse().ok()?;
    let steppings = match parts.next() {
        None => (0, u32::MAX),
        Some(s) => {
            let (first, last) = s.split_once('-')?;
            (first.parse().ok()?, last.parse().ok()?)
        }
    };
    Some(Range { family, model, steppings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        assert_eq!(all().len(), TEXT.lines().count());
        assert!(all().iter().all(|m| !m.features.is_empty() && m.features.is_disjoint(&m.removed)));
    }

    #[test]
    fn models_build_on_each_other() {
        let (haswell, broadwell) = (get("Haswell").unwrap(), get("Broadwell").unwrap());
        assert!(haswell.features.is_subset(&broadwell.features) && !haswell.features.contains("adx"));
        assert_eq!(get("EPYC").unwrap().removed.iter().copied().collect::<Vec<_>>(), ["monitor"]);
        assert!(get("Haswell-v1").is_some_and(|m| !m.for_guests && m.features == haswell.features));
        assert!(get("nope").is_none());
    }

    #[test]
    fn signatures_may_name_steppings() {
        let is = |name: &str, stepping| get(name).unwrap().is(Signature { family: 6, model: 85, stepping });
        assert!(is("Skylake-Server", 4) && is("Cascadelake-Server", 7) && is("Cooperlake", 11));
        assert!(!is("Skylake-Server", 7) && !is("Haswell", 4));
    }
}
