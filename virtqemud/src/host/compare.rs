//! Comparing CPU documents with a CPU, and the baseline of several.

use std::collections::BTreeSet;

use virt_error::{Code, Domain, Error, Result};
use virt_xml::{Document, El, Mode, Writer};

use super::decode::{Wanted, describe};
use super::features::{self, Features};
use super::models::{Model, Models};
use super::xml::{empty, text};

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

/// A CPU as a document tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    arch: Option<String>,
    vendor: Option<String>,
    exact: bool,
    strict: bool,
    has: Features,
    forbids: Features,
}

/// Reads a `<cpu>` element (guest or host form), or a document that holds one.
///
/// # Errors
/// Code 27 for another document, an unknown model or feature.
pub fn read(xml: &str, models: &Models) -> Result<Told> {
    let document = Document::parse(xml, Mode::default(), Domain::Cpu)?;
    let root = document.root();
    let cpu = find_cpu(root).ok_or_else(|| wrong("XML does not contain expected 'cpu' element"))?;
    let name = cpu.child("model").map(|m| m.text().trim().to_string());
    let mut told = Told {
        arch: cpu.child("arch").map(|a| a.text().trim().to_string()),
        vendor: cpu.child("vendor").map(|v| v.text().trim().to_string()),
        exact: cpu.attr("match") != Some("minimum"),
        strict: cpu.attr("match") == Some("strict"),
        has: Features::new(),
        forbids: Features::new(),
    };
    if let Some(name) = &name {
        let model = models.get(name).ok_or_else(|| wrong_cpu(&format!("Unknown CPU model {name}")))?;
        told.has.extend(model.features.iter().copied());
    }
    for feature in cpu.children().filter(|c| c.name() == "feature") {
        let name = feature.attr("name").ok_or_else(|| wrong("missing CPU feature name"))?;
        let known = features::known(name).ok_or_else(|| wrong_cpu(&format!("Unknown CPU feature {name}")))?;
        match feature.attr("policy") {
            None | Some("require" | "force") => _ = told.has.insert(known),
            Some("optional") => {}
            Some("disable") => _ = told.has.remove(known),
            Some("forbid") => {
                told.has.remove(known);
                told.forbids.insert(known);
            }
            Some(other) => {
                return Err(wrong(&format!(
                    "Invalid value for attribute 'policy' in element 'feature': '{other}'"
                )));
            }
        }
    }
    Ok(told)
}

fn find_cpu<'a>(root: El<'a>) -> Option<El<'a>> {
    match root.name() {
        "cpu" => Some(root),
        "capabilities" => root.child("host")?.child("cpu"),
        "domain" => root.child("cpu"),
        "domainCapabilities" => root.child("cpu"),
        _ => None,
    }
}

fn wrong(text: &str) -> Error {
    Error::new(Code::XmlError, Domain::Cpu, text)
}

fn wrong_cpu(text: &str) -> Error {
    Error::internal(Domain::Cpu, text)
}

/// Compares a told CPU with what a host offers.
pub fn compare(
    told: &Told,
    arch: &str,
    vendor: Option<&str>,
    offered: &Features,
) -> (Comparison, Option<String>) {
    if told.arch.as_deref().is_some_and(|a| a != arch) {
        return (
            Comparison::Incompatible,
            Some(format!(
                "CPU arch {} does not match host arch {arch}",
                told.arch.as_deref().unwrap_or_default()
            )),
        );
    }
    if let (Some(wanted), Some(host)) = (&told.vendor, vendor)
        && wanted != host
    {
        return (
            Comparison::Incompatible,
            Some(format!("host CPU vendor does not match required CPU vendor {wanted}")),
        );
    }
    let lacking: Vec<&str> = features::in_order(&told.has.difference(offered).copied().collect()).collect();
    if !lacking.is_empty() {
        return (
            Comparison::Incompatible,
            Some(format!("Host CPU does not provide required features: {}", lacking.join(", "))),
        );
    }
    let forbidden: Vec<&str> =
        features::in_order(&told.forbids.intersection(offered).copied().collect()).collect();
    if !forbidden.is_empty() {
        return (
            Comparison::Incompatible,
            Some(format!("Host CPU provides forbidden features: {}", forbidden.join(", "))),
        );
    }
    if told.has == *offered {
        return (Comparison::Identical, None);
    }
    if told.strict {
        return (Comparison::Incompatible, Some("Host CPU does not strictly match".to_string()));
    }
    (Comparison::Superset, None)
}

/// The CPU that all of `cpus` and, when given, `limit` can be: a custom CPU document.
///
/// # Errors
/// Code 9 when they have nothing in common that a model could describe.
pub fn baseline(cpus: &[Told], limit: Option<&Features>, models: &[Model], expand: bool) -> Result<String> {
    let Some(first) = cpus.first() else {
        return Err(Error::new(Code::InvalidArg, Domain::Cpu, "No CPUs given"));
    };
    let mut common = first.has.clone();
    for set in cpus.iter().skip(1).map(|c| &c.has).chain(limit) {
        common = common.intersection(set).copied().collect();
    }
    let vendors: BTreeSet<&str> = cpus.iter().filter_map(|c| c.vendor.as_deref()).collect();
    if vendors.len() > 1 {
        return Err(Error::new(Code::OperationFailed, Domain::Cpu, "CPU vendors do not match"));
    }
    let vendor = vendors.into_iter().next();
    let wanted = Wanted { features: &common, vendor, signature: (0, 0), may_miss: true };
    let Some(found) = describe(models, &wanted).filter(|_| !common.is_empty()) else {
        return Err(Error::new(Code::OperationFailed, Domain::Cpu, "CPUs are incompatible"));
    };
    let mut w = Writer::new(Mode::default());
    w.start("cpu");
    w.attr("mode", "custom");
    w.attr("match", "exact");
    text(&mut w, "model", &[("fallback", "forbid")], &found.model);
    if let Some(vendor) = vendor {
        text(&mut w, "vendor", &[], vendor);
    }
    let required = if expand { &common } else { &found.extra };
    for (policy, set) in [("require", required), ("disable", &found.missing)] {
        for name in features::in_order(set) {
            empty(&mut w, "feature", &[("policy", policy), ("name", name)]);
        }
    }
    w.end();
    Ok(w.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        let model = |name: &str, features: &[&'static str]| Model {
            name: name.into(),
            alias_of: None,
            deprecated: false,
            blockers: None,
            vendor: None,
            family: 6,
            number: 1,
            features: features.iter().copied().collect(),
        };
        Models { models: vec![model("a", &["fpu"]), model("b", &["fpu", "sse", "avx"])], ..Models::default() }
    }

    #[test]
    fn the_three_results() {
        let models = models();
        let host: Features = ["fpu", "sse", "avx"].into_iter().collect();
        let result = |xml: &str| compare(&read(xml, &models).unwrap(), "x86_64", Some("Intel"), &host).0;
        assert_eq!(result("<cpu><model>b</model></cpu>"), Comparison::Identical);
        assert_eq!(result("<cpu match='exact'><model>a</model></cpu>"), Comparison::Superset);
        assert_eq!(result("<cpu match='strict'><model>a</model></cpu>"), Comparison::Incompatible);
        assert_eq!(
            result("<cpu><model>b</model><feature name='aes' policy='require'/></cpu>"),
            Comparison::Incompatible
        );
        assert_eq!(
            result("<cpu><model>a</model><feature name='sse' policy='forbid'/></cpu>"),
            Comparison::Incompatible
        );
        assert_eq!(result("<cpu><arch>ppc64</arch><model>a</model></cpu>"), Comparison::Incompatible);
        assert!(read("<cpu><model>zz</model></cpu>", &models).is_err());
        assert!(read("<network/>", &models).is_err());
    }

    #[test]
    fn baseline_is_what_all_have() {
        let models = models();
        let told: Vec<Told> =
            ["<cpu><model>b</model></cpu>", "<cpu><model>a</model><feature name='sse'/></cpu>"]
                .iter()
                .map(|x| read(x, &models).unwrap())
                .collect();
        let xml = baseline(&told, None, &models.models, false).unwrap();
        assert!(
            xml.contains("<model fallback='forbid'>a</model>")
                && xml.contains("<feature policy='require' name='sse'/>"),
            "{xml}"
        );
    }
}
