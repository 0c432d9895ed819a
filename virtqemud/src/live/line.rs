//! What a change of the document means for QEMU: the difference of two command lines.
//!
//! A device is described once, by the code that builds command lines. Its JSON arguments are, word for word, those of the
//! monitor's `blockdev-add`, `object-add`, `netdev_add` and `device_add`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::Disk;
use virt_object::blocking;

use super::ask;
use crate::command::NetFds;
use crate::document::nodes;
use crate::guest::Work;
use crate::guest::plan::Place;
use crate::net;
use crate::process::{chain, images};
use crate::sealing::Sealing;

/// One argument that only one of the lines has.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// "-device", "-blockdev" ...
    pub flag: String,
    /// Its JSON object; `Null` for arguments of another form.
    pub value: Value,
}

/// What must be added and what is no longer there.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// Only in the new line, in order.
    pub added: Vec<Part>,
    /// Only in the old line, in order.
    pub removed: Vec<Part>,
}

/// Compares the command lines of a run's document and of a changed one. `fresh` are the descriptors of a new card.
///
/// # Errors
/// What the new document's line refuses.
pub async fn difference(
    work: &mut Work,
    new: &Domain,
    fresh: Option<(String, NetFds)>,
) -> Result<Difference> {
    let (planner, vnc_listen) = (work.driver.planner.clone(), work.driver.settings.vnc_listen.clone());
    let run = work.run()?;
    let (id, paths) = (run.id, run.held.paths.clone());
    let (live, key) = (run.live.clone(), paths.master_key.clone());
    let sealing = Box::pin(Sealing::resume(&work.driver.secrets, &key, &live, new)).await?;
    let run = work.run()?;
    let cards = net::named(&run.live);
    let mut place = Place {
        id,
        restored: false,
        paths,
        monitor: 0,
        sockets: HashMap::new(),
        owner: None,
        vnc_listen,
        cards,
        sealing: sealing.map(Arc::new),
    };
    let (old, new) = (run.live.clone(), new.clone());
    blocking::run(move || {
        let old = planner.command(&old, &place)?.argv;
        place.cards.extend(fresh);
        let new = planner.command(&new, &place)?.argv;
        Ok(compare(&parts(&old), &parts(&new)))
    })
    .await
}

fn parts(argv: &[String]) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for arg in argv.iter().skip(1) {
        match out.last_mut() {
            Some((_, value)) if value.is_empty() && !arg.starts_with('-') => value.clone_from(arg),
            _ => out.push((arg.clone(), String::new())),
        }
    }
    out
}

fn compare(old: &[(String, String)], new: &[(String, String)]) -> Difference {
    let only = |these: &[(String, String)], those: &[(String, String)]| {
        let part = |(flag, value): &(String, String)| Part {
            flag: flag.clone(),
            value: serde_json::from_str(value).unwrap_or(Value::Null),
        };
        these.iter().filter(|p| !those.contains(p)).map(part).collect()
    };
    Difference { added: only(new, old), removed: only(old, new) }
}

/// Adds parts one after another; when one is refused, those before are taken out again.
///
/// # Errors
/// Code 1 with QEMU's text; code 3 for a part that a running guest cannot get.
pub async fn add(work: &Work, parts: &[Part]) -> Result<()> {
    for (at, part) in parts.iter().enumerate() {
        let done = match (part.flag.as_str(), &part.value) {
            ("-blockdev", value @ Value::Object(_)) => ask(work, "blockdev-add", value.clone()).await,
            ("-object", value @ Value::Object(_)) => ask(work, "object-add", value.clone()).await,
            ("-netdev", value @ Value::Object(_)) => ask(work, "netdev_add", value.clone()).await,
            ("-device", value @ Value::Object(_)) => ask(work, "device_add", value.clone()).await,
            _ => {
                Err(Error::no_support(From::Qemu, "virDomainAttachDeviceFlags").with("argument", &part.flag))
            }
        };
        if let Err(error) = done {
            remove(work, &parts[..at]).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Takes out what stands behind a device, the last first. What cannot be taken out is logged and stays.
pub async fn remove(work: &Work, parts: &[Part]) {
    for part in parts.iter().rev() {
        let id = &part.value["id"];
        let done = match part.flag.as_str() {
            "-blockdev" => ask(work, "blockdev-del", json!({"node-name": part.value["node-name"]})).await,
            "-object" => ask(work, "object-del", json!({ "id": id })).await,
            "-netdev" => ask(work, "netdev_del", json!({ "id": id })).await,
            "-device" => ask(work, "device_del", json!({ "id": id })).await,
            _ => Ok(Value::Null),
        };
        if let Err(error) = done {
            tracing::warn!(%error, flag = part.flag, "a part of a device stays");
        }
    }
}

/// Looks at the image of a disk before QEMU opens it: QEMU does nothing else while it waits for one. What the image lies
/// on comes into `disk`, numbered after the image itself.
///
/// # Errors
/// As [`images::check_disk`] and [`chain::complete`].
pub async fn check_image(work: &mut Work, disk: &mut Disk) -> Result<()> {
    let (mut looked, owner) = (disk.clone(), work.who()?.owner());
    let mut next = nodes::next_index(&work.run()?.live) + 1;
    let looked = blocking::run(move || {
        images::check_disk(&looked, owner)?;
        chain::complete(&mut looked, &mut next, owner)?;
        Ok(looked)
    });
    *disk = looked.await?;
    Ok(())
}

/// Lets the guest use files of the host: all or none.
///
/// # Errors
/// Code 38 when the owner of one cannot be changed.
pub async fn lend(work: &mut Work, paths: &[String]) -> Result<()> {
    let Some(owner) = work.who()?.lends_to() else { return Ok(()) };
    for (at, path) in paths.iter().enumerate() {
        if let Err(error) = work.lend(Path::new(path), owner) {
            take_back(work, &paths[..at]);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes files back.
pub fn take_back(work: &mut Work, paths: &[String]) {
    paths.iter().for_each(|path| work.take_back(path.as_ref()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_difference_counts() {
        let line = |words: &[&str]| parts(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let old = line(&["qemu", "-S", "-device", r#"{"id":"a"}"#, "-device", r#"{"id":"b"}"#]);
        let new = line(&[
            "qemu",
            "-S",
            "-device",
            r#"{"id":"a"}"#,
            "-netdev",
            r#"{"id":"n"}"#,
            "-device",
            r#"{"id":"c"}"#,
        ]);
        let found = compare(&old, &new);
        let ids = |parts: &[Part]| {
            parts.iter().map(|p| format!("{} {}", p.flag, p.value["id"])).collect::<Vec<_>>()
        };
        assert_eq!(ids(&found.added), ["-netdev \"n\"", "-device \"c\""]);
        assert_eq!(ids(&found.removed), ["-device \"b\""]);
    }
}
