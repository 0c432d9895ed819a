//! Changing a persistent configuration in place.

use virt_api::domain::v1alpha1::watch_response::Event;
use virt_api::domain::v1alpha1::{LifecycleEvent, MetadataChangeEvent};
use virt_consts::{VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_UPDATED};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};

use super::{Definitions, invalid};
use crate::document;
use crate::guest::Guest;

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
                    let changed = blocking::run(move || {
                        let mut new = (*config).clone();
                        edit(&mut new)?;
                        if completion == Completion::Complete {
                            document::complete(&mut new, &this.emulators)?;
                        }
                        if new != *config {
                            this.store.save(&file, &new.format(Mode::CONFIG))?;
                        }
                        Ok(super::keep(new))
                    })
                    .await?;
                    work.publish(|p| p.config = Some(changed));
                    if let Some(event) = announce.event() {
                        work.emit(event);
                    }
                    Ok(())
                })
            })
            .await
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
