//! Giving a domain another name.

use std::sync::Arc;

use virt_consts::*;
use virt_error::{Domain as From, Result};
use virt_model::Mode;
use virt_object::owner::{Class, Spec};
use virt_object::{blocking, names};

use super::{Definitions, invalid};
use crate::guest::{Guest, Published};

impl Definitions {
    /// Renames an inactive domain, with its file and autostart link.
    ///
    /// # Errors
    /// Code 55 for a domain that cannot be renamed or a name that is taken, code 27 for a name that is none.
    pub async fn rename(&self, guest: &Guest, new_name: String) -> Result<()> {
        let this = self.clone();
        guest
            .work(Spec::new("rename", Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    let config = may_rename(&before.value)?;
                    names::DOMAIN.slash_in(From::Qemu).check(&new_name)?;
                    let taken = this.driver.guests.rename(&work.uuid, &new_name)?;
                    let (old, to, store) = (before.value.name.clone(), new_name.clone(), this.store.clone());
                    let renamed = blocking::run(move || {
                        let mut renamed = (*config).clone();
                        renamed.name = Some(to.clone());
                        store.rename(&old, &to, &renamed.format(Mode::CONFIG))?;
                        Ok(super::keep(renamed))
                    })
                    .await?;
                    work.emit_lifecycle(VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_RENAMED);
                    work.publish(|p| {
                        p.name = new_name.into();
                        p.config = Some(renamed);
                    });
                    taken.commit();
                    work.emit_lifecycle(VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_RENAMED);
                    Ok(())
                })
            })
            .await
    }
}

fn may_rename(published: &Published) -> Result<Arc<virt_model::domain::Domain>> {
    let Some(config) = &published.config else { return Err(invalid("cannot rename a transient domain")) };
    if published.is_active() {
        return Err(invalid("cannot rename active domain"));
    }
    if published.managed_save {
        return Err(invalid("domain with a managed saved state can't be renamed"));
    }
    if published.snapshots > 0 {
        return Err(invalid("cannot rename domain with snapshots"));
    }
    if published.checkpoints > 0 {
        return Err(invalid("cannot rename domain with checkpoints"));
    }
    Ok(config.clone())
}
