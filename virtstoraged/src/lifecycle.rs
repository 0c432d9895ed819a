//! Starting, stopping, building and refreshing pools, and finding active ones again.
//!
//! ```text
//!               build            start             refresh
//!   inactive ---------> inactive ------> active <----------> active
//!      ^                                   |
//!      `------------- stop, or a refresh that fails
//! ```

use std::sync::Arc;

use virt_consts::*;
use virt_error::{Domain, Error, Result};
use virt_model::storage::Pool as Document;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;

use crate::backend::{self, Backend, Content, Cx, Overwrite};
use crate::call;
use crate::driver::Driver;
use crate::pool::{Pool, PoolExt, Published, Sizes, Work, WorkExt, invalid};
use crate::volume::{Busy, Volumes};
use crate::{definitions, status};

/// How long the daemon's start waits for active pools to be looked at.
const ADOPTION: std::time::Duration = std::time::Duration::from_secs(5);

/// Calls a backend from a job of the owner.
async fn ask<R: Send + 'static>(
    driver: &Arc<Driver>,
    pool: &Arc<Document>,
    (what, limit): (&'static str, std::time::Duration),
    work: impl FnOnce(&dyn Backend, &Document, &Cx<'_>) -> Result<R> + Send + 'static,
) -> Result<R> {
    backend::check_target(pool)?;
    let (backend, pool) = (driver.backends.of(pool.kind)?, pool.clone());
    let (tools, keys) = (driver.backends.tools().clone(), driver.backends.keys().clone());
    driver
        .calls
        .run(what, limit, move |cancel| work(&*backend, &pool, &Cx::new(&*tools, &*keys, cancel)))
        .await
}

/// How a build treats what is there, from virStoragePoolBuildFlags.
///
/// # Errors
/// Code 3 for flags nobody has, code 8 for two that contradict each other.
fn overwrite(flags: u32) -> Result<Overwrite> {
    let (yes, no) =
        (flags & VIR_STORAGE_POOL_BUILD_OVERWRITE != 0, flags & VIR_STORAGE_POOL_BUILD_NO_OVERWRITE != 0);
    if yes && no {
        let text = "flags 'overwrite' and 'no overwrite' are mutually exclusive";
        return Err(Error::new(virt_error::Code::InvalidArg, Domain::Storage, text));
    }
    Ok(match (yes, no) {
        (true, _) => Overwrite::Yes,
        (_, true) => Overwrite::No,
        _ => Overwrite::Unsaid,
    })
}

/// The build that a start is to begin with, from virStoragePoolCreateFlags.
fn build_first(flags: u32) -> Result<Option<Overwrite>> {
    let build = VIR_STORAGE_POOL_CREATE_WITH_BUILD;
    let (yes, no) =
        (VIR_STORAGE_POOL_CREATE_WITH_BUILD_OVERWRITE, VIR_STORAGE_POOL_CREATE_WITH_BUILD_NO_OVERWRITE);
    if flags & (build | yes | no) == 0 {
        return Ok(None);
    }
    let bit = |from, to| if flags & from != 0 { to } else { 0 };
    overwrite(bit(yes, VIR_STORAGE_POOL_BUILD_OVERWRITE) | bit(no, VIR_STORAGE_POOL_BUILD_NO_OVERWRITE))
        .map(Some)
}

/// Makes and starts a transient pool; a defined one of the same name and UUID starts with this document.
///
/// # Errors
/// As [`definitions::complete`]; code 55 when it is active; what starting fails with.
pub async fn create(driver: &Arc<Driver>, xml: String, flags: u32) -> Result<Arc<Pool>> {
    let build = build_first(flags)?;
    let this = driver.clone();
    let document = Arc::new(blocking::run(move || definitions::complete(&this, &xml)).await?);
    let (name, uuid) = (document.name().to_string(), document.uuid.unwrap_or_default());
    let taken = driver.sources.lock().await;
    let pool = match driver.pools.claim(&name, uuid).await? {
        Claim::New(reservation) => {
            definitions::check_conflicts(driver, &document)?;
            // Seen by the checks of others from now on; not yet active.
            reservation.commit(Pool::new(driver, uuid, Published::inactive(&name, None)))
        }
        Claim::Existing(pool) => {
            definitions::check_conflicts(driver, &document)?;
            pool
        }
    };
    drop(taken);
    pool.work(Spec::new("create", Class::Lifecycle), move |work| {
        Box::pin(async move {
            let done = bring_up(work, document, build).await;
            let after = work.published();
            if done.is_err() && after.value.config.is_none() && !after.value.is_active() {
                work.remove();
            }
            done
        })
    })
    .await?;
    Ok(pool)
}

/// Starts a defined pool.
///
/// # Errors
/// Code 55 when it is active, what the backend says.
pub async fn start(pool: &Pool, flags: u32) -> Result<()> {
    let build = build_first(flags)?;
    pool.work(Spec::new("start", Class::Lifecycle), move |work| {
        Box::pin(async move {
            let before = work.published();
            let document = before.value.document()?.clone();
            bring_up(work, document, build).await
        })
    })
    .await
}

async fn bring_up(work: &mut Work, document: Arc<Document>, build: Option<Overwrite>) -> Result<()> {
    let name = work.published().value.name.clone();
    if work.published().value.is_active() {
        return Err(invalid(format!("storage pool '{name}' is already active")));
    }
    if let Some(overwrite) = build {
        ask(&work.driver, &document, ("building", call::FORMAT), move |b, p, cx| b.build(cx, p, overwrite))
            .await?;
    }
    // The act survives a kill: what is found active at the next start is stopped or adopted by its status file.
    status::save(work, &document)?;
    let up = ask(&work.driver, &document, ("starting", call::SWITCH), |b, p, cx| {
        b.start(cx, p)?;
        b.refresh(cx, p).inspect_err(|_| {
            if let Err(error) = b.stop(cx, p) {
                tracing::warn!(?error, pool = p.name(), "a pool that did not start is not stopped");
            }
        })
    })
    .await;
    match up {
        Ok(content) => {
            publish(work, document, content);
            work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_STARTED);
            Ok(())
        }
        Err(error) => {
            status::remove(work);
            Err(error)
        }
    }
}

fn publish(work: &Work, document: Arc<Document>, content: Content) {
    let mut live = (*document).clone();
    if let Some(device) = live.source.devices.first_mut() {
        device.free = content.free;
    }
    work.publish(|p| {
        p.live = Some(Arc::new(live));
        p.adopting = false;
        p.sizes = content.sizes;
        p.permissions = content.permissions;
        p.volumes = Arc::new(Volumes::new(content.volumes.into_iter().map(Arc::new).chain(content.same)));
    });
}

/// Refuses what cannot be while jobs work in the pool.
fn no_jobs(published: &Published) -> Result<()> {
    if published.volumes.iter().any(|v| v.busy != Busy::Free) {
        let text = format!("pool '{}' has asynchronous jobs running.", published.name);
        return Err(Error::internal(Domain::Storage, text));
    }
    Ok(())
}

/// Stops a pool; a transient one is gone then.
///
/// # Errors
/// Code 55 when it is not active, code 1 while jobs run in it, what the backend says.
pub async fn destroy(pool: &Pool) -> Result<()> {
    pool.work(Spec::new("destroy", Class::Destroy), |work| {
        Box::pin(async move {
            let before = work.published();
            let live = before.value.active()?.clone();
            no_jobs(&before.value)?;
            ask(&work.driver, &live, ("stopping", call::SWITCH), |b, p, cx| b.stop(cx, p)).await?;
            down(work);
            Ok(())
        })
    })
    .await
}

/// Publishes that a pool is not active any more.
fn down(work: &Work) {
    status::remove(work);
    work.publish(|p| {
        p.live = None;
        p.adopting = false;
        p.sizes = Sizes::default();
        p.permissions = None;
        p.volumes = Arc::default();
    });
    work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_STOPPED);
    if work.published().value.config.is_none() {
        work.remove();
    }
}

/// Formats or makes what an inactive pool lies on, as virStoragePoolBuildFlags say.
///
/// # Errors
/// Code 8 for flags that contradict each other, code 55 when it is active, what the backend says.
pub async fn build(pool: &Pool, flags: u32) -> Result<()> {
    let job = Spec::new("build", Class::Lifecycle);
    pool.work(job, move |work| {
        Box::pin(async move {
            let before = work.published();
            if before.value.is_active() {
                return Err(invalid(format!("storage pool '{}' is already active", before.value.name)));
            }
            let overwrite = overwrite(flags)?;
            let document = before.value.document()?.clone();
            ask(&work.driver, &document, ("building", call::FORMAT), move |b, p, cx| {
                b.build(cx, p, overwrite)
            })
            .await?;
            work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_CREATED);
            Ok(())
        })
    })
    .await
}

/// Deletes what an inactive pool lies on.
///
/// # Errors
/// Code 55 when it is active, what the backend says.
pub async fn delete(pool: &Pool) -> Result<()> {
    pool.work(Spec::new("delete", Class::Lifecycle), |work| {
        Box::pin(async move {
            let before = work.published();
            if before.value.is_active() {
                return Err(invalid(format!("storage pool '{}' is still active", before.value.name)));
            }
            let document = before.value.document()?.clone();
            ask(&work.driver, &document, ("deleting", call::FORMAT), |b, p, cx| b.delete(cx, p)).await?;
            work.emit_lifecycle(VIR_STORAGE_POOL_EVENT_DELETED);
            Ok(())
        })
    })
    .await
}

/// Reads anew which volumes there are. A pool that cannot be read is stopped, as the reference does.
///
/// # Errors
/// Code 55 when it is not active, code 1 while jobs run in it, what the backend says.
pub async fn refresh(pool: &Pool) -> Result<()> {
    pool.work(Spec::new("refresh", Class::Lifecycle), |work| {
        Box::pin(async move {
            let before = work.published();
            let live = before.value.active()?.clone();
            no_jobs(&before.value)?;
            let known = before.value.volumes.clone();
            let look = move |b: &dyn Backend, p: &Document, cx: &Cx<'_>| {
                b.refresh(&Cx { known, ..Cx::new(cx.tools, cx.keys, cx.cancel.clone()) }, p)
            };
            let limit = work.driver.calls.look();
            match ask(&work.driver, &live, ("a look", limit), look).await {
                Ok(content) => {
                    publish(work, live, content);
                    work.emit_refresh();
                    Ok(())
                }
                // It may answer again: what is known of it stays.
                Err(error) if error.code() == virt_error::Code::OperationTimeout => Err(error),
                Err(error) => {
                    let stop = ask(&work.driver, &live, ("stopping", call::SWITCH), |b, p, cx| b.stop(cx, p));
                    if let Err(error) = stop.await {
                        tracing::warn!(
                            ?error,
                            pool = live.name(),
                            "a pool that cannot be read is not stopped"
                        );
                    }
                    down(work);
                    Err(error)
                }
            }
        })
    })
    .await
}

/// Finds the pools that were active before. One that is not any more, or does not answer, is published as inactive.
///
/// # Errors
/// Code 38 when the status folder cannot be read.
pub async fn adopt(driver: &Arc<Driver>) -> Result<usize> {
    let this = driver.clone();
    let active = blocking::run(move || status::load(&this)).await?;
    let count = active.len();
    let mut looks = Vec::new();
    for pool in active {
        // Beside each other: a dead file server holds up nobody.
        looks.push(driver.kind.runtime.spawn(async move {
            let job = Spec::new("adopt", Class::Lifecycle);
            if let Err(error) = pool.work(job, |work| Box::pin(adopt_one(work))).await {
                let reference = pool.reference();
                tracing::error!(?error, pool = reference.name, "an active pool needs help");
            }
        }));
    }
    // Clients shall find the volumes; a pool that does not answer is looked at beside the service.
    let _ = tokio::time::timeout(ADOPTION, futures_util::future::join_all(looks)).await;
    Ok(count)
}

async fn adopt_one(work: &mut Work) -> Result<()> {
    let Some(live) = work.published().value.live.clone() else { return Ok(()) };
    let found = ask(&work.driver, &live, ("a look", work.driver.calls.look()), |b, p, cx| {
        if !b.is_active(cx, p)? {
            return Ok(None);
        }
        if p.kind.is_folder() {
            crate::paths::sweep(std::path::Path::new(p.path()));
        }
        b.refresh(cx, p).map(Some)
    })
    .await;
    match found {
        Ok(Some(content)) => {
            publish(work, live, content);
            Ok(())
        }
        Ok(None) => {
            down(work);
            Ok(())
        }
        Err(error) => {
            down(work);
            Err(error)
        }
    }
}

/// Starts every pool that is to start with the host; a failure is logged.
pub async fn autostart(driver: &Arc<Driver>) {
    let mut starts = Vec::new();
    for pool in driver.pools.list().iter() {
        let published = pool.published();
        if !published.value.autostart || published.value.is_active() {
            continue;
        }
        let (pool, name) = (pool.clone(), published.value.name.clone());
        starts.push(driver.kind.runtime.spawn(async move {
            if let Err(error) = start(&pool, 0).await {
                tracing::error!(?error, %name, "cannot start a storage pool with the host");
            }
        }));
    }
    for start in starts {
        // A panic was logged where it happened.
        let _ = start.await;
    }
}
