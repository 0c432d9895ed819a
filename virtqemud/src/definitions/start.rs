//! Starting a defined guest: from its managed save, if there is one, else from the beginning.

use std::fs::File;
use std::sync::Arc;

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_object::blocking;

use super::{Definitions, invalid};
use crate::guest::start::{Saved, Start};
use crate::guest::{Work, managed, save};

/// What a managed save says of the start.
struct Wanted {
    document: Arc<Domain>,
    saved: Saved,
    was_running: bool,
    /// The file itself, open for writing: it can be made void even where it cannot be removed.
    file: File,
}

impl Definitions {
    /// Starts the guest whose turn it is. `afresh` gives its managed save up.
    ///
    /// # Errors
    /// Code 55 when it runs already, or when the saved guest is another; whatever the start says. The managed save stays
    /// then.
    pub async fn start(&self, work: &mut Work, how: Start, afresh: bool) -> Result<()> {
        let now = work.published();
        let Some(config) = now.value.config.clone().filter(|_| !work.state().is_active()) else {
            return Err(invalid("domain is already running"));
        };
        if !now.value.managed_save {
            return Box::pin(work.start(config, how)).await;
        }
        if afresh {
            work.remove_managed_save().await?;
            return Box::pin(work.start(config, how)).await;
        }
        let wanted = self.wanted(&now.value.name, &config).await?;
        let how = Start { paused: how.paused || !wanted.was_running, ..how };
        Box::pin(work.start_from(wanted.document, how, Some(wanted.saved))).await?;
        // Whatever becomes of the file: the next start must not go back to this moment.
        work.publish(|p| p.managed_save = false);
        let (path, file) = (managed::path(&self.driver.folders, &now.value.name), wanted.file);
        if let Err(error) = blocking::run(move || managed::spend(&path, &file)).await {
            tracing::error!(?error, name = %now.value.name, "a saved guest runs, and its file stays");
        }
        Ok(())
    }

    async fn wanted(&self, name: &str, config: &Domain) -> Result<Wanted> {
        let (reader, path) = (self.clone(), managed::path(&self.driver.folders, name));
        let (uuid, name) = (config.uuid, name.to_owned());
        blocking::run(move || {
            let (file, image) = save::read(&path, true)?;
            let same = file.try_clone();
            let same = same.map_err(|e| Error::system(From::Qemu, "cannot duplicate a descriptor", e))?;
            let document = reader.prepare(&image.xml)?;
            if document.uuid != uuid || document.name.as_deref() != Some(&name) {
                let text = |u: Option<uuid::Uuid>| u.map(|u| u.to_string()).unwrap_or_default();
                return Err(belongs_to_another(&name, &text(uuid), &document, &text(document.uuid)));
            }
            let was_running = image.header.was_running;
            let data = save::data(file, image.header.packing)?;
            let own = same.try_clone();
            let own = own.map_err(|e| Error::system(From::Qemu, "cannot duplicate a descriptor", e))?;
            let saved = Saved { data, file: own, cpu: image.cookie.and_then(|c| c.cpu) };
            Ok(Wanted { document: Arc::new(document), saved, was_running, file: same })
        })
        .await
    }
}

fn belongs_to_another(name: &str, uuid: &str, document: &Domain, other: &str) -> Error {
    let theirs = document.name.as_deref().unwrap_or_default();
    invalid(format!(
        "cannot restore domain '{name}' uuid {uuid} from a file which belongs to domain '{theirs}' uuid {other}"
    ))
}
