//! Changes that may be taken back: all definitions as they were at the begin, kept on disk so that neither a restart nor a
//! power cut loses the way back.
//!
//! ```text
//!   begin: copies -> folder.new -> renamed to folder        commit: folder removed
//!   rollback: folder's definitions become the definitions -> folder removed
//! ```

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use virt_error::{Domain, Error, Result};
use virt_object::blocking;
use virt_object::store::Store;

use crate::driver::{Definitions, Driver, checked, invalid};

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
/// Code 55 without a begin, code 38 when a file cannot be read or written; it can be tried again then.
pub async fn rollback(driver: &Arc<Driver>) -> Result<()> {
    let this = driver.clone();
    let job = move || -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let folder = this.folders.transaction.clone();
            if !folder.exists() {
                return Err(none());
            }
            let found = blocking::run(move || {
                let mut found = Definitions::new();
                for copy in Store::new(folder, "virsh iface-rollback").load()? {
                    found.insert(copy.name, Arc::new(checked(&copy.text?)?));
                }
                Ok(found)
            });
            this.put(found.await?).await?;
            end(&this).await
        })
    };
    driver.change("rollback", job).await
}
