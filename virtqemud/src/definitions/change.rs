//! Changing a persistent configuration in place.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::{LifecycleEvent, MetadataChangeEvent};
use virt_consts::{VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_UPDATED};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};

use super::{Definitions, invalid};
use crate::config::affect::Affect;
use crate::document;
use crate::guest::{Guest, Work};

/// What follows a change of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Nothing: the change cannot make the document incomplete.
    Keep,
    /// Addresses, implicit devices and defaults are filled in, and the whole is checked again.
    Complete,
}

/// What is told of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announce {
    /// Nothing, as libvirt does for counts and limits.
    Nothing,
    /// The definition was updated.
    Updated,
    /// Title, description or metadata changed.
    Metadata {
        /// `virDomainMetadataType`.
        kind: i32,
        /// Namespace of a foreign element.
        uri: Option<String>,
    },
}

/// How a change is made, and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The job's name, for those who wait behind it.
    pub name: &'static str,
    /// What follows it in the configuration.
    pub completion: Completion,
    /// What is told of the configuration.
    pub announce: Announce,
}

impl Announce {
    fn event(self) -> Option<Event> {
        match self {
            Self::Nothing => None,
            Self::Updated => Some(lifecycle(VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_UPDATED)),
            Self::Metadata { kind, uri } => {
                Some(Event::MetadataChange(MetadataChangeEvent { r#type: kind, namespace_uri: uri }))
            }
        }
    }
}

/// A lifecycle event.
pub(super) fn lifecycle(event: i32, detail: i32) -> Event {
    Event::Lifecycle(LifecycleEvent { event, detail })
}

impl Definitions {
    /// Changes a domain's persistent configuration.
    ///
    /// # Errors
    /// Code 55 for a transient domain, code 42 when it was removed meanwhile, what `edit` and the completion refuse, and
    /// code 38 when the file cannot be written. Nothing is changed then.
    pub async fn change<F>(
        &self,
        guest: &Guest,
        name: &'static str,
        completion: Completion,
        announce: Announce,
        edit: F,
    ) -> Result<()>
    where
        F: FnOnce(&mut Domain) -> Result<()> + Send + 'static,
    {
        let this = self.clone();
        guest
            .work(Spec::new(name, Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    let Some(config) = before.value.config.clone() else { return Err(no_config()) };
                    let file = before.value.name.clone();
                    let changed = blocking::run(move || this.write(&config, &file, completion, edit)).await?;
                    work.publish(|p| p.config = Some(changed));
                    if let Some(event) = announce.event() {
                        work.emit(event);
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Changes a running guest, its persistent configuration, or both: all or nothing. The configuration is checked and
    /// written first; it is written back when the running guest refuses.
    ///
    /// # Errors
    /// As [`Self::change`], and what `live` refuses. Nothing is changed then.
    pub async fn both<L, F>(
        &self,
        guest: &Guest,
        affect: Affect,
        change: Change,
        live: L,
        edit: F,
    ) -> Result<()>
    where
        L: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<()>> + Send + 'static,
        F: FnOnce(&mut Domain) -> Result<()> + Send + 'static,
    {
        let Change { name, completion, announce } = change;
        match affect {
            Affect { live: false, .. } => self.change(guest, name, completion, announce, edit).await,
            Affect { config: false, .. } => guest.work(Spec::new(name, Class::Modify), live).await,
            Affect { live: true, config: true } => {
                let this = self.clone();
                let spec = Spec::new(name, Class::Modify);
                let done = guest.work(spec, move |work| {
                    Box::pin(this.change_both(work, completion, announce, live, edit))
                });
                done.await
            }
        }
    }

    async fn change_both<L, F>(
        self,
        work: &mut Work,
        completion: Completion,
        announce: Announce,
        live: L,
        edit: F,
    ) -> Result<()>
    where
        L: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<()>> + Send + 'static,
        F: FnOnce(&mut Domain) -> Result<()> + Send + 'static,
    {
        // Not worth a file when the guest has stopped meanwhile.
        work.run()?;
        let before = work.published();
        let Some(config) = before.value.config.clone() else { return Err(no_config()) };
        let (this, old, file) = (self.clone(), config.clone(), before.value.name.clone());
        let changed = blocking::run(move || this.write(&old, &file, completion, edit)).await?;
        if let Err(error) = live(work).await {
            let (file, text) = (before.value.name.clone(), config.format(Mode::CONFIG));
            let back = blocking::run(move || self.store.save(&file, &text)).await;
            if let Err(error) = back {
                tracing::error!(?error, uuid = %work.uuid, "a configuration cannot be put back");
            }
            return Err(error);
        }
        work.publish(|p| p.config = Some(changed));
        if let Some(event) = announce.event() {
            work.emit(event);
        }
        Ok(())
    }

    /// Edits a configuration, completes it, and writes it where it is another one. Blocking.
    fn write<F>(&self, old: &Domain, file: &str, completion: Completion, edit: F) -> Result<Arc<Domain>>
    where
        F: FnOnce(&mut Domain) -> Result<()>,
    {
        let mut new = old.clone();
        edit(&mut new)?;
        if completion == Completion::Complete {
            document::complete(&mut new, &self.emulators)?;
        }
        if new != *old {
            self.store.save(file, &new.format(Mode::CONFIG))?;
        }
        Ok(super::keep(new))
    }

    /// Changes the document of a running guest where QEMU needs not be told, and with `config` the persistent one too.
    ///
    /// # Errors
    /// Code 55 when the guest stopped meanwhile, otherwise as [`Self::change`].
    pub async fn change_live<F>(
        &self,
        guest: &Guest,
        name: &'static str,
        config: bool,
        announce: Announce,
        edit: F,
    ) -> Result<()>
    where
        F: Fn(&mut Domain) -> Result<()> + Send + Sync + 'static,
    {
        let this = self.clone();
        guest
            .work(Spec::new(name, Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    let mut live = work.run()?.live.clone();
                    edit(&mut live)?;
                    if config {
                        let Some(old) = &before.value.config else { return Err(no_config()) };
                        let mut new = (**old).clone();
                        edit(&mut new)?;
                        let file = before.value.name.clone();
                        let new = blocking::run(move || {
                            this.store.save(&file, &new.format(Mode::CONFIG))?;
                            Ok(super::keep(new))
                        })
                        .await?;
                        work.publish(|p| p.config = Some(new));
                    }
                    work.run()?.live = live;
                    work.publish_live()?;
                    if let Some(event) = announce.event() {
                        work.emit(event);
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Sets whether a domain is started with the host: always, or with its next start alone.
    ///
    /// # Errors
    /// Code 55 for a transient domain, code 38 when the link cannot be made.
    pub async fn set_autostart(&self, guest: &Guest, once: bool, on: bool) -> Result<()> {
        let store = self.store.clone();
        guest
            .work(Spec::new("autostart", Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    if !before.value.is_persistent() {
                        return Err(invalid("cannot set autostart for transient domain"));
                    }
                    let now = if once { before.value.autostart_once } else { before.value.autostart };
                    if now != on {
                        let name = before.value.name.clone();
                        let set = move || match once {
                            true => store.set_once(&name, on),
                            false => store.set_autostart(&name, on),
                        };
                        blocking::run(set).await?;
                        work.publish(|p| match once {
                            true => p.autostart_once = on,
                            false => p.autostart = on,
                        });
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// The refusal for a domain that has no persistent configuration.
fn no_config() -> Error {
    Error::new(Code::OperationInvalid, From::Domain, "transient domains do not have any persistent config")
}
