//! The facts as read from their JSON files.

use crate::repo;
use anyhow::Context;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Everything the generator reads.
pub struct Facts {
    programs: BTreeMap<String, ProgramFacts>,
    /// errors.json
    pub errors: ErrorFacts,
    /// enums.json
    pub enums: EnumFacts,
    values: BTreeMap<String, i64>,
}

/// One RPC program.
#[derive(Debug, Deserialize)]
pub struct ProgramFacts {
    pub program: u32,
    pub version: u32,
    pub constants: Map<String, Value>,
    pub typedefs: BTreeMap<String, Shape>,
    pub enums: Map<String, Value>,
    pub unions: Map<String, Value>,
    structs: Map<String, Value>,
    pub procedures: Vec<ProcFacts>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A typedef, or a struct's member.
#[derive(Debug, Clone, Deserialize)]
pub struct Shape {
    #[serde(default)]
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub kind: String,
    pub max: Option<u64>,
    pub max_name: Option<String>,
}

/// A procedure's row.
#[derive(Debug, Deserialize)]
pub struct ProcFacts {
    pub number: i32,
    pub name: String,
    pub kind: String,
    pub args_struct: Option<String>,
    pub ret_struct: Option<String>,
    pub msg_struct: Option<String>,
    #[serde(default)]
    pub readonly_ok: Value,
    pub api: Option<String>,
    pub priority: Option<String>,
    pub read_stream: Option<i32>,
    pub write_stream: Option<i32>,
    pub sparse_flag: Option<String>,
    #[serde(default)]
    pub acl: Vec<String>,
    #[serde(default)]
    pub aclfilter: Vec<String>,
}

/// errors.json
#[derive(Debug, Deserialize)]
pub struct ErrorFacts {
    /// value, name, text, text with info
    pub numbers: Vec<(i32, String, Option<String>, Option<String>)>,
    /// value, name
    pub domains: Vec<(i32, String)>,
}

/// enums.json
#[derive(Debug, Deserialize)]
pub struct EnumFacts {
    pub enums: Map<String, Value>,
    pub strings: Map<String, Value>,
    pub numbers: Map<String, Value>,
}

impl Facts {
    /// Reads them all from common/wire/facts.
    pub fn read() -> anyhow::Result<Self> {
        let mut programs = BTreeMap::new();
        for spec in super::PROGRAMS {
            programs.insert(spec.name.to_owned(), read(spec.name)?);
        }
        let enums: EnumFacts = read("enums")?;
        let mut values = BTreeMap::new();
        for of in enums.enums.values() {
            for (name, value) in of["m"].as_object().into_iter().flatten() {
                values.insert(name.clone(), value.as_i64().with_context(|| name.clone())?);
            }
        }
        Ok(Self { programs, errors: read("errors")?, enums, values })
    }

    /// A program by its short name.
    pub fn program(&self, name: &str) -> anyhow::Result<&ProgramFacts> {
        self.programs.get(name).with_context(|| format!("no program {name}"))
    }

    /// The value of a public enum's member.
    pub fn value(&self, member: &str) -> anyhow::Result<i64> {
        self.values.get(member).copied().with_context(|| format!("no enum has the member {member}"))
    }

    /// The bits of `A|B`.
    pub fn mask(&self, members: &str) -> anyhow::Result<u32> {
        members.split('|').try_fold(0, |mask, m| Ok(mask | u32::try_from(self.value(m)?)?))
    }

    /// A typedef by name, in whichever program it stands (qemu and lxc use those of remote).
    pub fn typedef(&self, name: &str) -> Option<&Shape> {
        self.programs.values().find_map(|p| p.typedefs.get(name))
    }
}

impl ProgramFacts {
    /// Structs in the order of the interface file.
    pub fn structs(&self) -> impl Iterator<Item = anyhow::Result<(&str, Vec<Shape>)>> {
        self.structs.iter().map(|(name, members)| {
            let members = Vec::<Shape>::deserialize(members).with_context(|| name.clone())?;
            Ok((name.as_str(), members))
        })
    }

    /// A struct's members.
    pub fn members(&self, name: &str) -> anyhow::Result<Vec<Shape>> {
        let members = self.structs.get(name).with_context(|| format!("no struct {name}"))?;
        Ok(Vec::<Shape>::deserialize(members)?)
    }

    /// The event rows: object, then event number, name, legacy message, callback message.
    pub fn events(&self) -> anyhow::Result<Vec<(&str, Vec<EventRow>)>> {
        let mut all = Vec::new();
        for (key, rows) in &self.rest {
            if let Some(object) = key.strip_prefix("events:") {
                all.push((object, Vec::deserialize(rows).with_context(|| key.clone())?));
            }
        }
        Ok(all)
    }

    /// Procedures served before authentication.
    pub fn preauth(&self) -> anyhow::Result<Vec<i32>> {
        self.rest.get("preauth_procs").map_or(Ok(Vec::new()), |v| Ok(Vec::deserialize(v)?))
    }
}

/// Event number, its name, legacy message, callback message.
pub type EventRow = (i32, String, Option<i32>, i32);

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> anyhow::Result<T> {
    let path = repo::root().join(format!("common/wire/facts/{name}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
