//! Definitions of filters: made, replaced, removed, read at start.

use std::sync::Arc;

use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};
use virt_model::nwfilter::Filter as Document;
use virt_object::blocking;
use virt_object::names;
use virt_object::registry::{Claim, Entry};
use virt_object::store::Loaded;

use crate::bindings::card;
use crate::driver::{Driver, Filter, Work};
use crate::rules::plan::{leads_back, looped, reached};

/// Makes or replaces a filter. Cards that use it get the new rules before this returns; when they cannot, nothing
/// changes.
///
/// # Errors
/// What the document refuses, code 9 for a clash or a circle, what the new rules cannot do.
pub async fn define(driver: &Arc<Driver>, xml: String) -> Result<Arc<Filter>> {
    let mut document = blocking::run(move || Document::parse(&xml)).await?;
    names::NWFILTER.check(&document.name)?;
    document.uuid.get_or_insert_with(Uuid::new_v4);
    let driver = driver.clone();
    let this = driver.clone();
    driver.change("define", move |work| Box::pin(put(work, this, Arc::new(document)))).await
}

async fn put(work: &mut Work, driver: Arc<Driver>, document: Arc<Document>) -> Result<Arc<Filter>> {
    let (name, uuid) = (document.name.clone(), document.uuid.unwrap_or_default());
    if let Some(other) = driver.filters.by_uuid(&uuid)
        && other.document.load().value.name != name
    {
        let text = format!(
            "filter with same UUID but different name ('{}') already exists",
            other.document.load().value.name
        );
        return Err(Error::new(Code::OperationFailed, Domain::Nwfilter, text));
    }
    let claim = driver.filters.claim(&name, uuid).await?;
    if leads_back(&document, &|n| driver.document(n)) {
        return Err(looped());
    }
    match claim {
        Claim::New(reservation) => {
            save(&driver, &document).await?;
            Ok(reservation.commit(Filter { uuid, document: Entry::new(document) }))
        }
        Claim::Existing(filter) => {
            let old = filter.document.load().value.clone();
            if old == document {
                return Ok(filter);
            }
            let find = |n: &str| if n == name { Some(document.clone()) } else { driver.document(n) };
            let abilities = if driver.bindings.load().value.is_empty() {
                None
            } else {
                Some(work.force.abilities().await?)
            };
            let mut changes = Vec::new();
            for (port, bound) in &driver.bindings.load().value {
                let uses = reached(&bound.binding.filter.filter, &find).contains(&name);
                if let Some(abilities) = abilities.filter(|_| uses) {
                    changes.push((port.clone(), Some(card(bound, &find, abilities)?)));
                }
            }
            save(&driver, &document).await?;
            if !changes.is_empty()
                && let Err(error) = work.force.change(changes).await
            {
                save(&driver, &old).await?;
                return Err(error);
            }
            filter.document.publish(document);
            Ok(filter)
        }
    }
}

async fn save(driver: &Driver, document: &Arc<Document>) -> Result<()> {
    let (store, document) = (driver.store.clone(), document.clone());
    blocking::run(move || store.save(&document.name, &document.format())).await
}

/// Removes a filter that no card uses, also not by way of another filter.
///
/// # Errors
/// Code 55 when one does, code 62 when it is gone, code 38 when the file cannot be removed.
pub async fn undefine(driver: &Arc<Driver>, filter: Arc<Filter>) -> Result<()> {
    let this = driver.clone();
    driver
        .change("undefine", move |_| {
            Box::pin(async move {
                let filter = this.find(filter.uuid.as_bytes(), "")?;
                let name = filter.document.load().value.name.clone();
                let find = |n: &str| this.document(n);
                let bindings = this.bindings.load();
                if bindings.value.values().any(|b| reached(&b.binding.filter.filter, &find).contains(&name)) {
                    let text = "nwfilter is in use";
                    return Err(Error::new(Code::OperationInvalid, Domain::Nwfilter, text));
                }
                let store = this.store.clone();
                blocking::run(move || store.remove(&name)).await?;
                this.filters.remove(&filter.uuid);
                Ok(())
            })
        })
        .await
}

/// Makes a filter of every definition on disk. A file that cannot be used is logged and left alone. Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<usize> {
    driver.store.load_each(|loaded| load_one(driver, loaded))
}

fn load_one(driver: &Arc<Driver>, loaded: Loaded) -> Result<()> {
    let mut document = Document::parse(&loaded.text?)?;
    if document.name != loaded.name {
        let text = format!(
            "network filter config filename '{}.xml' does not match name '{}'",
            loaded.name, document.name
        );
        return Err(Error::internal(Domain::Nwfilter, text));
    }
    if document.uuid.is_none() {
        // Files that packages bring have none; it must be the same after the next start.
        document.uuid = Some(Uuid::new_v4());
        driver.store.save(&document.name, &document.format())?;
    }
    let uuid = document.uuid.unwrap_or_default();
    let name = document.name.clone();
    driver.filters.insert(&name, uuid, Filter { uuid, document: Entry::new(Arc::new(document)) })?;
    Ok(())
}
