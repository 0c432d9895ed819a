//! What QEMU really gave to a started guest's CPU, and the document that says so.

use serde_json::{Value, json};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::cpu::{Cpu, CpuCheck, CpuFallback, CpuFeature, CpuMatch, CpuMode, FeaturePolicy};

use super::expand::feature;
use super::features::{self, Features, Register, WORDS, Word};
use super::table;
use crate::qmp::Client;

/// A running guest's CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Features it has.
    pub enabled: Features,
    /// Features that were asked for and could not be given.
    pub unavailable: Features,
}

/// Asks the running QEMU about the CPU at a path of its object tree.
///
/// # Errors
/// What the monitor answers.
pub async fn ask(monitor: &Client, path: &str) -> Result<Actual> {
    let get = |property: &str| {
        let arguments = json!({"path": path, "property": property});
        async move { monitor.run_untyped("qom-get", &arguments).await }
    };
    let (words, unavailable) = tokio::try_join!(get("feature-words"), get("unavailable-features"))?;
    let mut actual = read(&words, &unavailable);
    // Registers are in no word: each of their features is a property. Nested virtualization is only asked of a CPU
    // that has it.
    let nested = actual.enabled.contains("vmx");
    let own = |name: &&&str| nested || !name.starts_with("vmx-");
    for (word, bits) in WORDS {
        if !matches!(word, Word::Msr(_)) {
            continue;
        }
        let names: Vec<&'static str> =
            bits.iter().map(|(_, n)| n).filter(own).filter(|n| !features::is_host_only(n)).copied().collect();
        let mut answers = tokio::task::JoinSet::new();
        for name in names {
            let (monitor, arguments) = (monitor.clone(), json!({"path": path, "property": name}));
            answers.spawn(async move { (name, monitor.run_untyped("qom-get", &arguments).await) });
        }
        while let Some(answer) = answers.join_next().await {
            // An older QEMU that lacks the property has not given the feature.
            if let Ok((name, Ok(Value::Bool(true)))) = answer {
                actual.enabled.insert(name);
            }
        }
    }
    Ok(actual)
}

fn read(words: &Value, unavailable: &Value) -> Actual {
    let mut actual = Actual::default();
    for word in words.as_array().into_iter().flatten() {
        let number = |key: &str| word[key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let register = match word["cpuid-register"].as_str() {
            Some("EAX") => Register::Eax,
            Some("EBX") => Register::Ebx,
            Some("ECX") => Register::Ecx,
            Some("EDX") => Register::Edx,
            _ => continue,
        };
        let here = Word::Cpuid(number("cpuid-input-eax"), number("cpuid-input-ecx"), register);
        let bits = WORDS.iter().filter(|(w, _)| *w == here).flat_map(|(_, bits)| bits.iter());
        let set = bits.filter(|(bit, _)| number("features") & (1 << bit) != 0).map(|(_, n)| *n);
        actual.enabled.extend(set.filter(|n| !features::is_host_only(n)));
    }
    let names = unavailable.as_array().into_iter().flatten().filter_map(Value::as_str);
    actual.unavailable = names.filter_map(features::known).filter(|n| !actual.enabled.contains(n)).collect();
    actual
}

/// Whether a CPU is one whose document can say more than it does.
pub fn is_named(cpu: &Cpu) -> bool {
    let model = cpu.model.as_ref().and_then(|m| m.name.as_deref());
    cpu.mode.unwrap_or_default() == CpuMode::Custom && model.is_some_and(|m| table::get(m).is_some())
}

/// Writes into the document what the guest has: each feature that differs from the model is named.
///
/// # Errors
/// Code 9 when the document wanted exactly what it says (`check='full'`) and got something else.
pub fn update(cpu: &mut Cpu, actual: &Actual) -> Result<()> {
    let Some(model) = cpu.model.as_ref().and_then(|m| m.name.as_deref()).and_then(table::get) else {
        return Ok(());
    };
    let mut expected = model.features.clone();
    let mut refused = Features::new();
    for (name, policy) in said(cpu) {
        match policy {
            FeaturePolicy::Force | FeaturePolicy::Require => _ = expected.insert(name),
            FeaturePolicy::Disable | FeaturePolicy::Forbid => {
                expected.remove(name);
                refused.insert(name);
            }
            FeaturePolicy::Optional => {}
        }
    }
    expected.extend(actual.unavailable.difference(&refused).copied());
    expected.retain(|f| !features::is_host_only(f));
    let extra: Features = actual.enabled.difference(&expected).copied().collect();
    let missing: Features = expected.difference(&actual.enabled).copied().collect();
    if cpu.check == Some(CpuCheck::Full) {
        return refuse(&extra, &missing);
    }
    for feature in &mut cpu.features {
        let Some(name) = feature.name.as_deref().and_then(features::known) else { continue };
        let on = actual.enabled.contains(name);
        feature.policy = match (feature.policy.unwrap_or(FeaturePolicy::Require), on) {
            (FeaturePolicy::Forbid, false) => Some(FeaturePolicy::Forbid),
            (_, true) => Some(FeaturePolicy::Require),
            (_, false) => Some(FeaturePolicy::Disable),
        };
    }
    let told: Features = said(cpu).map(|(name, _)| name).collect();
    let news: Features = extra.union(&missing).filter(|f| !told.contains(**f)).copied().collect();
    for name in features::in_order(&news) {
        let policy =
            if actual.enabled.contains(name) { FeaturePolicy::Require } else { FeaturePolicy::Disable };
        cpu.features.push(feature(name, policy));
    }
    cpu.mode = Some(CpuMode::Custom);
    if cpu.matching != Some(CpuMatch::Strict) {
        cpu.matching = Some(CpuMatch::Exact);
    }
    cpu.check = Some(CpuCheck::Full);
    if let Some(model) = &mut cpu.model {
        model.fallback = Some(CpuFallback::Forbid);
    }
    Ok(())
}

fn said(cpu: &Cpu) -> impl Iterator<Item = (&'static str, FeaturePolicy)> {
    let read = |f: &CpuFeature| {
        Some((features::known(f.name.as_deref()?)?, f.policy.unwrap_or(FeaturePolicy::Require)))
    };
    cpu.features.iter().filter_map(read)
}

fn refuse(extra: &Features, missing: &Features) -> Result<()> {
    let part = |what: &str, set: &Features| {
        let names = features::in_order(set).collect::<Vec<_>>().join(",");
        (!set.is_empty()).then(|| format!("{what} features: {names}"))
    };
    let parts: Vec<String> = part("extra", extra).into_iter().chain(part("missing", missing)).collect();
    if parts.is_empty() {
        return Ok(());
    }
    let text = format!("guest CPU doesn't match specification: {}", parts.join(", "));
    Err(Error::new(Code::OperationFailed, From::Qemu, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt_model::domain::cpu::CpuModel;

    fn cpu(model: &str, features: &[(&str, FeaturePolicy)]) -> Cpu {
        Cpu {
            mode: Some(CpuMode::Custom),
            matching: Some(CpuMatch::Exact),
            check: Some(CpuCheck::None),
            model: Some(CpuModel { name: Some(model.into()), ..CpuModel::default() }),
            features: features.iter().map(|(n, p)| feature(n, *p)).collect(),
            ..Cpu::default()
        }
    }

    fn actual(model: &str, more: &[&'static str], less: &[&str]) -> Actual {
        let mut enabled = table::get(model).unwrap().features.clone();
        enabled.extend(more.iter().copied());
        enabled.retain(|f| !less.contains(f));
        Actual { enabled, unavailable: Features::new() }
    }

    #[test]
    fn the_document_says_what_qemu_gave() {
        use FeaturePolicy::{Disable, Forbid, Optional, Require};
        let mut doc =
            cpu("qemu64", &[("vme", Require), ("avx", Optional), ("xop", Forbid), ("sse", Disable)]);
        let mut given = actual("qemu64", &["avx", "hypervisor"], &["nx", "sse"]);
        given.unavailable.insert("topoext");
        update(&mut doc, &given).unwrap();
        let features: Vec<_> =
            doc.features.iter().map(|f| (f.name.as_deref().unwrap(), f.policy.unwrap())).collect();
        assert_eq!(
            features,
            [
                ("vme", Disable),
                ("avx", Require),
                ("xop", Forbid),
                ("sse", Disable),
                ("hypervisor", Require),
                ("topoext", Disable),
                ("nx", Disable)
            ]
        );
        assert_eq!(doc.check, Some(CpuCheck::Full));
        assert_eq!(doc.model.unwrap().fallback, Some(CpuFallback::Forbid));
    }

    #[test]
    fn a_full_check_refuses_every_difference() {
        let mut doc = cpu("EPYC", &[("monitor", FeaturePolicy::Disable)]);
        doc.check = Some(CpuCheck::Full);
        update(&mut doc, &actual("EPYC", &[], &[])).unwrap();
        let error = update(&mut doc, &actual("EPYC", &["hypervisor"], &["vme", "osvw"])).unwrap_err();
        assert_eq!(
            error.message(),
            "operation failed: guest CPU doesn't match specification: extra features: hypervisor, missing features: vme,osvw"
        );
    }

    #[test]
    fn words_become_features() {
        let words = json!([
            {"cpuid-register": "EDX", "cpuid-input-eax": 1, "features": 1 << 25 | 1},
            {"cpuid-register": "EBX", "cpuid-input-eax": 7, "cpuid-input-ecx": 0, "features": 1 << 5},
            {"cpuid-register": "EAX", "cpuid-input-eax": 0x4000_0001, "features": 255}]);
        let found = read(&words, &json!(["topoext", "sse", "nope"]));
        assert_eq!(found.enabled, ["fpu", "sse", "avx2"].into_iter().collect());
        assert_eq!(found.unavailable, ["topoext"].into_iter().collect());
    }
}
