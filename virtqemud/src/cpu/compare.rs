//! Comparing a CPU with what a host or an emulator offers.

use super::features::{self, Features};
use super::probe::Offer;
use super::told::{Policy, Told};

/// `virCPUCompareResult`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The host lacks something.
    Incompatible = 0,
    /// The very same features.
    Identical = 1,
    /// The host has more.
    Superset = 2,
}

/// What there is to compare with.
pub struct Offered<'a> {
    /// Its features.
    pub features: &'a Features,
    /// libvirt's vendor name.
    pub vendor: Option<&'a str>,
    /// x86 or not at all.
    pub arch: &'a str,
}

/// Compares a CPU with an offer. The text says why they do not fit.
pub fn compare(told: &Told, offered: &Offered<'_>) -> (Comparison, Option<String>) {
    match refusal(told, offered) {
        Some(why) => (Comparison::Incompatible, Some(why)),
        None if told.model.is_some() && told.has() == *offered.features => (Comparison::Identical, None),
        None => (Comparison::Superset, None),
    }
}

/// Compares a CPU with what an emulator offers: its own word counts for the models it knows best.
pub fn compare_offer(told: &Told, offer: &Offer, offered: &Offered<'_>) -> (Comparison, Option<String>) {
    let Some((model, own)) = told.model.and_then(|m| Some((m, offer.get(m.name)?))) else {
        return compare(told, offered);
    };
    if model.judged_here {
        let asks = told.features.iter().any(|(_, p)| matches!(p, Policy::Require | Policy::Forbid));
        let usable = own.blockers.as_ref().is_some_and(Vec::is_empty) && !asks;
        return if usable { (Comparison::Superset, None) } else { compare(told, offered) };
    }
    let asked = if told.host { &[][..] } else { &told.features[..] };
    let off = |name: &str| asked.iter().any(|(n, p)| *n == name && *p == Policy::Disable);
    let mut missing: Vec<&str> = own.unavailable.iter().map(String::as_str).filter(|n| !off(n)).collect();
    let required = asked.iter().filter(|(n, p)| *p == Policy::Require && !offered.features.contains(n));
    missing.extend(required.map(|(n, _)| *n));
    if missing.is_empty() {
        return (Comparison::Superset, None);
    }
    let text = format!("Host CPU does not provide required features: {}", missing.join(", "));
    (Comparison::Incompatible, Some(text))
}

fn refusal(told: &Told, offered: &Offered<'_>) -> Option<String> {
    let x86 = |a: &str| matches!(a, "x86_64" | "i686");
    if let Some(arch) = told.arch.as_deref().filter(|a| *a != offered.arch && !(x86(a) && x86(offered.arch)))
    {
        return Some(format!("CPU arch {arch} does not match host arch"));
    }
    if told.model.is_none() && told.features.is_empty() {
        return None;
    }
    let model = told.model.map(|m| m.features.clone()).unwrap_or_default();
    let of = |wanted: &[Policy]| -> Features {
        told.features.iter().filter(|(_, p)| wanted.contains(p)).map(|(n, _)| *n).collect()
    };
    if let Some(vendor) = told.vendor.as_deref().filter(|v| offered.vendor.is_some_and(|o| o != *v)) {
        return Some(format!("host CPU vendor does not match required CPU vendor {vendor}"));
    }
    let forbidden: Features = of(&[Policy::Forbid]).intersection(offered.features).copied().collect();
    if !forbidden.is_empty() {
        return Some(format!("Host CPU provides forbidden features: {}", list(&forbidden)));
    }
    // What is forced or optional is not asked of the host; what is forbidden stays the model's.
    let free = of(&[Policy::Force, Policy::Optional, Policy::Disable]);
    let mut required: Features = model.difference(&free).copied().collect();
    required.extend(of(&[Policy::Require]));
    let missing: Features = required.difference(offered.features).copied().collect();
    if !missing.is_empty() {
        return Some(format!("Host CPU does not provide required features: {}", list(&missing)));
    }
    let allowed: Features = told.features.iter().map(|(n, _)| *n).chain(required).collect();
    let more: Features = offered.features.difference(&allowed).copied().collect();
    if told.strict && !more.is_empty() {
        let text = "Host CPU does not strictly match guest CPU: Extra features";
        return Some(format!("{text}: {}", list(&more)));
    }
    None
}

fn list(set: &Features) -> String {
    features::in_order(set).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::super::told::{Form, read};
    use super::*;

    fn against(xml: &str, features: &Features) -> (Comparison, String) {
        let told = read(xml, Form::Either).unwrap();
        let offered = Offered { features, vendor: Some("Intel"), arch: "x86_64" };
        let (result, why) = compare(&told, &offered);
        (result, why.unwrap_or_default())
    }

    #[test]
    fn the_three_results() {
        let host = &table::get("Haswell").unwrap().features;
        let result = |body: &str| against(&format!("<cpu match='exact'>{body}</cpu>"), host);
        assert_eq!(result("<model>Haswell</model>").0, Comparison::Identical);
        assert_eq!(result("<model>Haswell-noTSX</model>").0, Comparison::Superset);
        assert_eq!(result("").0, Comparison::Superset);
        let (answer, why) = result("<model>Haswell</model><feature name='xop'/><feature name='adx'/>");
        assert_eq!(answer, Comparison::Incompatible);
        assert_eq!(why, "Host CPU does not provide required features: adx, xop");
        assert_eq!(
            result("<model>Haswell</model><feature name='xop' policy='force'/>").0,
            Comparison::Superset
        );
        let (_, why) = result("<model>Haswell</model><feature name='aes' policy='forbid'/>");
        assert_eq!(why, "Host CPU provides forbidden features: aes");
        let (_, why) = result("<model>Haswell</model><vendor>AMD</vendor>");
        assert_eq!(why, "host CPU vendor does not match required CPU vendor AMD");
    }

    #[test]
    fn strict_allows_nothing_more() {
        let host = &table::get("Haswell").unwrap().features;
        let (_, why) = against("<cpu match='strict'><model>Haswell-noTSX</model></cpu>", host);
        assert_eq!(why, "Host CPU does not strictly match guest CPU: Extra features: hle, rtm");
    }

    #[test]
    fn another_architecture_never_fits() {
        let (result, why) = against("<cpu><arch>ppc64</arch><model>POWER8</model></cpu>", &Features::new());
        assert_eq!(
            (result, why.as_str()),
            (Comparison::Incompatible, "CPU arch ppc64 does not match host arch")
        );
    }
}
