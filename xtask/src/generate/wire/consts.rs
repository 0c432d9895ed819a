//! The constants crate's tables: libvirt's public enums, flags, parameter names and sizes.

use super::HEAD;
use super::facts::Facts;
use super::names::snake;
use anyhow::Context;
use std::fmt::Write;

/// Enums of bits whose names do not say so.
const BITS: &[&str] = &["virDomainModificationImpact", "virDomainStatsTypes", "virDomainGuestInfoTypes"];
/// Enums that the error crate has.
const ELSEWHERE: &[&str] = &["virErrorNumber", "virErrorDomain"];

/// Text of common/consts/src/tables.rs.
pub fn text(facts: &Facts) -> anyhow::Result<String> {
    let mut out = format!("{HEAD}#![allow(missing_docs)]\n");
    for (name, of) in &facts.enums.enums {
        if ELSEWHERE.contains(&name.as_str()) {
            continue;
        }
        let bits = name.contains("Flag") || BITS.contains(&name.as_str());
        let ty = if bits { "u32" } else { "i32" };
        writeln!(out, "\n// {name}")?;
        let mut all: i64 = 0;
        for (member, value) in of["m"].as_object().context("members")? {
            if member.ends_with("_LAST") {
                continue;
            }
            let value = value.as_i64().context("value")?;
            all |= value;
            writeln!(out, "pub const {member}: {ty} = {value};")?;
        }
        if bits {
            let short = snake(name.trim_start_matches("vir")).to_uppercase();
            writeln!(out, "/// All bits of `{name}`.\npub const ALL_{short}: u32 = {all:#x};")?;
        }
    }
    writeln!(out, "\n// Sizes and other numbers")?;
    for (name, value) in &facts.enums.numbers {
        writeln!(out, "pub const {name}: u64 = {value};")?;
    }
    writeln!(out, "\n// Names of typed parameters and other strings")?;
    for (name, row) in &facts.enums.strings {
        let text = row[0].as_str().or(row.as_str()).with_context(|| name.clone())?;
        if let Some(ty) = row[1].as_str() {
            writeln!(out, "/// Typed parameter: {}.", ty.to_lowercase())?;
        }
        writeln!(out, "pub const {name}: &str = {text:?};")?;
    }
    Ok(out)
}
