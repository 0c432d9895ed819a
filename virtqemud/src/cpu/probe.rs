//! What an emulator offers to guests' CPUs, asked from itself and kept in a file beside its other facts.
//!
//! `query-cpu-definitions` names its models and what the accelerator cannot give to them, and one
//! `query-cpu-model-expansion` tells what the best CPU has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use virt_error::Result;

use super::decode::Candidate;
use super::features::{self, Features};
use super::table;
use crate::emulator::{Emulator, Identity, Session};

/// What runs the guest's CPU instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Accelerator {
    /// QEMU's own translator.
    Tcg,
    /// The kernel's virtual machine device.
    Kvm,
}

impl Accelerator {
    /// QEMU's name.
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// One CPU model that an emulator offers and documents may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedModel {
    /// Name in documents.
    pub name: String,
    /// The versioned model it stands for.
    pub alias_of: Option<String>,
    /// QEMU warns about it.
    pub deprecated: bool,
    /// Features the accelerator cannot give it, sorted; `None` when QEMU does not tell.
    pub blockers: Option<Vec<String>>,
    /// libvirt's vendor name; `None` for models of no vendor.
    pub vendor: Option<&'static str>,
    /// The same in the emulator's own order, by libvirt's names.
    pub unavailable: Vec<String>,
    /// The blockers among x86 features.
    lacks: Features,
}

/// The most capable CPU of an emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Best {
    /// Its features.
    pub features: Features,
    /// libvirt's vendor name.
    pub vendor: Option<&'static str>,
}

/// What one emulator offers with one accelerator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// All models, sorted by name.
    pub models: Vec<OfferedModel>,
    /// Whether the most capable CPU can be asked for.
    pub maximum: bool,
    /// The most capable x86 CPU: `max`, or `host` with hardware help.
    pub best: Option<Best>,
    /// Display types it was built with: "sdl", "dbus" ...
    pub displays: Vec<String>,
}

impl Offer {
    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<&OfferedModel> {
        self.models.iter().find(|m| m.name == name)
    }

    /// The x86 models it can start guests with, in the table's order.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        table::all()
            .iter()
            .filter_map(|model| self.get(model.name).map(|o| Candidate { model, blockers: Some(&o.lacks) }))
    }
}

/// libvirt's name for a CPUID vendor string.
pub fn vendor_name(id: &str) -> Option<&'static str> {
    match id {
        "GenuineIntel" => Some("Intel"),
        "AuthenticAMD" => Some("AMD"),
        "HygonGenuine" => Some("Hygon"),
        _ => None,
    }
}

/// Offers of all emulators asked so far.
pub struct OfferStore {
    cache: Option<PathBuf>,
    known: Mutex<HashMap<Key, Slot>>,
}

type Key = (PathBuf, Accelerator);
type Slot = Arc<Mutex<Option<(Identity, Arc<Offer>)>>>;

impl OfferStore {
    /// Answers are cached in files under `cache`; `None` keeps them in memory only.
    pub fn new(cache: Option<PathBuf>) -> Self {
        Self { cache, known: Mutex::default() }
    }

    /// The offer of an emulator. Blocking: the first call for a binary starts it.
    ///
    /// # Errors
    /// As [`Session::start`], when the binary cannot be run.
    pub fn get(&self, emulator: &Emulator, accelerator: Accelerator) -> Result<Arc<Offer>> {
        let slot = self.known.lock().entry((emulator.path.clone(), accelerator)).or_default().clone();
        let mut slot = slot.lock();
        if let Some((_, known)) = slot.as_ref().filter(|(i, _)| *i == emulator.identity) {
            return Ok(known.clone());
        }
        let file = self.cache.as_deref().map(|folder| file_for(folder, emulator, accelerator));
        let answers = match file.as_deref().and_then(|f| load(f, emulator)) {
            Some(answers) => answers,
            None => {
                let mut qmp = Session::start(&emulator.path, accelerator.qemu_name())?;
                let answers = ask(&mut |command, arguments| qmp.execute(command, arguments), accelerator);
                qmp.finish();
                if let Some(Err(error)) = file.as_deref().map(|f| store(f, emulator, &answers)) {
                    tracing::warn!(%error, "cannot cache the emulator's CPU models");
                }
                answers
            }
        };
        let offer = Arc::new(read(&answers, &emulator.arch, accelerator));
        *slot = Some((emulator.identity.clone(), offer.clone()));
        Ok(offer)
    }
}

/// What was answered, as it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answers {
    definitions: Value,
    /// Properties of the best CPU that are switched on, and its vendor.
    best: Option<StoredBest>,
    displays: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredBest {
    on: Vec<String>,
    vendor: Option<String>,
}

/// Asks through `execute`, which runs one QMP command. An emulator without models has no such commands.
fn ask(execute: &mut dyn FnMut(&str, Value) -> Result<Value>, accelerator: Accelerator) -> Answers {
    let definitions = execute("query-cpu-definitions", Value::Null).unwrap_or(Value::Null);
    let name = if accelerator == Accelerator::Kvm { "host" } else { "max" };
    let model = match accelerator {
        // What cannot migrate is part of what the host offers.
        Accelerator::Kvm => json!({"name": name, "props": {"migratable": false}}),
        Accelerator::Tcg => json!({"name": name}),
    };
    let best = names(&definitions).any(|n| n == name).then(|| {
        execute("query-cpu-model-expansion", json!({"type": "full", "model": model})).ok().map(|answer| {
            let props = &answer["model"]["props"];
            let on = props.as_object().into_iter().flatten().filter(|(_, v)| **v == Value::Bool(true));
            StoredBest {
                on: on.map(|(k, _)| k.clone()).collect(),
                vendor: props["vendor"].as_str().map(str::to_string),
            }
        })
    });
    let schema = execute("query-qmp-schema", Value::Null).unwrap_or(Value::Null);
    Answers { definitions, best: best.flatten(), displays: display_types(&schema) }
}

fn names(definitions: &Value) -> impl Iterator<Item = &str> {
    definitions.as_array().into_iter().flatten().filter_map(|d| d["name"].as_str())
}

/// The variants of what `query-display-options` returns.
fn display_types(schema: &Value) -> Vec<String> {
    let entry = |name: &Value| schema.as_array().into_iter().flatten().find(|e| e["name"] == *name);
    let Some(command) = entry(&json!("query-display-options")) else { return Vec::new() };
    let Some(object) = entry(&command["ret-type"]) else { return Vec::new() };
    let cases = object["variants"].as_array().into_iter().flatten();
    cases.filter_map(|v| v["case"].as_str().map(str::to_string)).collect()
}

/// What the answers mean for an architecture.
fn read(answers: &Answers, arch: &str, accelerator: Accelerator) -> Offer {
    let maximum = names(&answers.definitions).any(|n| n == "max");
    let definitions = answers.definitions.as_array().into_iter().flatten();
    let mut models: Vec<OfferedModel> = definitions.filter_map(|d| model(d, arch)).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    let x86 = matches!(arch, "x86_64" | "i686");
    let best = answers.best.as_ref().filter(|_| x86).map(|b| Best {
        features: b
            .on
            .iter()
            .filter_map(|n| features::known(n))
            .filter(|n| has(n, arch, accelerator))
            .collect(),
        vendor: b.vendor.as_deref().and_then(vendor_name),
    });
    Offer { models, maximum, best, displays: answers.displays.clone() }
}

/// With hardware help a 32-bit emulator is taken to offer what CPUID tells, nothing of model specific registers.
fn has(feature: &str, arch: &str, accelerator: Accelerator) -> bool {
    !(arch == "i686" && accelerator == Accelerator::Kvm && features::is_of_register(feature))
}

/// A model that documents for the architecture may name.
fn model(definition: &Value, arch: &str) -> Option<OfferedModel> {
    let name = definition["name"].as_str()?;
    let (name, vendor) = match arch {
        "x86_64" | "i686" => {
            let known = table::get(name)?;
            (name.to_string(), known.vendor)
        }
        "ppc64" | "ppc64le" => {
            let power = ["power7", "power8", "power9", "power10"].contains(&name);
            (power.then(|| name.to_ascii_uppercase())?, Some("IBM"))
        }
        // Two are ideas of QEMU, not machines that were sold.
        "s390x" => {
            ((name != "host").then(|| name.to_string())?, (!matches!(name, "qemu" | "max")).then_some("IBM"))
        }
        "armv6l" | "armv7l" | "aarch64" | "riscv64" | "loongarch64" => {
            ((name != "host").then(|| name.to_string())?, None)
        }
        _ => return None,
    };
    let x86 = matches!(arch, "x86_64" | "i686");
    let shown = |f: &str| {
        let own = features::known(f).filter(|_| x86);
        own.map_or_else(|| f.to_string(), str::to_string)
    };
    let list = definition["unavailable-features"].as_array();
    let mut blockers: Option<Vec<String>> =
        list.map(|l| l.iter().filter_map(Value::as_str).map(shown).collect());
    let unavailable = blockers.clone().unwrap_or_default();
    if let Some(list) = &mut blockers {
        list.sort();
        list.dedup();
    }
    let lacks = blockers.iter().flatten().filter_map(|f| features::known(f)).collect();
    Some(OfferedModel {
        name,
        alias_of: definition["alias-of"].as_str().filter(|_| x86).map(str::to_string),
        deprecated: definition["deprecated"].as_bool().unwrap_or(false),
        blockers,
        vendor,
        unavailable,
        lacks,
    })
}

/// Bumped when the file's content changes its meaning.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    identity: Identity,
    answers: Answers,
}

fn file_for(folder: &Path, emulator: &Emulator, accelerator: Accelerator) -> PathBuf {
    let shown = emulator.path.display().to_string();
    let name: String = shown.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    folder.join(format!("{}.{}.cpus.json", name.trim_start_matches('_'), accelerator.qemu_name()))
}

fn load(file: &Path, emulator: &Emulator) -> Option<Answers> {
    let stored: Stored = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (stored.format == FORMAT && stored.identity == emulator.identity).then_some(stored.answers)
}

fn store(file: &Path, emulator: &Emulator, answers: &Answers) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Row<'a> {
        format: u32,
        identity: &'a Identity,
        answers: &'a Answers,
    }
    let bytes = serde_json::to_vec(&Row { format: FORMAT, identity: &emulator.identity, answers })?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(command: &str, arguments: Value) -> Result<Value> {
        Ok(match (command, arguments["model"]["name"].as_str()) {
            ("query-cpu-definitions", _) => json!([
                {"name": "max"}, {"name": "host"}, {"name": "base"}, {"name": "ClearwaterForest"},
                {"name": "qemu64-v1", "unavailable-features": []},
                {"name": "EPYC", "alias-of": "EPYC-v1", "unavailable-features": ["lahf-lm", "aes"]},
            ]),
            ("query-qmp-schema", _) => json!([
                {"name": "query-display-options", "meta-type": "command", "ret-type": "7"},
                {"name": "7", "meta-type": "object", "variants": [{"case": "sdl", "type": "1"}]}]),
            _ => json!({"model": {"props": {"aes": true, "hypervisor": true, "vendor": "AuthenticAMD",
                "rdctl-no": true, "avx": false, "check": true}}}),
        })
    }

    #[test]
    fn models_are_those_both_know() {
        let answers = ask(&mut answer, Accelerator::Tcg);
        let offer = read(&answers, "x86_64", Accelerator::Tcg);
        let names: Vec<&str> = offer.models.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["EPYC", "qemu64-v1"]);
        let epyc = offer.get("EPYC").unwrap();
        assert_eq!(epyc.blockers.as_deref().unwrap(), ["aes", "lahf_lm"]);
        assert_eq!((epyc.vendor, epyc.alias_of.as_deref()), (Some("AMD"), Some("EPYC-v1")));
        assert_eq!(offer.get("qemu64-v1").unwrap().vendor, None);
        assert_eq!((offer.displays, offer.maximum), (vec!["sdl".to_string()], true));
        let best = offer.best.unwrap();
        assert_eq!(best.features, ["aes", "hypervisor", "rdctl-no"].into_iter().collect());
        assert_eq!(best.vendor, Some("AMD"));
    }

    #[test]
    fn other_architectures_have_their_own_lists() {
        let answers = Answers {
            definitions: json!([{"name": "power9"}, {"name": "405"}, {"name": "max"}, {"name": "host"}]),
            ..Answers::default()
        };
        let names = |arch| {
            let offer = read(&answers, arch, Accelerator::Tcg);
            offer.models.into_iter().map(|m| m.name).collect::<Vec<_>>()
        };
        assert_eq!(names("ppc64"), ["POWER9"]);
        assert_eq!(names("aarch64"), ["405", "max", "power9"]);
        assert!(names("ppc").is_empty() && names("riscv32").is_empty());
    }

    #[test]
    fn registers_are_not_asked_of_a_32_bit_emulator() {
        let answers = ask(&mut answer, Accelerator::Kvm);
        let best = |arch| read(&answers, arch, Accelerator::Kvm).best.unwrap().features;
        assert!(best("x86_64").contains("rdctl-no") && !best("i686").contains("rdctl-no"));
    }

    #[test]
    fn an_emulator_without_models_is_no_error() {
        let refuse = |_: &str, _: Value| {
            Err(virt_error::Error::internal(virt_error::Domain::Qemu, "The command has not been found"))
        };
        let offer = read(&ask(&mut { refuse }, Accelerator::Tcg), "sh4", Accelerator::Tcg);
        assert_eq!(offer, Offer::default());
    }
}
