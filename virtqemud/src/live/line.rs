//! What a change of the document means for QEMU: the difference of two command lines.
//!
//! A device is described once, by the code that builds command lines. Its JSON arguments are, word for word, those of the
//! monitor's `blockdev-add`, `object-add`, `netdev_add` and `device_add`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::disk::Disk;
use virt_object::blocking;

use super::ask;
use super::plug::chardev;
use crate::command::NetFds;
use crate::document::nodes;
use crate::guest::Work;
use crate::guest::plan::Place;
use crate::net;
use crate::process::{chain, images};
use crate::sealing::Sealing;

/// How long what stood behind a device may be held after the device is gone.
const LETTING_GO: Duration = Duration::from_secs(2);

/// One argument that only one of the lines has.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// "-device", "-blockdev" ...
    pub flag: String,
    /// What follows the flag.
    pub text: String,
    /// The same as a JSON object; `Null` for arguments of another form.
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

impl Difference {
    /// Without devices that are on both sides: what a line says of their place in the boot order changes with their
    /// neighbours, and counts at the next start only.
    #[must_use]
    pub fn without_kept(mut self) -> Self {
        let id = |p: &Part| p.value["id"].as_str().filter(|_| p.flag == "-device").map(str::to_string);
        let ids = |parts: &[Part]| parts.iter().filter_map(id).collect::<Vec<_>>();
        let (added, removed) = (ids(&self.added), ids(&self.removed));
        self.added.retain(|p| id(p).is_none_or(|i| !removed.contains(&i)));
        self.removed.retain(|p| id(p).is_none_or(|i| !added.contains(&i)));
        self
    }
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
    let planner = work.driver.planner.clone();
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
            text: value.clone(),
            value: serde_json::from_str(value).unwrap_or(Value::Null),
        };
        these.iter().filter(|p| !those.contains(p)).map(part).collect()
    };
    Difference { added: only(new, old), removed: only(old, new) }
}

/// Adds parts one after another; when one is refused, those before are taken out again. `listening` are sockets of
/// character devices, by path.
///
/// # Errors
/// Code 1 with QEMU's text; code 3 for a part that a running guest cannot get.
pub async fn add(work: &Work, parts: &[Part], listening: HashMap<String, OwnedFd>) -> Result<()> {
    let names = hand_over(work, listening).await?;
    for (at, part) in parts.iter().enumerate() {
        if let Err(error) = add_one(work, part, &names).await {
            remove(work, &parts[..at]).await;
            for name in names.values() {
                // A port that got as far as QEMU has taken the descriptor away already.
                drop(ask(work, "closefd", json!({ "fdname": name })).await);
            }
            return Err(error);
        }
    }
    Ok(())
}

async fn hand_over(work: &Work, listening: HashMap<String, OwnedFd>) -> Result<HashMap<String, String>> {
    let mut names = HashMap::new();
    for (at, (path, socket)) in listening.into_iter().enumerate() {
        let name = format!("port-socket{at}");
        work.monitor()?.run_untyped_with_fds("getfd", &json!({ "fdname": name }), vec![socket]).await?;
        names.insert(path, name);
    }
    Ok(names)
}

async fn add_one(work: &Work, part: &Part, sockets: &HashMap<String, String>) -> Result<()> {
    let unsupported =
        || Error::no_support(From::Qemu, "virDomainAttachDeviceFlags").with("argument", &part.flag);
    let (command, arguments) = match (part.flag.as_str(), &part.value) {
        ("-blockdev", value @ Value::Object(_)) => ("blockdev-add", value.clone()),
        ("-object", value @ Value::Object(_)) => ("object-add", value.clone()),
        ("-netdev", value @ Value::Object(_)) => ("netdev_add", value.clone()),
        ("-device", value @ Value::Object(_)) => ("device_add", value.clone()),
        ("-chardev", _) => {
            let arguments = chardev::arguments(&part.text, sockets).ok_or_else(unsupported)?;
            ("chardev-add", arguments)
        }
        ("-watchdog-action", _) => ("watchdog-set-action", json!({ "action": part.text })),
        _ => return Err(unsupported()),
    };
    ask(work, command, arguments).await.map(drop)
}

/// Takes out what stands behind a device, the last first. What cannot be taken out is logged and stays.
pub async fn remove(work: &Work, parts: &[Part]) {
    for part in parts.iter().rev() {
        let id = &part.value["id"];
        let (command, arguments) = match part.flag.as_str() {
            "-blockdev" => ("blockdev-del", json!({"node-name": part.value["node-name"]})),
            "-object" => ("object-del", json!({ "id": id })),
            "-netdev" => ("netdev_del", json!({ "id": id })),
            "-device" => ("device_del", json!({ "id": id })),
            "-chardev" => ("chardev-remove", json!({"id": chardev::id(&part.text)})),
            _ => continue,
        };
        if let Err(error) = let_go(work, command, arguments).await {
            tracing::warn!(%error, flag = part.flag, "a part of a device stays");
        }
    }
}

/// A device that QEMU no longer lists still holds what stands behind it for a moment.
async fn let_go(work: &Work, command: &str, arguments: Value) -> Result<()> {
    let end = tokio::time::Instant::now() + LETTING_GO;
    loop {
        match ask(work, command, arguments.clone()).await {
            Err(error) if is_held(&error) && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Some devices take along what stood behind them.
            Err(error) if error.message().contains("not found") => return Ok(()),
            done => return done.map(drop),
        }
    }
}

/// QEMU's words for what is in use: "Chardev 'x' is busy", "Node x is in use", "object 'x' is in use, can not be deleted".
fn is_held(error: &Error) -> bool {
    let text = error.message();
    text.contains("is busy") || text.contains("is in use")
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

    #[test]
    fn a_device_that_moves_in_the_boot_order_stays() {
        let line = |words: &[&str]| parts(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let old = line(&["qemu", "-device", r#"{"id":"a","bootindex":1}"#, "-device", r#"{"id":"b"}"#]);
        let new = line(&["qemu", "-device", r#"{"id":"b","bootindex":1}"#]);
        let found = compare(&old, &new).without_kept();
        assert!(found.added.is_empty(), "{found:?}");
        assert_eq!(found.removed.len(), 1, "{found:?}");
        assert_eq!(found.removed[0].value["id"], "a");
    }
}
