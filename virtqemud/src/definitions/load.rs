//! Reading all definitions when the daemon starts.

use virt_error::Result;
use virt_model::Mode;
use virt_model::domain::Domain;
use virt_object::store::Loaded;

use super::Definitions;
use crate::guest::{Guest, Published, managed};

impl Definitions {
    /// Makes a guest of every definition on disk; returns how many. A file that cannot be used is logged and left alone,
    /// as it is. No emulator is looked at: what is on disk was completed when it was written. Blocking.
    ///
    /// # Errors
    /// Code 38 when the folder cannot be read.
    pub fn load(&self) -> Result<usize> {
        self.store.load_each(|loaded| self.load_one(loaded))
    }

    fn load_one(&self, loaded: Loaded) -> Result<()> {
        let config = Domain::parse(&loaded.text?, Mode::CONFIG)?;
        let (name, uuid) = (config.name.clone().unwrap_or_default(), config.uuid);
        if name != loaded.name {
            return Err(super::invalid(format!(
                "Domain config '{}' has unexpected name '{name}'",
                loaded.name
            )));
        }
        let Some(uuid) = uuid else { return Err(super::invalid("a definition on disk has no UUID")) };
        let mut published = Published::inactive(&name, Some(super::keep(config)));
        published.autostart = loaded.autostart;
        published.managed_save = managed::found(&self.driver.folders, &name);
        published.autostart_once = loaded.once;
        self.driver.guests.insert(&name, uuid, Guest::new(&self.driver, uuid, published))?;
        Ok(())
    }
}
