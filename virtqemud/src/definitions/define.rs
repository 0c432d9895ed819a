//! Making or replacing a persistent domain.

use std::sync::Arc;

use uuid::Uuid;
use virt_consts::{
    VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_ADDED, VIR_DOMAIN_EVENT_DEFINED_UPDATED,
};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_object::blocking;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;

use super::Definitions;
use crate::display::place;
use crate::guest::{Guest, Published};
use crate::{command, document};

/// A configuration that was read, completed and checked.
struct Ready {
    name: String,
    uuid: Uuid,
    config: Arc<Domain>,
    text: String,
}

enum Outcome {
    Done(Arc<Guest>),
    Exists(Arc<Guest>),
    /// An object of this name or UUID is just being made or removed.
    Settling,
}

impl Definitions {
    /// Defines a domain from its document.
    ///
    /// # Errors
    /// What the document's own rules refuse; code 9 when name or UUID belong to another domain; code 38 when the file
    /// cannot be written.
    pub async fn define(&self, xml: String) -> Result<Arc<Guest>> {
        let this = self.clone();
        // The usual case in one go on a thread that may block: a new domain.
        let (ready, outcome) = blocking::run(move || {
            let ready = this.read(&xml)?;
            let outcome = this.try_new(&ready)?;
            Ok((Arc::new(ready), outcome))
        })
        .await?;
        let mut outcome = outcome;
        loop {
            outcome = match outcome {
                Outcome::Done(guest) => return Ok(guest),
                Outcome::Exists(guest) => match self.redefine(&guest, &ready).await? {
                    true => return Ok(guest),
                    false => Outcome::Settling,
                },
                Outcome::Settling => {
                    // Waits until that is settled; an unused reservation is free again at once.
                    drop(self.driver.guests.claim(&ready.name, ready.uuid).await?);
                    let (this, ready) = (self.clone(), ready.clone());
                    blocking::run(move || this.try_new(&ready)).await?
                }
            };
        }
    }

    /// The command line a document would be started with, as text for a shell. Nothing is defined or started.
    ///
    /// # Errors
    /// What the document's own rules refuse, and what its emulator cannot do.
    pub async fn command_line(&self, xml: String) -> Result<String> {
        let this = self.clone();
        blocking::run(move || {
            let (mut domain, emulator) = document::read(&xml, &this.emulators)?;
            domain.uuid.get_or_insert_with(Uuid::new_v4);
            let displays = this.driver.settings.displays.clone();
            place::check(&domain, &displays)?;
            let settings = command::Settings { displays, ..command::Settings::default() };
            let cpus = this.emulators.cpus();
            let line =
                command::native(domain, &emulator, cpus, settings).map_err(|e| virt_xml::locate(e, &xml))?;
            let mut text = line.to_shell();
            text.push('\n');
            Ok(text)
        })
        .await
    }

    /// Reads, completes and checks a document, as a definition or a transient start needs it. Blocking: it may probe an
    /// emulator.
    ///
    /// # Errors
    /// What the document's own rules refuse, and what its emulator cannot do.
    pub fn prepare(&self, xml: &str) -> Result<Domain> {
        let (mut domain, _) = document::read(xml, &self.emulators)?;
        place::check(&domain, &self.driver.settings.displays)?;
        domain.uuid.get_or_insert_with(Uuid::new_v4);
        Ok(domain)
    }

    fn read(&self, xml: &str) -> Result<Ready> {
        let domain = self.prepare(xml)?;
        let (Some(name), Some(uuid)) = (domain.name.clone(), domain.uuid) else {
            return Err(Error::internal(From::Qemu, "a completed document has no name"));
        };
        let text = domain.format(Mode::CONFIG);
        Ok(Ready { name, uuid, config: super::keep(domain), text })
    }

    fn try_new(&self, ready: &Ready) -> Result<Outcome> {
        let reservation = match self.driver.guests.try_claim(&ready.name, ready.uuid)? {
            None => return Ok(Outcome::Settling),
            Some(Claim::Existing(guest)) => return Ok(Outcome::Exists(guest)),
            Some(Claim::New(reservation)) => reservation,
        };
        self.store.save(&ready.name, &ready.text)?;
        let published = Published::inactive(&ready.name, Some(ready.config.clone()));
        let guest = reservation.commit(Guest::new(&self.driver, ready.uuid, published));
        let event = super::change::lifecycle(VIR_DOMAIN_EVENT_DEFINED, VIR_DOMAIN_EVENT_DEFINED_ADDED);
        self.driver.emit(&ready.uuid, &guest.published().value, event);
        Ok(Outcome::Done(guest))
    }

    /// Replaces the configuration of a domain; `false` when it was removed before its turn came.
    async fn redefine(&self, guest: &Guest, ready: &Arc<Ready>) -> Result<bool> {
        let (store, ready) = (self.store.clone(), ready.clone());
        let done = guest
            .work(Spec::new("define", Class::Modify), move |work| {
                Box::pin(async move {
                    let to_save = ready.clone();
                    blocking::run(move || store.save(&to_save.name, &to_save.text)).await?;
                    let before = work.published();
                    let detail = if before.value.is_persistent() {
                        VIR_DOMAIN_EVENT_DEFINED_UPDATED
                    } else {
                        VIR_DOMAIN_EVENT_DEFINED_ADDED
                    };
                    work.publish(|p| {
                        p.config = Some(ready.config.clone());
                        p.updated = true;
                    });
                    work.emit_lifecycle(VIR_DOMAIN_EVENT_DEFINED, detail);
                    Ok(())
                })
            })
            .await;
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::NoDomain => Ok(false),
            Err(error) => Err(error),
        }
    }
}
