//! The persistent side of pools: defining and removing configurations, and reading them at start.

use std::sync::Arc;

use uuid::Uuid;
use virt_api::storage::v1alpha1::LifecycleEvent;
use virt_api::storage::v1alpha1::watch_response::Event;
use virt_consts::{VIR_STORAGE_POOL_EVENT_DEFINED, VIR_STORAGE_POOL_EVENT_UNDEFINED};
use virt_error::{Code, Domain, Error, Result};
use virt_model::Mode;
use virt_model::storage::Pool as Document;
use virt_object::blocking;
use virt_object::names;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;
use virt_object::store::Loaded;

use crate::conflict;
use crate::driver::Driver;
use crate::pool::{Pool, PoolExt, Published, Work, WorkExt, invalid};

/// Reads a document and gives it a UUID when it names none.
///
/// # Errors
/// What the document's own rules refuse; code 1 for a kind of pool that is not built.
pub fn complete(driver: &Driver, xml: &str) -> Result<Document> {
    let mut pool = Document::parse(xml)?;
    names::POOL.check(pool.name())?;
    pool.uuid.get_or_insert_with(Uuid::new_v4);
    driver.backends.of(pool.kind)?;
    Ok(pool)
}

/// Refuses a pool whose source is another's. Hold [`Driver::sources`] until it is published.
///
/// # Errors
/// Code 9.
pub fn check_conflicts(driver: &Driver, pool: &Document) -> Result<()> {
    let others: Vec<_> = driver.pools.list().iter().map(|p| p.published()).collect();
    conflict::check(pool, others.iter().filter_map(|p| p.value.document().ok().map(|d| &**d)))
}

/// Makes or replaces a persistent pool.
///
/// # Errors
/// As [`complete`]; code 9 when name, UUID or source are another pool's; code 38 when the file cannot be written.
pub async fn define(driver: &Arc<Driver>, xml: String) -> Result<Arc<Pool>> {
    let this = driver.clone();
    let document = Arc::new(blocking::run(move || complete(&this, &xml)).await?);
    let (name, uuid) = (document.name().to_string(), document.uuid.unwrap_or_default());
    let _taken = driver.sources.lock().await;
    match driver.pools.claim(&name, uuid).await? {
        Claim::New(reservation) => {
            check_conflicts(driver, &document)?;
            save(driver, &document).await?;
            let pool =
                reservation.commit(Pool::new(driver, uuid, Published::inactive(&name, Some(document))));
            let defined = LifecycleEvent { event: VIR_STORAGE_POOL_EVENT_DEFINED };
            driver.emit(pool.reference(), Event::Lifecycle(defined));
            Ok(pool)
        }
        Claim::Existing(pool) => {
            check_conflicts(driver, &document)?;
            let job = Spec::new("define", Class::Modify);
            pool.work(job, move |work| {
                Box::pin(async move {
                    save(&work.driver, &document).await?;
                    work.publish(|p| p.config = Some(document));
                    work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_DEFINED);
                    Ok(())
                })
            })
            .await?;
            Ok(pool)
        }
    }
}

async fn save(driver: &Driver, pool: &Arc<Document>) -> Result<()> {
    let (store, pool) = (driver.store.clone(), pool.clone());
    blocking::run(move || store.save(pool.name(), &pool.format(Mode::CONFIG))).await
}

/// Removes the configuration of a pool that is not active.
///
/// # Errors
/// Code 55 for an active pool, code 38 when the file cannot be removed.
pub async fn undefine(pool: &Pool) -> Result<()> {
    pool.work(Spec::new("undefine", Class::Modify), |work| {
        Box::pin(async move {
            let before = work.published();
            if before.value.is_active() {
                return Err(invalid(format!("storage pool '{}' is still active", before.value.name)));
            }
            let (store, name) = (work.driver.store.clone(), before.value.name.to_string());
            blocking::run(move || store.remove(&name)).await?;
            work.remove();
            work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_UNDEFINED);
            Ok(())
        })
    })
    .await
}

/// Sets whether the pool starts with the host.
///
/// # Errors
/// Code 1 for a transient pool, code 38 when the link cannot be made.
pub async fn set_autostart(pool: &Pool, on: bool) -> Result<()> {
    pool.work(Spec::new("autostart", Class::Modify), move |work: &mut Work| {
        Box::pin(async move {
            let before = work.published();
            if before.value.config.is_none() {
                return Err(Error::internal(Domain::Storage, "pool has no config file"));
            }
            let (store, name) = (work.driver.store.clone(), before.value.name.to_string());
            blocking::run(move || store.set_autostart(&name, on)).await?;
            work.publish(|p| p.autostart = on);
            Ok(())
        })
    })
    .await
}

/// Makes a pool of every definition on disk. A file that cannot be used is logged and left alone. Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<usize> {
    driver.store.load_each(|loaded| load_one(driver, loaded))
}

fn load_one(driver: &Arc<Driver>, loaded: Loaded) -> Result<()> {
    let pool = complete(driver, &loaded.text?)?;
    if pool.name() != loaded.name {
        let text = format!(
            "Storage pool config filename '{}.xml' does not match pool name '{}'",
            loaded.name,
            pool.name()
        );
        return Err(Error::new(Code::XmlError, Domain::Storage, text));
    }
    let (name, uuid) = (pool.name().to_string(), pool.uuid.unwrap_or_default());
    let mut published = Published::inactive(&name, Some(Arc::new(pool)));
    published.autostart = loaded.autostart;
    driver.pools.insert(&name, uuid, Pool::new(driver, uuid, published))?;
    Ok(())
}
