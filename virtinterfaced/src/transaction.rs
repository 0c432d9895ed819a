//! Changes that may be taken back: all definitions as they were at the begin, and which interfaces there were, kept on
//! disk so that neither a restart nor a power cut loses the way back.
//!
//! ```text
//!   begin: copies -> folder.new -> renamed to folder        commit: folder removed
//!   rollback: what was made since is removed -> folder's definitions become the definitions -> folder removed
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use virt_error::{Domain, Error, Result};
use virt_host::link;
use virt_model::interface::{Interface, InterfaceKind};
use virt_object::blocking;
use virt_object::store::Store;

use crate::driver::{Definitions, Driver, checked, invalid};

/// The file with the names of all interfaces at the begin, one a line.
const THERE: &str = "there";

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let text = format!("cannot change '{}'", path.display());
    move |e| Error::system(Domain::Interface, &text, e)
}

/// Remembers all definitions.
///
/// # Errors
/// Code 55 when that was done already, code 38 when it cannot be written.
pub async fn begin(driver: &Arc<Driver>) -> Result<()> {
    let this = driver.clone();
    let job = move || -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let folder = this.folders.transaction.clone();
            if folder.exists() {
                return Err(invalid("there is already a transaction running."));
            }
            let definitions = this.definitions.load().value.clone();
            blocking::run(move || {
                let fresh = folder.with_extension("new");
                if fresh.exists() {
                    std::fs::remove_dir_all(&fresh).map_err(failed(&fresh))?;
                }
                std::fs::create_dir_all(&fresh).map_err(failed(&fresh))?;
                let copies = Store::new(fresh.clone(), "virsh iface-rollback");
                for (name, of) in &definitions {
                    copies.save(name, &of.format())?;
                }
                let there: String = link::list()?.iter().map(|l| format!("{}\n", l.name)).collect();
                let file = fresh.join(THERE);
                std::fs::write(&file, there).map_err(failed(&file))?;
                std::fs::rename(&fresh, &folder).map_err(failed(&folder))
            })
            .await
        })
    };
    driver.change("begin", job).await
}

/// Keeps what was changed.
///
/// # Errors
/// Code 55 without a begin, code 38 when the copies cannot be removed.
pub async fn commit(driver: &Arc<Driver>) -> Result<()> {
    let this = driver.clone();
    driver.change("commit", move || Box::pin(async move { end(&this).await })).await
}

async fn end(driver: &Driver) -> Result<()> {
    let folder = driver.folders.transaction.clone();
    if !folder.exists() {
        return Err(none());
    }
    blocking::run(move || std::fs::remove_dir_all(&folder).map_err(failed(&folder))).await
}

fn none() -> Error {
    invalid("no transaction running, nothing to be done.")
}

/// Goes back to what was remembered.
///
/// # Errors
/// Code 55 without a begin, code 38 when a file cannot be read or written, code 1 with the tool's words when an interface
/// cannot be removed; it can be tried again then.
pub async fn rollback(driver: &Arc<Driver>) -> Result<()> {
    let this = driver.clone();
    let job = move || -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let folder = this.folders.transaction.clone();
            if !folder.exists() {
                return Err(none());
            }
            let now = this.definitions.load().value.clone();
            let (found, made) = blocking::run(move || {
                let mut found = Definitions::new();
                for copy in Store::new(folder.clone(), "virsh iface-rollback").load()? {
                    found.insert(copy.name, Arc::new(checked(&copy.text?)?));
                }
                let made = made(&now, &found, &folder)?;
                Ok((found, made))
            })
            .await?;
            // Before its files go, which ifupdown reads for that. One that stays must not keep the others' old state away.
            let mut removed = Ok(());
            for name in made {
                removed = removed.and(this.backend.remove(name).await);
            }
            this.put(found).await?;
            removed?;
            end(&this).await
        })
    };
    driver.change("rollback", job).await
}

/// What the host has for definitions that are `now` and were not in `old`: neither was it there at the begin, which
/// `folder` knows. Outermost first.
fn made(now: &Definitions, old: &Definitions, folder: &Path) -> Result<Vec<String>> {
    let file = folder.join(THERE);
    let there = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        // A begin of before this was remembered: nothing is known to be new.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(&file)(e)),
    };
    let mut known: BTreeSet<&str> = there.lines().collect();
    let mut kept = Vec::new();
    old.values().for_each(|of| to_make(of, &mut kept));
    known.extend(kept);
    let mut made = Vec::new();
    now.values().for_each(|of| to_make(of, &mut made));
    let new = made.into_iter().filter(|name| known.insert(name) && link::exists(name));
    Ok(new.map(str::to_owned).collect())
}

/// The names of all interfaces that are made for a definition: cards are not.
fn to_make<'a>(of: &'a Interface, names: &mut Vec<&'a str>) {
    if of.kind != InterfaceKind::Ethernet {
        names.push(&of.name);
    }
    of.inner().iter().for_each(|inner| to_make(inner, names));
}
