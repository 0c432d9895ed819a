//! CPU documents that are not part of a guest's: what clients hand in to have them compared.

use virt_error::{Code, Domain, Error, Result};
use virt_model::domain::os::is_architecture;
use virt_xml::{Document, El, Mode};

use super::features::{self, Features};
use super::table::{self, Known};

/// What a document asks of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Policy {
    Force,
    Require,
    Optional,
    Disable,
    Forbid,
}

/// A CPU as a document tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its architecture, if it says so.
    pub arch: Option<String>,
    /// The named model; a guest's CPU may have none.
    pub model: Option<&'static Known>,
    /// The model of a CPU that is no x86 one.
    pub foreign: Option<String>,
    /// libvirt's vendor name.
    pub vendor: Option<String>,
    /// Nothing more may be there.
    pub strict: bool,
    /// A host's CPU: it has all its features, none is only wished for.
    pub host: bool,
    /// What is asked of features, in the document's order.
    pub features: Vec<(&'static str, Policy)>,
    /// Address width, as the document has it: mode, bits, limit.
    pub address: Option<Vec<(&'static str, String)>>,
}

/// How a document is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A host's CPU only: it names architecture and model.
    Host,
    /// A host's or a guest's, by what it says.
    Either,
}

/// Reads a `<cpu>` element.
///
/// # Errors
/// Code 27 for a document that is none; code 67 for an unknown architecture; code 1 for an unknown model or feature.
pub fn read(xml: &str, form: Form) -> Result<Told> {
    let document = Document::parse(xml, Mode::default(), Domain::Cpu)?;
    let cpu = document.root();
    if cpu.name() != "cpu" {
        return Err(wrong("XML does not contain expected 'cpu' element"));
    }
    let arch = cpu.child("arch").map(|a| a.text().trim().to_string());
    let guest = form == Form::Either && (arch.is_none() || cpu.attr("match").is_some());
    if let Some(mode) = cpu.attr("mode") {
        if !guest {
            return Err(unsupported("Attribute mode is only allowed for guest CPU"));
        }
        if mode != "custom" {
            return guest_mode(mode, arch);
        }
    }
    if !guest && arch.is_none() {
        return Err(wrong("Missing CPU architecture"));
    }
    if let Some(arch) = arch.as_deref().filter(|a| !is_architecture(a)) {
        return Err(unsupported(&format!("Unknown architecture {arch}")));
    }
    let strict = strictness(cpu)?;
    signature(cpu)?;
    let name = cpu.child("model").map(|m| m.text().trim().to_string()).filter(|n| !n.is_empty());
    let vendor = cpu.child("vendor").map(|v| v.text().trim().to_string());
    let features = asked(cpu, guest)?;
    if name.is_none() {
        if !guest {
            return Err(wrong("Missing CPU model name"));
        }
        if vendor.is_some() {
            return Err(wrong("CPU vendor specified without CPU model"));
        }
        if !features.is_empty() {
            return Err(wrong("Non-empty feature list specified without CPU model"));
        }
    }
    let foreign = arch.as_deref().is_some_and(|a| !matches!(a, "x86_64" | "i686"));
    if foreign {
        let features = Vec::new();
        return Ok(Told {
            arch,
            model: None,
            foreign: name,
            vendor,
            strict,
            host: !guest,
            features,
            address: None,
        });
    }
    let model = name
        .map(|n| table::get(&n).ok_or_else(|| Error::internal(Domain::Cpu, format!("Unknown CPU model {n}"))))
        .transpose()?;
    let features = features
        .into_iter()
        .map(|(name, policy)| match features::known(&name) {
            Some(known) => Ok((known, policy)),
            None => Err(Error::internal(Domain::Cpu, format!("Unknown CPU feature {name}"))),
        })
        .collect::<Result<_>>()?;
    let address = cpu.child("maxphysaddr").map(|a| {
        ["mode", "bits", "limit"].into_iter().filter_map(|k| Some((k, a.attr(k)?.to_string()))).collect()
    });
    Ok(Told { arch, model, foreign: None, vendor, strict, host: !guest, features, address })
}

/// A guest that takes the host's CPU names nothing.
fn guest_mode(mode: &str, arch: Option<String>) -> Result<Told> {
    if !["host-model", "host-passthrough", "maximum"].contains(&mode) {
        return Err(unsupported(&format!("Invalid mode attribute '{mode}'")));
    }
    Ok(Told {
        arch,
        model: None,
        foreign: None,
        vendor: None,
        strict: false,
        host: false,
        features: Vec::new(),
        address: None,
    })
}

fn strictness(cpu: El<'_>) -> Result<bool> {
    match cpu.attr("match") {
        None | Some("minimum" | "exact") => Ok(false),
        Some("strict") => Ok(true),
        Some(other) => {
            let text = format!("Invalid value for attribute 'match' in element 'cpu': '{other}'.");
            Err(Error::new(Code::XmlError, Domain::Xml, text))
        }
    }
}

/// The numbers are not looked at, but they must be whole.
fn signature(cpu: El<'_>) -> Result<()> {
    let Some(signature) = cpu.child("signature") else { return Ok(()) };
    for key in ["family", "model", "stepping"] {
        if signature.attr(key).is_none() {
            let text = format!("Missing required attribute '{key}' in element 'signature'");
            return Err(Error::new(Code::XmlError, Domain::Xml, text));
        }
    }
    Ok(())
}

/// Features of a host are there, whatever else is said of them.
fn asked(cpu: El<'_>, guest: bool) -> Result<Vec<(String, Policy)>> {
    let mut out: Vec<(String, Policy)> = Vec::new();
    for feature in cpu.children().filter(|c| c.name() == "feature") {
        let policy = match feature.attr("policy").filter(|_| guest) {
            None | Some("require") => Policy::Require,
            Some("force") => Policy::Force,
            Some("optional") => Policy::Optional,
            Some("disable") => Policy::Disable,
            Some("forbid") => Policy::Forbid,
            Some(_) => return Err(unsupported("Invalid CPU feature policy")),
        };
        let name = feature.attr("name").ok_or_else(|| wrong("Invalid CPU feature name"))?;
        if out.iter().any(|(n, _)| n == name) {
            return Err(wrong(&format!("CPU feature '{name}' specified more than once")));
        }
        out.push((name.to_string(), policy));
    }
    Ok(out)
}

impl Told {
    /// Features the CPU has: the model's and those asked for, without those taken away.
    pub fn has(&self) -> Features {
        let mut set = self.model.map(|m| m.features.clone()).unwrap_or_default();
        for (name, policy) in &self.features {
            match policy {
                Policy::Force | Policy::Require => _ = set.insert(name),
                Policy::Disable | Policy::Forbid => _ = set.remove(name),
                Policy::Optional => {}
            }
        }
        set
    }
}

fn wrong(text: &str) -> Error {
    Error::new(Code::XmlError, Domain::Cpu, text)
}

fn unsupported(text: &str) -> Error {
    Error::new(Code::ConfigUnsupported, Domain::Cpu, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(xml: &str, form: Form) -> String {
        let error = read(xml, form).unwrap_err();
        format!("{}: {}", error.code() as i32, error.message())
    }

    #[test]
    fn wrong_documents_say_what_is_wrong() {
        let host = |xml: &str| fails(xml, Form::Host);
        assert!(host("<cpu mode='host-model'/>").starts_with("67:"));
        assert!(host("<cpu><model>Haswell</model></cpu>").ends_with("Missing CPU architecture"));
        assert!(host("<cpu><arch>x86_64</arch></cpu>").ends_with("Missing CPU model name"));
        assert!(host("<cpu><arch>foo</arch><model>x</model></cpu>").ends_with("Unknown architecture foo"));
        assert!(host("<cpu><arch>x86_64</arch><model>zz</model></cpu>").ends_with("Unknown CPU model zz"));
        assert!(host("<network/>").starts_with("27:"));
        let either = |xml: &str| fails(xml, Form::Either);
        assert!(either("<cpu match='x'><model>486</model></cpu>").contains("'match' in element 'cpu': 'x'"));
        assert!(either("<cpu match='exact'><vendor>Intel</vendor></cpu>").contains("without CPU model"));
        let twice = "<cpu><model>486</model><feature name='sse'/><feature name='sse'/></cpu>";
        assert!(either(twice).ends_with("CPU feature 'sse' specified more than once"));
    }

    #[test]
    fn only_a_guests_features_have_policies() {
        let body = "<model>486</model><feature name='vme' policy='disable'/><feature name='xop'/>";
        let guest = read(&format!("<cpu match='exact'>{body}</cpu>"), Form::Either).unwrap();
        assert!(!guest.has().contains("vme") && guest.has().contains("xop"));
        let host = read(&format!("<cpu><arch>x86_64</arch>{body}</cpu>"), Form::Either).unwrap();
        assert!(host.has().contains("vme"));
    }

    #[test]
    fn a_guest_may_name_nothing() {
        for xml in ["<cpu/>", "<cpu mode='host-passthrough'/>", "<cpu><topology sockets='1'/></cpu>"] {
            assert_eq!(read(xml, Form::Either).unwrap().model, None);
        }
    }
}
