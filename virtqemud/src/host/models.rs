//! CPU models with their features, asked from the emulator itself and kept in a file beside its other facts.
//!
//! `query-cpu-definitions` names the models and what the accelerator cannot give them;
//! `query-cpu-model-expansion` (static) tells each one's properties. Only properties that are CPU features
//! ([`features::known`]) count.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use virt_error::Result;

use super::features::{self, Features};
use crate::emulator::{Emulator, Session};

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

/// One named CPU model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Name in documents and for `-cpu`.
    pub name: String,
    /// The versioned model it stands for.
    pub alias_of: Option<String>,
    /// QEMU warns about it.
    pub deprecated: bool,
    /// Features the accelerator cannot give it, sorted; `None` when QEMU does not tell.
    pub blockers: Option<Vec<String>>,
    /// libvirt's vendor name; `None` for models of no vendor.
    pub vendor: Option<String>,
    /// CPU family.
    pub family: u32,
    /// Model number in the family.
    pub number: u32,
    /// Its features.
    pub features: Features,
}

/// What one emulator knows of CPUs with one accelerator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Models {
    /// All models, sorted by name.
    pub models: Vec<Model>,
    /// The most capable CPU: `max`, or `host` with hardware help.
    pub best: Option<Model>,
    /// Display types it was built with: "sdl", "dbus" ...
    pub displays: Vec<String>,
}

impl Models {
    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }
}

/// Models of no vendor: they describe an idea of a CPU, whatever vendor string QEMU gives them.
const VENDORLESS: &[&str] = &["486", "pentium", "pentium2", "pentium3", "kvm32", "kvm64", "qemu32", "qemu64"];

/// libvirt's name for a CPUID vendor string.
pub fn vendor_name(id: &str) -> Option<&'static str> {
    match id {
        "GenuineIntel" => Some("Intel"),
        "AuthenticAMD" => Some("AMD"),
        "HygonGenuine" => Some("Hygon"),
        "CentaurHauls" => Some("Centaur"),
        "  Shanghai  " | "Shanghai" => Some("Zhaoxin"),
        _ => None,
    }
}

/// Models of all emulators asked so far.
pub struct ModelStore {
    cache: Option<PathBuf>,
    known: Mutex<HashMap<Key, Slot>>,
}

type Key = (PathBuf, Accelerator);
type Slot = Arc<Mutex<Option<(crate::emulator::Identity, Arc<Models>)>>>;

impl ModelStore {
    /// Answers are cached in files under `cache`; `None` keeps them in memory only.
    pub fn new(cache: Option<PathBuf>) -> Self {
        Self { cache, known: Mutex::default() }
    }

    /// The models of an emulator. Blocking: the first call for a binary starts it.
    ///
    /// # Errors
    /// As [`Session::start`], when the binary cannot be run.
    pub fn get(&self, emulator: &Emulator, accelerator: Accelerator) -> Result<Arc<Models>> {
        let slot = self.known.lock().entry((emulator.path.clone(), accelerator)).or_default().clone();
        let mut slot = slot.lock();
        if let Some((_, known)) = slot.as_ref().filter(|(i, _)| *i == emulator.identity) {
            return Ok(known.clone());
        }
        let file = self.cache.as_deref().map(|folder| file_for(folder, emulator, accelerator));
        let models = match file.as_deref().and_then(|f| load(f, emulator)) {
            Some(models) => models,
            None => {
                let models = self.probe(emulator, accelerator)?;
                if let Some(Err(error)) = file.as_deref().map(|f| store(f, emulator, &models)) {
                    tracing::warn!(%error, "cannot cache the emulator's CPU models");
                }
                models
            }
        };
        let models = Arc::new(models);
        *slot = Some((emulator.identity.clone(), models.clone()));
        Ok(models)
    }

    /// Hardware help changes what a model expands to (it takes the host's vendor), so a model's own description always
    /// comes from the translator; the other accelerator only tells what it cannot give, and the best CPU.
    fn probe(&self, emulator: &Emulator, accelerator: Accelerator) -> Result<Models> {
        let run = |describe: bool| {
            let mut qmp = Session::start(&emulator.path, accelerator.qemu_name())?;
            let found = ask(&mut |command, arguments| qmp.execute(command, arguments), accelerator, describe);
            qmp.finish();
            found
        };
        match accelerator {
            Accelerator::Tcg => run(true),
            Accelerator::Kvm => {
                let described = self.get(emulator, Accelerator::Tcg)?;
                let mut found = run(false)?;
                for model in &mut found.models {
                    if let Some(full) = described.get(&model.name) {
                        *model = Model { blockers: model.blockers.take(), ..full.clone() };
                    }
                }
                found.displays.clone_from(&described.displays);
                Ok(found)
            }
        }
    }
}

/// Asks through `execute`, which runs one QMP command. Without `describe` only the best CPU is expanded.
fn ask(
    execute: &mut dyn FnMut(&str, Value) -> Result<Value>,
    accelerator: Accelerator,
    describe: bool,
) -> Result<Models> {
    let definitions = execute("query-cpu-definitions", Value::Null)?;
    let mut models = Vec::new();
    let mut best = None;
    let best_name = if accelerator == Accelerator::Kvm { "host" } else { "max" };
    for definition in definitions.as_array().into_iter().flatten() {
        let Some(name) = definition["name"].as_str() else { continue };
        let special = matches!(name, "max" | "host" | "base");
        if special && name != best_name {
            continue;
        }
        let kind = if special { "full" } else { "static" };
        // A model that cannot be expanded is still usable by name; it just has no known features.
        let expanded = if describe || special {
            let arguments = json!({"type": kind, "model": {"name": name}});
            execute("query-cpu-model-expansion", arguments).unwrap_or(Value::Null)
        } else {
            Value::Null
        };
        let model = read_model(name, definition, &expanded["model"]["props"]);
        if special { best = Some(model) } else { models.push(model) }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    let schema =
        if describe { execute("query-qmp-schema", Value::Null).unwrap_or(Value::Null) } else { Value::Null };
    Ok(Models { models, best, displays: display_types(&schema) })
}

/// The variants of what `query-display-options` returns.
fn display_types(schema: &Value) -> Vec<String> {
    let entry = |name: &Value| schema.as_array().into_iter().flatten().find(|e| e["name"] == *name);
    let Some(command) = entry(&json!("query-display-options")) else { return Vec::new() };
    let Some(object) = entry(&command["ret-type"]) else { return Vec::new() };
    let cases = object["variants"].as_array().into_iter().flatten();
    cases.filter_map(|v| v["case"].as_str().map(str::to_string)).collect()
}

fn read_model(name: &str, definition: &Value, props: &Value) -> Model {
    let mut blockers: Option<Vec<String>> = definition["unavailable-features"].as_array().map(|list| {
        let name = |f: &str| features::known(f).map_or_else(|| f.to_string(), str::to_string);
        list.iter().filter_map(Value::as_str).map(name).collect()
    });
    if let Some(list) = &mut blockers {
        list.sort();
        list.dedup();
    }
    let mut set: Features = props.as_object().into_iter().flatten().filter_map(on).collect();
    let special = matches!(name, "max" | "host");
    // An expansion leaves out what the accelerator cannot give; the model has it all the same.
    set.extend(blockers.iter().flatten().filter_map(|f| features::known(f)));
    if !special {
        // Every guest sees this bit; it says nothing about a model.
        set.remove("hypervisor");
    }
    let base = name
        .rsplit_once("-v")
        .filter(|(_, v)| v.bytes().all(|b| b.is_ascii_digit()))
        .map_or(name, |(b, _)| b);
    let vendor = props["vendor"].as_str().and_then(vendor_name).filter(|_| !VENDORLESS.contains(&base));
    let number = |key: &str| props[key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    Model {
        name: name.to_string(),
        alias_of: definition["alias-of"].as_str().map(str::to_string),
        deprecated: definition["deprecated"].as_bool().unwrap_or(false),
        blockers,
        vendor: vendor.map(str::to_string),
        family: number("family"),
        number: number("model"),
        features: set,
    }
}

fn on((name, value): (&String, &Value)) -> Option<&'static str> {
    if *value == Value::Bool(true) { features::known(name) } else { None }
}

/// Bumped when the file's content changes its meaning.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    identity: crate::emulator::Identity,
    /// Name to properties; the empty name is the best CPU.
    models: BTreeMap<String, StoredModel>,
    displays: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredModel {
    alias_of: Option<String>,
    deprecated: bool,
    blockers: Option<Vec<String>>,
    vendor: Option<String>,
    family: u32,
    number: u32,
    features: Vec<String>,
}

fn file_for(folder: &Path, emulator: &Emulator, accelerator: Accelerator) -> PathBuf {
    let shown = emulator.path.display().to_string();
    let name: String = shown.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    folder.join(format!("{}.{}.cpus.json", name.trim_start_matches('_'), accelerator.qemu_name()))
}

fn load(file: &Path, emulator: &Emulator) -> Option<Models> {
    let stored: Stored = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    if stored.format != FORMAT || stored.identity != emulator.identity {
        return None;
    }
    let mut out = Models { displays: stored.displays, ..Models::default() };
    for (name, m) in stored.models {
        let features = m.features.iter().filter_map(|f| features::known(f)).collect();
        let StoredModel { alias_of, deprecated, blockers, vendor, family, number, .. } = m;
        let best = name.is_empty();
        let model = Model { name, alias_of, deprecated, blockers, vendor, family, number, features };
        if best { out.best = Some(model) } else { out.models.push(model) }
    }
    Some(out)
}

fn store(file: &Path, emulator: &Emulator, models: &Models) -> std::io::Result<()> {
    let row = |m: &Model| StoredModel {
        alias_of: m.alias_of.clone(),
        deprecated: m.deprecated,
        blockers: m.blockers.clone(),
        vendor: m.vendor.clone(),
        family: m.family,
        number: m.number,
        features: m.features.iter().map(ToString::to_string).collect(),
    };
    let mut rows: BTreeMap<String, StoredModel> =
        models.models.iter().map(|m| (m.name.clone(), row(m))).collect();
    rows.extend(models.best.as_ref().map(|m| (String::new(), row(m))));
    let identity = emulator.identity.clone();
    let bytes = serde_json::to_vec(&Stored {
        format: FORMAT,
        identity,
        models: rows,
        displays: models.displays.clone(),
    })?;
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
                {"name": "max"}, {"name": "host"}, {"name": "base"},
                {"name": "qemu64-v1", "unavailable-features": []},
                {"name": "EPYC", "alias-of": "EPYC-v1", "unavailable-features": ["lahf-lm", "aes"]},
            ]),
            ("query-qmp-schema", _) => json!([
                {"name": "query-display-options", "meta-type": "command", "ret-type": "7"},
                {"name": "7", "meta-type": "object", "variants": [{"case": "sdl", "type": "1"}]}]),
            (_, Some("max")) => {
                json!({"model": {"props": {"aes": true, "hypervisor": true, "vendor": "AuthenticAMD", "check": true}}})
            }
            (_, Some("EPYC")) => json!({"model": {"props":
                {"aes": true, "sse4-1": true, "sse4.1": true, "avx": false, "hypervisor": true, "vendor": "AuthenticAMD", "family": 23, "model": 1}}}),
            _ => json!({"model": {"props": {"vendor": "AuthenticAMD", "fpu": true}}}),
        })
    }

    #[test]
    fn models_are_what_the_emulator_tells() {
        let models = ask(&mut answer, Accelerator::Tcg, true).unwrap();
        let epyc = models.get("EPYC").unwrap();
        assert_eq!(epyc.blockers.as_deref().unwrap(), ["aes", "lahf_lm"]);
        assert_eq!(epyc.features, ["aes", "lahf_lm", "sse4.1"].into_iter().collect());
        assert_eq!((epyc.vendor.as_deref(), epyc.family, epyc.number), (Some("AMD"), 23, 1));
        assert_eq!(models.get("qemu64-v1").unwrap().vendor, None);
        assert!(models.get("base").is_none());
        assert_eq!(models.displays, ["sdl"]);
        assert_eq!(models.best.unwrap().features, ["aes", "hypervisor"].into_iter().collect());
    }
}
