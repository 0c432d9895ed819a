//! The CPU that all of several CPUs can be.

use virt_error::{Code, Domain, Error, Result};
use virt_xml::{Mode, Writer};

use super::decode::{self, Candidate, Described, Wanted};
use super::features::{self, Features};
use super::probe::Offer;
use super::table;
use super::told::Told;
use crate::host::xml::{empty, open, text};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// Every feature, not the differences from the model only.
    pub expand: bool,
    /// Only what may move to another host.
    pub migratable: bool,
}

/// The baseline as a guest's CPU document: of what an emulator offers when there is an offer.
///
/// # Errors
/// Code 9 when vendors differ or nothing is left that a model could describe; code 8 for a CPU without a model.
pub fn baseline(cpus: &[Told], offer: Option<&Offer>, ask: Ask) -> Result<String> {
    let names = cpus.iter().enumerate().map(|(at, cpu)| match (cpu.model, &cpu.foreign) {
        (Some(model), _) => Ok(model.name),
        (None, Some(name)) => Err(Error::internal(Domain::Cpu, format!("Unknown CPU model {name}"))),
        (None, None) => {
            Err(Error::new(Code::InvalidArg, Domain::Cpu, format!("no CPU model specified at index {at}")))
        }
    });
    let mut names = names.collect::<Result<Vec<_>>>()?;
    let Some(first) = cpus.first() else {
        return Err(Error::new(Code::InvalidArg, Domain::Cpu, "No CPUs given"));
    };
    let vendor = vendor(cpus)?;
    let mut common = first.has();
    for cpu in &cpus[1..] {
        let set = cpu.has();
        common.retain(|f| set.contains(f));
    }
    common.retain(|f| !features::is_host_only(f) && (!ask.migratable || features::is_migratable(f)));
    names.dedup();
    let wanted = Wanted { features: &common, vendor: vendor.as_deref(), signature: None, named: &names };
    let found = match offer {
        Some(offer) => decode::for_guest(offer.candidates(), &wanted),
        None => decode::for_guest(table::all().iter().map(plain), &wanted),
    };
    let Some(found) = found.filter(|_| !common.is_empty()) else {
        return Err(failed("CPUs are incompatible"));
    };
    let same = names.len() == 1 && names.first() == Some(&found.model.name);
    let fallback = if offer.is_some() || same { "forbid" } else { "allow" };
    // A vendor is only said when all say so.
    let said = first.vendor.as_deref().filter(|v| cpus.iter().all(|c| c.vendor.as_deref() == Some(*v)));
    let address = first.address.as_ref().filter(|_| cpus.len() == 1 && offer.is_some());
    Ok(write(&found, &common, said, address, fallback, ask))
}

/// The baseline of CPUs that are no x86 ones: nothing is known of their features. PowerPC's models must be the same,
/// of Arm's the first is taken.
///
/// # Errors
/// Code 3 for architectures without such knowledge, code 9 for different models, code 1 for unknown ones.
pub fn foreign(cpus: &[Told], arch: &str) -> Result<String> {
    let mut names = cpus.iter().filter_map(|c| c.foreign.as_deref());
    let first = names.next().unwrap_or_default();
    let fallback = match arch {
        "ppc64" | "ppc64le" => {
            let unknown = cpus.iter().filter_map(|c| c.foreign.as_deref()).find(|n| !POWER.contains(n));
            if let Some(name) = unknown {
                return Err(Error::internal(Domain::Cpu, format!("Unknown CPU model {name}")));
            }
            if names.any(|n| n != first) {
                return Err(failed("CPUs are incompatible"));
            }
            "forbid"
        }
        "aarch64" | "armv6l" | "armv7l" | "armv7b" => "allow",
        "s390" | "s390x" | "riscv64" | "loongarch64" => {
            let text = format!("cannot compute baseline CPU of {arch} architecture");
            return Err(Error::new(Code::NoSupport, Domain::Cpu, text));
        }
        _ => {
            let text = format!("'{arch}' architecture is not supported by CPU driver");
            return Err(Error::new(Code::NoSupport, Domain::Cpu, text));
        }
    };
    let mut w = Writer::new(Mode::default());
    w.start("cpu");
    w.attr("mode", "custom");
    w.attr("match", "exact");
    text(&mut w, "model", &[("fallback", fallback)], first);
    w.end();
    Ok(w.finish())
}

/// PowerPC's models by libvirt's names.
pub const POWER: &[&str] =
    &["POWER6", "POWER7", "POWER8", "POWER9", "POWER10", "POWERPC_e5500", "POWERPC_e6500"];

fn plain(model: &'static table::Known) -> Candidate<'static> {
    Candidate { model, blockers: None }
}

/// Whose model the answer may be; none when the CPUs are of several vendors and do not say so.
fn vendor(cpus: &[Told]) -> Result<Option<String>> {
    const VENDORS: [&str; 3] = ["AMD", "Hygon", "Intel"];
    let mut said: Option<&str> = None;
    for (at, cpu) in cpus.iter().enumerate() {
        let own = cpu.model.and_then(|m| m.vendor);
        if let Some(vendor) = cpu.vendor.as_deref() {
            if !VENDORS.contains(&vendor) {
                return Err(failed(&format!("Unknown CPU vendor {vendor}")));
            }
            if let (Some(own), Some(model), true) = (own.filter(|o| *o != vendor), cpu.model, at > 0) {
                let text = format!("CPU vendor {own} of model {} differs from vendor {vendor}", model.name);
                return Err(failed(&text));
            }
        }
        let this = if at == 0 { cpu.vendor.as_deref() } else { cpu.vendor.as_deref().or(own) };
        match (said, this) {
            (Some(a), Some(b)) if a != b => return Err(failed("CPU vendors do not match")),
            (None, _) => said = cpu.vendor.as_deref(),
            _ => {}
        }
    }
    let only = |mut all: Vec<&'_ str>| {
        all.sort_unstable();
        all.dedup();
        if let [one] = all[..] { Some(one.to_string()) } else { None }
    };
    let said = only(cpus.iter().filter_map(|c| c.vendor.as_deref()).collect());
    Ok(said.or_else(|| only(cpus.iter().filter_map(|c| c.model.and_then(|m| m.vendor)).collect())))
}

fn write(
    found: &Described,
    common: &Features,
    vendor: Option<&str>,
    address: Option<&Vec<(&'static str, String)>>,
    fallback: &str,
    ask: Ask,
) -> String {
    let mut w = Writer::new(Mode::default());
    w.start("cpu");
    w.attr("mode", "custom");
    w.attr("match", "exact");
    text(&mut w, "model", &[("fallback", fallback)], found.model.name);
    if let Some(vendor) = vendor {
        text(&mut w, "vendor", &[], vendor);
    }
    if let Some(address) = address {
        open(&mut w, "maxphysaddr", &[]);
        for (key, value) in address {
            w.attr(key, value);
        }
        w.end();
    }
    let mut rows: Vec<(&str, &str)> = features::in_order(&found.extra).map(|n| ("require", n)).collect();
    rows.extend(found.disabled().map(|n| ("disable", n)));
    if ask.expand {
        let told: Features = rows.iter().filter_map(|(_, n)| features::known(n)).collect();
        rows.extend(common.iter().filter(|n| !told.contains(**n)).map(|n| ("require", *n)));
        rows.sort_by_key(|(_, name)| *name);
    }
    for (policy, name) in rows {
        empty(&mut w, "feature", &[("policy", policy), ("name", name)]);
    }
    w.end();
    w.finish()
}

fn failed(text: &str) -> Error {
    Error::new(Code::OperationFailed, Domain::Cpu, text)
}

#[cfg(test)]
mod tests {
    use super::super::told::{Form, read};
    use super::*;

    fn of(docs: &[&str], ask: Ask) -> Result<String> {
        let told: Vec<Told> = docs
            .iter()
            .map(|body| read(&format!("<cpu><arch>x86_64</arch>{body}</cpu>"), Form::Host).unwrap())
            .collect();
        baseline(&told, None, ask)
    }

    #[test]
    fn a_baseline_is_what_all_have() {
        let xml = of(&["<model>Haswell</model>", "<model>Broadwell</model>"], Ask::default()).unwrap();
        assert_eq!(
            xml,
            "<cpu mode='custom' match='exact'>\n  <model fallback='allow'>Haswell</model>\n</cpu>\n"
        );
        let xml =
            of(&["<model>Haswell</model><feature name='invtsc'/><feature name='cmt'/>"], Ask::default());
        let xml = xml.unwrap();
        assert!(xml.contains("fallback='forbid'") && xml.contains("invtsc") && !xml.contains("cmt"), "{xml}");
        let ask = Ask { migratable: true, ..Ask::default() };
        assert!(!of(&["<model>Haswell</model><feature name='invtsc'/>"], ask).unwrap().contains("invtsc"));
    }

    #[test]
    fn expanded_features_are_sorted() {
        let xml = of(&["<model>EPYC</model>"], Ask { expand: true, ..Ask::default() }).unwrap();
        let names: Vec<&str> = xml.split("name='").skip(1).filter_map(|r| r.split('\'').next()).collect();
        assert!(names.is_sorted() && names.contains(&"sse4a"));
        assert!(xml.contains("<feature policy='disable' name='monitor'/>"), "{xml}");
    }

    #[test]
    fn vendors_must_agree_when_they_are_said() {
        let intel = "<model>Haswell</model><vendor>Intel</vendor>";
        assert!(
            of(&[intel, "<model>EPYC</model>"], Ask::default())
                .unwrap_err()
                .message()
                .ends_with("do not match")
        );
        assert!(of(&[intel, intel], Ask::default()).unwrap().contains("<vendor>Intel</vendor>"));
        assert!(!of(&[intel, "<model>Haswell</model>"], Ask::default()).unwrap().contains("<vendor>"));
        let foo = of(&["<model>486</model><vendor>Foo</vendor>"], Ask::default()).unwrap_err();
        assert_eq!((foo.code() as i32, foo.message().contains("Unknown CPU vendor Foo")), (9, true));
    }
}
