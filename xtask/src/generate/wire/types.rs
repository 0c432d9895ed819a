//! A program's constants and types.

use super::facts::{Facts, ProgramFacts, Shape};
use super::names::{camel, snake};
use super::{PROGRAMS, ProgramSpec};
use anyhow::{Context, bail};
use std::fmt::Write;

const DERIVES: &str = "#[derive(Debug, Clone, PartialEq, Xdr)]";
/// What a string may have where nothing else is said; see the wire crate.
const STRING_MAX: u64 = 4_194_304;

/// Limits, with the program's prefix stripped.
pub fn constants(out: &mut String, spec: &ProgramSpec, program: &ProgramFacts) -> anyhow::Result<()> {
    for (name, value) in &program.constants {
        let short = constant(spec, name);
        if short.contains("PROGRAM") || short == "PROTOCOL_VERSION" {
            continue;
        }
        writeln!(out, "pub const {short}: u32 = {};", value.as_u64().context("not a number")?)?;
    }
    Ok(())
}

fn constant<'a>(spec: &ProgramSpec, name: &'a str) -> &'a str {
    name.strip_prefix(spec.consts).unwrap_or(name)
}

/// Enums are newtypes over the wire's int: an unknown value is carried, not refused.
pub fn enums(out: &mut String, spec: &ProgramSpec, program: &ProgramFacts) -> anyhow::Result<()> {
    for (name, members) in &program.enums {
        let rust = local(spec, name);
        writeln!(
            out,
            "\n#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Xdr)]\npub struct {rust}(pub i32);\n"
        )?;
        writeln!(out, "impl {rust} {{")?;
        for (member, value) in members.as_object().context("members")? {
            writeln!(out, "pub const {}: Self = Self({value});", constant(spec, member))?;
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

/// Unions are enums; a case that the table lacks is an error.
pub fn unions(out: &mut String, spec: &ProgramSpec, program: &ProgramFacts) -> anyhow::Result<()> {
    for (name, union) in &program.unions {
        writeln!(out, "\n{DERIVES}\npub enum {} {{", local(spec, name))?;
        for case in union["cases"].as_array().context("cases")? {
            let label = case["case"].as_str().context("case")?.trim_start_matches("VIR_TYPED_PARAM_");
            let ty = case["type"].as_str().context("type")?;
            let ty = if case["kind"] == "string" { "String" } else { scalar(ty).context("a scalar")? };
            writeln!(out, "#[xdr(case = {})] {}({ty}),", case["value"], camel(label))?;
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

/// Structs, one field per member.
pub fn structs(
    out: &mut String,
    facts: &Facts,
    spec: &ProgramSpec,
    program: &ProgramFacts,
) -> anyhow::Result<()> {
    for entry in program.structs() {
        let (name, members) = entry?;
        writeln!(out, "\n{DERIVES}\npub struct {} {{", local(spec, name))?;
        for member in &members {
            let field = field(facts, spec, member).with_context(|| format!("{name}.{}", member.name))?;
            if let Some(max) = field.max {
                writeln!(out, "#[xdr(max = {max})]")?;
            }
            writeln!(out, "pub {}: {},", snake(&member.name), field.ty)?;
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

/// The table of all types for tests.
pub fn registry(out: &mut String, spec: &ProgramSpec, program: &ProgramFacts) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n/// Every type of the program, for tests.\n#[cfg(feature = \"arbitrary\")]\n#[rustfmt::skip]"
    )?;
    writeln!(out, "pub static TYPES: &[crate::xdr::sample::TypeOps] = &[")?;
    let structs = program.structs().collect::<anyhow::Result<Vec<_>>>()?;
    let names = structs.iter().map(|s| s.0);
    for name in program.enums.keys().chain(program.unions.keys()).map(String::as_str).chain(names) {
        let rust = local(spec, name);
        writeln!(out, "    crate::xdr::sample::type_ops::<{rust}>({rust:?}),")?;
    }
    writeln!(out, "];")?;
    writeln!(out, "\n/// The number of every call, with the type of its arguments, for tests.")?;
    writeln!(
        out,
        "#[cfg(feature = \"arbitrary\")]\n#[rustfmt::skip]\npub static CALLS: &[(i32, crate::xdr::sample::TypeOps)] = &["
    )?;
    for p in program.procedures.iter().filter(|p| p.kind == "call") {
        let args = p.args_struct.as_deref().map_or(Ok("()".to_owned()), |name| named(spec, name))?;
        writeln!(out, "    ({}, crate::xdr::sample::type_ops::<{args}>({args:?})),", p.number)?;
    }
    writeln!(out, "];")?;
    Ok(())
}

struct Field {
    ty: String,
    max: Option<String>,
}

fn field(facts: &Facts, spec: &ProgramSpec, member: &Shape) -> anyhow::Result<Field> {
    let plain = |ty: String| Field { ty, max: None };
    // Typedefs name a shape; follow them down to it. An optional one wraps what it names, with one flag word.
    if let Some(def) = facts.typedef(&member.ty).filter(|_| !member.kind.starts_with("array")) {
        let def = Shape { name: member.name.clone(), ..def.clone() };
        return match (member.kind.as_str(), def.kind.as_str()) {
            ("optional", "optional") => wrap_optional(facts, spec, &def),
            ("optional", _) => {
                bail!("an optional member of a typedef that is not optional: a form not met before")
            }
            (mine, theirs) if mine == theirs => field(facts, spec, &def),
            (mine, theirs) => bail!("{mine} names a typedef of kind {theirs}"),
        };
    }
    let max = || -> anyhow::Result<String> {
        let number = member.max.context("no limit")?;
        let named = member.max_name.as_deref().map(|n| constant(spec, n).to_owned());
        Ok(named.filter(|n| n != "VIR_UUID_BUFLEN").unwrap_or(number.to_string()))
    };
    Ok(match member.kind.as_str() {
        "scalar" => plain(scalar(&member.ty).with_context(|| member.ty.clone())?.to_owned()),
        "string" => Field {
            ty: "String".into(),
            max: if member.max == Some(STRING_MAX) { None } else { Some(max()?) },
        },
        "opaque-fixed" if member.max == Some(16) => plain("Uuid".into()),
        "opaque-fixed" => plain(format!("[u8; {}]", member.max.context("no size")?)),
        "opaque-var" => Field { ty: "Opaque".into(), max: Some(max()?) },
        "array-fixed" if member.ty == "char" => {
            plain(format!("CharArray<{}>", member.max.context("no size")?))
        }
        "array-var" if member.ty == "char" => Field { ty: "Chars".into(), max: Some(max()?) },
        "array-var" => Field { ty: format!("Vec<{}>", element(facts, spec, &member.ty)?), max: Some(max()?) },
        "struct" | "union" | "enum" => plain(named(spec, &member.ty)?),
        other => bail!("a member of kind {other}: a form not met before"),
    })
}

/// `Option` of what an optional typedef names.
fn wrap_optional(facts: &Facts, spec: &ProgramSpec, def: &Shape) -> anyhow::Result<Field> {
    let inner = match facts.typedef(&def.ty) {
        Some(base) => field(facts, spec, &Shape { name: def.name.clone(), ..base.clone() })?,
        None => Field { ty: named(spec, &def.ty)?, max: None },
    };
    Ok(Field { ty: format!("Option<{}>", inner.ty), max: inner.max })
}

/// The type of an array's elements: elements have no limit of their own beyond the string's usual one.
fn element(facts: &Facts, spec: &ProgramSpec, ty: &str) -> anyhow::Result<String> {
    if let Some(scalar) = scalar(ty) {
        return Ok(scalar.to_owned());
    }
    if let Some(def) = facts.typedef(ty) {
        let field = field(facts, spec, def)?;
        return if field.max.is_none() {
            Ok(field.ty)
        } else {
            bail!("an array of {ty}, which has its own limit")
        };
    }
    named(spec, ty)
}

fn scalar(ty: &str) -> Option<&'static str> {
    Some(match ty {
        "int" => "i32",
        "unsigned int" => "u32",
        "hyper" => "i64",
        "unsigned hyper" => "u64",
        "double" => "f64",
        "char" => "i8",
        "unsigned char" => "u8",
        "short" => "i16",
        "unsigned short" => "u16",
        _ => return None,
    })
}

/// A type of this program, without its prefix.
pub fn local(spec: &ProgramSpec, name: &str) -> String {
    camel(name.strip_prefix(spec.types).unwrap_or(name))
}

/// A type of this or another program, as a path.
pub fn named(spec: &ProgramSpec, name: &str) -> anyhow::Result<String> {
    if name.starts_with(spec.types) {
        return Ok(local(spec, name));
    }
    let other =
        PROGRAMS.iter().find(|p| name.starts_with(p.types)).with_context(|| format!("whose is {name}?"))?;
    Ok(format!("super::{}::{}", other.name, local(other, name)))
}
