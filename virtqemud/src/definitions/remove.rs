//! Removing a persistent configuration.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use virt_consts::*;
use virt_error::Result;
use virt_model::domain::os::Os;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::store::Store;

use super::{Definitions, invalid};
use crate::guest::{Guest, Published};
use crate::process::tpm;

impl Definitions {
    /// Removes a domain's configuration; a running one goes on as a transient domain.
    ///
    /// # Errors
    /// Code 55 for flags that contradict each other, a transient domain, or something of the domain's (saved state,
    /// snapshots, checkpoints, NVRAM) that the flags do not give up.
    pub async fn undefine(&self, guest: &Guest, flags: u32) -> Result<()> {
        let both = |a: u32, b: u32| flags & a != 0 && flags & b != 0;
        if both(VIR_DOMAIN_UNDEFINE_NVRAM, VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) {
            return Err(invalid("cannot both keep and delete nvram"));
        }
        if both(VIR_DOMAIN_UNDEFINE_TPM, VIR_DOMAIN_UNDEFINE_KEEP_TPM) {
            return Err(invalid("cannot both keep and delete TPM"));
        }
        let store = self.store.clone();
        guest
            .work(Spec::new("undefine", Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    let nvram = may_remove(&before.value, flags)?;
                    let name = before.value.name.clone();
                    let tpm = forgets_tpm(&before.value, flags);
                    match nvram {
                        // Two names in our own folder, unsynced: less than the way to another thread and back.
                        None => store.remove(&name)?,
                        Some(path) => blocking::run(move || remove_with(&store, &name, &path, flags)).await?,
                    }
                    if tpm {
                        let (folders, uuid) = (work.driver.folders.clone(), work.uuid);
                        blocking::run(move || {
                            tpm::forget(&folders, &uuid);
                            Ok(())
                        })
                        .await?;
                    }
                    if before.value.managed_save
                        && let Err(error) = work.remove_managed_save().await
                    {
                        tracing::warn!(?error, "the saved state of a guest that is gone stays");
                    }
                    if before.value.is_active() {
                        work.publish(|p| {
                            p.config = None;
                            p.autostart = false;
                        });
                    } else {
                        work.driver.guests.remove(&work.uuid);
                    }
                    work.emit_lifecycle(VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
                    Ok(())
                })
            })
            .await
    }
}

/// Whether the state of the guest's TPM goes with it: a running guest still needs it.
fn forgets_tpm(published: &Published, flags: u32) -> bool {
    let Some(config) = published.config.as_ref().filter(|c| tpm::emulated(c).is_some()) else { return false };
    let kept = flags & VIR_DOMAIN_UNDEFINE_KEEP_TPM != 0
        || tpm::keeps_state(config) && flags & VIR_DOMAIN_UNDEFINE_TPM == 0;
    !published.is_active() && !kept
}

/// Removes a definition and, if `flags` say so, its NVRAM file. Blocking: that file may be anywhere.
fn remove_with(store: &Store, name: &str, nvram: &Path, flags: u32) -> Result<()> {
    if nvram.exists() && flags & (VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) == 0 {
        return Err(invalid("cannot undefine domain with nvram"));
    }
    store.remove(name)?;
    // The definition is gone already: a file that stays is told, not an error.
    if flags & VIR_DOMAIN_UNDEFINE_NVRAM != 0
        && let Err(error) = std::fs::remove_file(nvram)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %nvram.display(), "cannot remove an NVRAM file");
    }
    Ok(())
}

/// Checks what belongs to the domain against the flags; returns the path of its NVRAM file, if it has one.
fn may_remove(published: &Published, flags: u32) -> Result<Option<PathBuf>> {
    let given = |bit: u32| flags & bit != 0;
    let Some(config) = &published.config else {
        return Err(invalid("cannot undefine transient domain"));
    };
    if !published.is_active() {
        if published.snapshots > 0 && !given(VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA) {
            let text = format!("cannot delete inactive domain with {} snapshots", published.snapshots);
            return Err(invalid(text));
        }
        if published.checkpoints > 0 && !given(VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA) {
            let text = format!("cannot delete inactive domain with {} checkpoints", published.checkpoints);
            return Err(invalid(text));
        }
    }
    if published.managed_save && !given(VIR_DOMAIN_UNDEFINE_MANAGED_SAVE) {
        return Err(invalid("Refusing to undefine while domain managed save image exists"));
    }
    Ok(nvram_path(&config.os))
}

/// The guest's own NVRAM file on this host.
fn nvram_path(os: &Os) -> Option<PathBuf> {
    let nvram = os.nvram.as_ref()?;
    let path = nvram.path.as_deref().or_else(|| nvram.source.as_ref()?.path());
    path.map(Into::into)
}
