//! A program's procedure and event tables, and their marker types.

use super::ProgramSpec;
use super::facts::{Facts, ProcFacts, ProgramFacts};
use super::names::{camel, snake};
use super::types::named;
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::fmt::Write;

/// Calls whose stream runs both ways although the interface file names one way: console and channel.
const BOTH_WAYS: &[&str] = &["REMOTE_PROC_DOMAIN_OPEN_CONSOLE", "REMOTE_PROC_DOMAIN_OPEN_CHANNEL"];

/// The table of procedures, the program's row and the events' rows.
pub fn tables(
    out: &mut String,
    facts: &Facts,
    spec: &ProgramSpec,
    program: &ProgramFacts,
) -> anyhow::Result<()> {
    writeln!(out, "\n/// The program's number on the wire and its table.")?;
    writeln!(out, "pub static PROGRAM: Program = Program {{")?;
    writeln!(out, "name: {:?}, number: {:#x}, version: {},", spec.name, program.program, program.version)?;
    writeln!(out, "procs: PROCS }};\n\n#[rustfmt::skip]\nstatic PROCS: &[ProcInfo] = &[")?;
    for (i, p) in program.procedures.iter().enumerate() {
        ensure!(
            p.number as usize == i + 1,
            "numbers are not in order at {}: the table's lookup needs that",
            p.name
        );
        writeln!(out, "    {},", row(facts, p).with_context(|| p.name.clone())?)?;
    }
    writeln!(out, "];")?;
    let preauth = program.preauth()?;
    if !preauth.is_empty() {
        writeln!(out, "\n/// Procedures that are served before authentication.")?;
        writeln!(out, "pub const PREAUTH: &[i32] = &{preauth:?};")?;
    }
    for (object, rows) in program.events()? {
        writeln!(out, "\n/// Events of this kind of object, by event number.")?;
        writeln!(out, "pub static EVENTS_{}: &[EventRow] = &[", object.to_uppercase())?;
        for (i, (id, name, legacy, callback)) in rows.iter().enumerate() {
            ensure!(*id as usize == i, "event numbers of {object} have a gap");
            writeln!(
                out,
                "EventRow {{ id: {id}, name: {name:?}, legacy: {legacy:?}, callback: {callback} }},"
            )?;
        }
        writeln!(out, "];")?;
    }
    Ok(())
}

fn row(facts: &Facts, p: &ProcFacts) -> anyhow::Result<String> {
    let kind = match p.kind.as_str() {
        "call" => "Call",
        "event-message" => "Event",
        "message" => "Message",
        other => bail!("kind {other}"),
    };
    let readonly = match &p.readonly_ok {
        Value::Bool(false) => "Refused".to_owned(),
        // Programs without the rule (admin, lock, log) have no read-only connections; messages are no calls.
        Value::Bool(true) | Value::Null => "Allowed".to_owned(),
        Value::String(rule) => match rule.split_once(':') {
            Some(("flags", flags)) => format!("RefusedWithFlags({})", facts.mask(flags)?),
            Some(("arg", test)) => {
                let (name, value) = test.split_once('=').context("arg rule")?;
                format!("RefusedWithArg({name:?}, {})", facts.value(value)?)
            }
            _ => bail!("read-only rule {rule}"),
        },
        other => bail!("read-only rule {other}"),
    };
    let priority = if p.priority.as_deref() == Some("high") { "High" } else { "Low" };
    let stream = match (p.read_stream, p.write_stream) {
        _ if BOTH_WAYS.contains(&p.name.as_str()) => "Both",
        (Some(_), Some(_)) => "Both",
        (Some(_), None) => "Read",
        (None, Some(_)) => "Write",
        (None, None) => "None",
    };
    let sparse = p.sparse_flag.as_deref().map_or(Ok(0), |f| facts.mask(f))?;
    Ok(format!(
        "ProcInfo {{ number: {}, name: {:?}, kind: Kind::{kind}, api: {:?}, readonly: ReadOnly::{readonly}, \
         priority: Priority::{priority}, stream: Stream::{stream}, sparse_flag: {sparse}, acl: {}, acl_filter: {} }}",
        p.number,
        p.name,
        p.api,
        acl(facts, &p.acl)?,
        acl(facts, &p.aclfilter)?
    ))
}

/// `object:permission[:FLAGS | ::param:value]`; `!F|G` is F unset or G set.
fn acl(facts: &Facts, rules: &[String]) -> anyhow::Result<String> {
    let mut out = String::from("&[");
    for rule in rules {
        let parts: Vec<&str> = rule.split(':').collect();
        let (object, permission, when) = match parts[..] {
            [o, p] => (o, p, "Always".to_owned()),
            [o, p, flags] => match flags.strip_prefix('!') {
                Some(flags) => {
                    let (unset, set) = flags.split_once('|').unwrap_or((flags, ""));
                    let set = if set.is_empty() { 0 } else { facts.mask(set)? };
                    (o, p, format!("FlagsUnset {{ unset: {}, set: {set} }}", facts.mask(unset)?))
                }
                None => (o, p, format!("Flags({})", facts.mask(flags)?)),
            },
            [o, p, "", param, value] => (o, p, format!("Arg({param:?}, {})", facts.value(value)?)),
            _ => bail!("access rule {rule}"),
        };
        write!(out, "Acl {{ object: {object:?}, permission: {permission:?}, when: AclWhen::{when} }},")?;
    }
    out.push(']');
    Ok(out)
}

/// One marker type per call and event.
pub fn markers(
    out: &mut String,
    facts: &Facts,
    spec: &ProgramSpec,
    program: &ProgramFacts,
) -> anyhow::Result<()> {
    let prefix = format!("{}PROC_", spec.consts);
    let marker = |p: &ProcFacts| -> anyhow::Result<String> {
        Ok(camel(p.name.strip_prefix(&prefix).with_context(|| p.name.clone())?))
    };
    let ty = |name: &Option<String>| match name {
        Some(name) => named(spec, name),
        None => Ok("()".to_owned()),
    };
    if program.procedures.iter().any(|p| p.kind == "call") {
        writeln!(out, "\n/// One type per call.\npub mod procs {{\nuse super::*;\n")?;
        writeln!(out, "crate::program::procedures! {{")?;
        for p in program.procedures.iter().filter(|p| p.kind == "call") {
            write!(out, "{} = {} ({}) -> {}", marker(p)?, p.number, ty(&p.args_struct)?, ty(&p.ret_struct)?)?;
            if let Some((field, test)) = refusal(facts, program, p)? {
                write!(out, ", unless {field} {test}")?;
            }
            writeln!(out, ";")?;
        }
        writeln!(out, "}}\n}}")?;
    }
    for p in program.procedures.iter().filter(|p| p.kind == "message") {
        writeln!(out, "pub const {}: i32 = {};", p.name.trim_start_matches(spec.consts), p.number)?;
    }
    if program.procedures.iter().any(|p| p.kind == "event-message") {
        writeln!(
            out,
            "\n/// One type per event.\npub mod events {{\nuse super::*;\n\ncrate::program::events! {{"
        )?;
        for p in program.procedures.iter().filter(|p| p.kind == "event-message") {
            writeln!(out, "{} = {} ({});", marker(p)?, p.number, ty(&p.msg_struct)?)?;
        }
        writeln!(out, "}}\n}}")?;
    }
    Ok(())
}

/// The field and the test by which a read-only connection is refused, where the rule looks at arguments.
fn refusal(facts: &Facts, program: &ProgramFacts, p: &ProcFacts) -> anyhow::Result<Option<(String, String)>> {
    let Value::String(rule) = &p.readonly_ok else { return Ok(None) };
    let (field, test) = match rule.split_once(':') {
        Some(("flags", flags)) => ("flags".to_owned(), format!("& {}", facts.mask(flags)?)),
        Some(("arg", test)) => {
            let (name, value) = test.split_once('=').context("arg rule")?;
            (snake(name), format!("== {}", facts.value(value)?))
        }
        _ => bail!("read-only rule {rule}"),
    };
    let members =
        program.members(p.args_struct.as_deref().context("a rule on arguments, but no arguments")?)?;
    ensure!(members.iter().any(|m| snake(&m.name) == field), "{} has no argument {field}", p.name);
    Ok(Some((field, test)))
}
