//! Finding the named model that describes a set of features best.

use super::features::{self, Features};
use super::table::Known;

/// Which CPU it is, by its maker's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Family, the extended one added.
    pub family: u32,
    /// Model, the extended one added.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

/// A CPU told as a model and the differences from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The model.
    pub model: &'static Known,
    /// Features beyond the model's.
    pub extra: Features,
    /// Features of the model that the CPU has not, or that the emulator cannot give to the model.
    pub missing: Features,
    /// Features the model once had and the CPU has not.
    pub gone: Features,
}

impl Described {
    /// Everything to switch off, in the order documents have it.
    pub fn disabled(&self) -> impl Iterator<Item = &'static str> {
        features::in_order(&self.missing).chain(self.gone.iter().copied())
    }

    fn less(&self) -> usize {
        self.missing.len() + self.gone.len()
    }
}

/// What must be described.
pub struct Wanted<'a> {
    /// The features that are there.
    pub features: &'a Features,
    /// libvirt's vendor name, if known. A model of another vendor is never taken.
    pub vendor: Option<&'a str>,
    /// The CPU's numbers: if models of that very CPU fit, no other is taken.
    pub signature: Option<Signature>,
    /// Names that are taken before all others when they describe the CPU without taking anything away; a single one is
    /// taken in any case.
    pub named: &'a [&'a str],
}

/// A model that may be the answer.
pub struct Candidate<'a> {
    /// The model.
    pub model: &'static Known,
    /// Features that the emulator cannot give to it.
    pub blockers: Option<&'a Features>,
}

/// The best description for a guest; `None` when no model fits.
pub fn for_guest<'a>(
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    wanted: &Wanted<'_>,
) -> Option<Described> {
    let fits = candidates.into_iter().filter(|c| c.model.for_guests && same_vendor(c.model, wanted));
    let described: Vec<Described> = fits.map(|c| describe(&c, wanted.features)).collect();
    let mut choice = signed(&described, wanted.signature);
    if choice.iter().any(|d| is_named(d, wanted)) {
        choice.retain(|d| is_named(d, wanted));
    }
    best(choice).cloned()
}

/// The best description of a host, which cannot say that something is missing.
pub fn for_host(models: &'static [Known], wanted: &Wanted<'_>) -> Option<Described> {
    let fits = models.iter().filter(|m| same_vendor(m, wanted));
    let described: Vec<Described> = fits
        .map(|model| describe(&Candidate { model, blockers: None }, wanted.features))
        .filter(|d| d.less() == 0)
        .collect();
    best(signed(&described, wanted.signature)).cloned()
}

fn same_vendor(model: &Known, wanted: &Wanted<'_>) -> bool {
    !matches!((model.vendor, wanted.vendor), (Some(m), Some(w)) if m != w)
}

fn is_named(described: &Described, wanted: &Wanted<'_>) -> bool {
    let only = matches!(wanted.named, [one] if *one == described.model.name);
    only || described.less() == 0 && wanted.named.contains(&described.model.name)
}

/// Those of the CPU's own numbers, or all when there is none.
fn signed(all: &[Described], signature: Option<Signature>) -> Vec<&Described> {
    let own: Vec<&Described> = all.iter().filter(|d| signature.is_some_and(|s| d.model.is(s))).collect();
    if own.is_empty() { all.iter().collect() } else { own }
}

fn describe(candidate: &Candidate<'_>, features: &Features) -> Described {
    // What nested virtualization can do is only told of a CPU that has it.
    let nested = features.iter().any(|f| f.starts_with("vmx-"));
    let told = |f: &&&'static str| nested || !f.starts_with("vmx-");
    let model = candidate.model;
    let mut extra: Features = features.difference(&model.features).copied().collect();
    let mut missing: Features =
        model.features.iter().filter(told).filter(|f| !features.contains(**f)).copied().collect();
    // What a model once had is always said, the one way or the other.
    let (there, gone) = model.removed.iter().copied().partition(|f| features.contains(f));
    let there: Features = there;
    extra.extend(there);
    // What the CPU has beyond the model is asked for by name, whatever the model cannot get.
    let own = |f: &&&'static str| !model.removed.contains(**f) && !extra.contains(**f);
    missing.extend(candidate.blockers.into_iter().flatten().filter(own));
    Described { model, extra, missing, gone }
}

/// Short descriptions are good; features taken away weigh more, each pair of them more than the pair before.
fn weight(d: &Described) -> (usize, std::cmp::Reverse<usize>) {
    let (extra, missing) = (d.extra.len(), d.less());
    let pairs = missing.div_ceil(2);
    (extra + missing + pairs * (pairs + 1) / 2, std::cmp::Reverse(extra + missing))
}

/// The lightest; of equal ones that with less taken away, then the last.
fn best(all: Vec<&Described>) -> Option<&Described> {
    all.into_iter().rev().min_by_key(|d| weight(d))
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn wanted(features: &Features) -> Wanted<'_> {
        Wanted { features, vendor: None, signature: None, named: &[] }
    }

    fn all() -> impl Iterator<Item = Candidate<'static>> {
        table::all().iter().map(|model| Candidate { model, blockers: None })
    }

    #[test]
    fn every_model_for_guests_describes_itself() {
        for model in table::all().iter().filter(|m| m.for_guests) {
            let found = for_guest(all(), &wanted(&model.features)).unwrap();
            assert_eq!((found.model.name, found.extra.len(), found.missing.len()), (model.name, 0, 0));
            assert_eq!(found.gone, model.removed);
        }
    }

    #[test]
    fn versions_are_described_by_their_plain_model() {
        let found = for_guest(all(), &wanted(&table::get("Haswell-v4").unwrap().features)).unwrap();
        assert_eq!(found.model.name, "Haswell-noTSX-IBRS");
    }

    #[test]
    fn a_foreign_vendor_is_never_taken() {
        let features = &table::get("Haswell").unwrap().features;
        let found = for_guest(all(), &Wanted { vendor: Some("AMD"), ..wanted(features) }).unwrap();
        assert_eq!(found.model.name, "kvm64");
    }

    #[test]
    fn a_named_model_wins_when_nothing_is_taken_away() {
        let features = &table::get("Haswell").unwrap().features;
        let mut with_old = features.clone();
        with_old.extend(table::get("486").unwrap().features.iter().copied());
        let found = for_guest(all(), &Wanted { named: &["486"], ..wanted(&with_old) }).unwrap();
        assert_eq!(found.model.name, "486");
        let named: &[&str] = &["486", "pentium"];
        let found = for_guest(all(), &Wanted { named, ..wanted(features) }).unwrap();
        assert_eq!(found.model.name, "Haswell");
    }

    #[test]
    fn the_cpus_own_numbers_win() {
        let features = &table::get("Broadwell").unwrap().features;
        let signature = Some(Signature { family: 6, model: 60, stepping: 3 });
        let found = for_guest(all(), &Wanted { signature, ..wanted(features) }).unwrap();
        assert_eq!(found.model.name, "Haswell");
    }

    #[test]
    fn a_host_lacks_nothing() {
        let features = &table::get("Skylake-Server").unwrap().features;
        let found = for_host(table::all(), &wanted(features)).unwrap();
        assert_eq!(found.model.name, "Skylake-Server-v1");
    }

    #[test]
    fn blockers_are_said() {
        let epyc = table::get("EPYC").unwrap();
        let blockers: Features = ["topoext", "sse"].into_iter().collect();
        let found =
            for_guest([Candidate { model: epyc, blockers: Some(&blockers) }], &wanted(&epyc.features));
        assert_eq!(found.unwrap().disabled().collect::<Vec<_>>(), ["sse", "topoext", "monitor"]);
    }
}
