//! Defining, changing and removing secrets, and reading them at start.
//!
//! A use belongs to one secret, and a secret keeps its use for life. A private secret never becomes readable. Whether it
//! is ephemeral may change: its files come or go, its value stays.

use std::sync::Arc;

use uuid::Uuid;
use virt_api::secret::v1alpha1::{Empty, watch_response::Event};
use virt_consts::{VIR_SECRET_EVENT_DEFINED, VIR_SECRET_EVENT_UNDEFINED};
use virt_error::{Domain, Error, Result};
use virt_model::secret::Secret as Document;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;
use virt_object::store::Loaded;
use virt_secret::Value;

use crate::driver::Driver;
use crate::secret::{Held, Published, Secret, Work, registry_name};

/// Makes a secret, or replaces the document of one with the same use.
///
/// # Errors
/// What the document's own rules refuse; code 1 when its use is another secret's, or its use or privacy would change;
/// code 38 when a file cannot be written.
pub async fn define(driver: &Arc<Driver>, xml: String) -> Result<Arc<Document>> {
    let mut document = Document::parse(&xml)?;
    let uuid = *document.uuid.get_or_insert_with(Uuid::new_v4);
    let document = Arc::new(document);
    let claim = driver.secrets.claim(&registry_name(&document, &uuid), uuid).await;
    match claim.map_err(|error| clash(driver, &document).unwrap_or(error))? {
        Claim::New(reservation) => {
            save(driver, &document).await?;
            let published = Published::new(driver, document.clone(), None);
            reservation.commit(Secret::new(driver, uuid, published));
            driver.tell_lifecycle(&document, VIR_SECRET_EVENT_DEFINED);
        }
        Claim::Existing(secret) => {
            let new = document.clone();
            let define = Spec::new("define", Class::Modify);
            secret.work(define, |work| Box::pin(redefine(work, new))).await?;
        }
    }
    Ok(document)
}

/// Why the use cannot be taken, in the reference's words.
fn clash(driver: &Driver, wanted: &Document) -> Option<Error> {
    let uuid = wanted.uuid.unwrap_or_default();
    let text = match driver.secrets.by_uuid(&uuid) {
        Some(secret) => {
            let published = secret.published();
            let used = published.value.document.usage().map_or("(null)", |(_, id)| id);
            format!("a secret with UUID {uuid} is already defined for use with {used}")
        }
        None => {
            let other = driver.secrets.by_name(&registry_name(wanted, &uuid))?;
            let (_, used) = wanted.usage()?;
            format!("a secret with UUID {} already defined for use with {used}", other.uuid())
        }
    };
    Some(Error::internal(Domain::Secret, text))
}

async fn redefine(work: &mut Work, new: Arc<Document>) -> Result<()> {
    let old = work.published();
    if old.value.document.private && !new.private {
        return Err(Error::internal(Domain::Secret, "cannot change private flag on existing secret"));
    }
    let driver = work.driver.clone();
    let value = match &old.value.held {
        Held::Memory(value) if !new.ephemeral => {
            // The value first: a document without it would be half a secret.
            if let Some(value) = value.clone() {
                write(&driver, work.uuid, value).await?;
            }
            None
        }
        Held::Memory(value) => value.clone(),
        Held::Disk if new.ephemeral => {
            let (vault, uuid) = (driver.vault.clone(), work.uuid);
            blocking::run(move || vault.read(&uuid)).await?.map(Arc::new)
        }
        Held::Disk => None,
    };
    if new.ephemeral {
        remove(&driver, work.uuid).await?;
    } else if let Err(error) = save(&driver, &new).await {
        if old.value.document.ephemeral {
            // What was never on disk must not stay there.
            remove(&driver, work.uuid).await?;
        }
        return Err(error);
    }
    work.publish(|p| *p = Published::new(&driver, new.clone(), value));
    driver.tell_lifecycle(&new, VIR_SECRET_EVENT_DEFINED);
    Ok(())
}

/// Sets the value.
///
/// # Errors
/// Code 66 when the secret is gone, code 38 when the file cannot be written; the old value is kept then.
pub async fn set_value(secret: &Secret, value: Arc<Value>) -> Result<()> {
    secret
        .work(Spec::new("set value", Class::Modify), |work| {
            Box::pin(async move {
                let (driver, old) = (work.driver.clone(), work.published());
                match old.value.held {
                    Held::Memory(_) => work.publish(|p| p.held = Held::Memory(Some(value))),
                    Held::Disk => write(&driver, work.uuid, value).await?,
                }
                driver.tell(&old.value.document, Event::ValueChanged(Empty {}));
                Ok(())
            })
        })
        .await
}

/// Removes a secret and its value.
///
/// # Errors
/// Code 66 when it is gone, code 38 when a file cannot be removed.
pub async fn undefine(secret: &Secret) -> Result<()> {
    secret
        .work(Spec::new("undefine", Class::Destroy), |work| {
            Box::pin(async move {
                let (driver, document) = (work.driver.clone(), work.published().value.document.clone());
                if !document.ephemeral {
                    remove(&driver, work.uuid).await?;
                }
                work.remove();
                driver.tell_lifecycle(&document, VIR_SECRET_EVENT_UNDEFINED);
                Ok(())
            })
        })
        .await
}

async fn save(driver: &Driver, document: &Arc<Document>) -> Result<()> {
    if document.ephemeral {
        return Ok(());
    }
    let (store, document) = (driver.store.clone(), document.clone());
    let name = document.uuid.unwrap_or_default().to_string();
    blocking::run(move || store.save(&name, &document.format())).await
}

async fn write(driver: &Driver, uuid: Uuid, value: Arc<Value>) -> Result<()> {
    let vault = driver.vault.clone();
    blocking::run(move || vault.write(&uuid, &value)).await
}

/// Removes the files: first the document, so that a kill in between leaves no secret without its value. The next start
/// removes a value that has no document.
async fn remove(driver: &Driver, uuid: Uuid) -> Result<()> {
    let (store, vault) = (driver.store.clone(), driver.vault.clone());
    blocking::run(move || {
        store.remove(&uuid.to_string())?;
        vault.remove(&uuid)
    })
    .await
}

/// Makes a secret of every document on disk and tidies the values. A file that cannot be used is logged and left alone.
/// Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<usize> {
    let mut found = Vec::new();
    let count = driver.store.load_each(|loaded| {
        // Also one that cannot be used keeps its value.
        found.extend(Uuid::try_parse(&loaded.name).ok());
        load_one(driver, loaded)
    })?;
    driver.vault.tidy(|uuid| found.contains(uuid))?;
    Ok(count)
}

fn load_one(driver: &Arc<Driver>, loaded: Loaded) -> Result<()> {
    let document = Document::parse(&loaded.text?)?;
    let uuid = document.uuid.unwrap_or_default();
    if uuid.to_string() != loaded.name {
        let text = format!("<uuid> does not match secret file name '{}.xml'", loaded.name);
        return Err(Error::internal(Domain::Secret, text));
    }
    let name = registry_name(&document, &uuid);
    let published = Published::new(driver, Arc::new(document), None);
    driver.secrets.insert(&name, uuid, Secret::new(driver, uuid, published))?;
    Ok(())
}
