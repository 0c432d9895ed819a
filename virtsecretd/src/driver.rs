//! What all secrets of the daemon share.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use virt_api::secret::v1alpha1::watch_response::Event;
use virt_api::secret::v1alpha1::{LifecycleEvent, SecretRef, Usage, WatchResponse};
use virt_error::{Code, Domain, Error, Result};
use virt_model::secret::Secret as Document;
use virt_object::blocking;
use virt_object::busy::Busy;
use virt_object::events::Journal;
use virt_object::managed;
use virt_object::owner::Kind;
use virt_object::registry::{self, Registry};
use virt_object::store::Store;
use virt_rpc::watch;
use virt_secret::Value;

use crate::secret::{Held, Published, Secret, reference, usage_name};
use crate::vault::Vault;

/// The driver.
pub struct Driver {
    /// All secrets.
    pub secrets: Arc<Registry<Secret>>,
    /// What the owners share.
    pub kind: Arc<Kind>,
    /// The documents on disk, each named by its UUID.
    pub store: Arc<Store>,
    /// The values on disk.
    pub vault: Arc<Vault>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// Reasons to stay.
    pub busy: Busy,
}

impl managed::Driver for Driver {
    type State = Published;

    fn objects(&self) -> &Arc<Registry<Secret>> {
        &self.secrets
    }

    fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    fn name(_: &Published) -> &str {
        // A secret has none.
        ""
    }

    fn gone(&self, uuid: &Uuid, _: &str) -> Error {
        no_secret(format!("no secret with matching uuid '{uuid}'"))
    }
}

impl Driver {
    /// A driver without secrets, with its files in `dir`.
    pub fn new(dir: &Path, vault: Vault, kind: Kind, journal: Arc<Journal>, busy: Busy) -> Arc<Self> {
        Arc::new(Self {
            secrets: Arc::new(Registry::new(registry::SECRET)),
            kind: Arc::new(kind),
            store: Arc::new(Store::private(dir)),
            vault: Arc::new(vault),
            journal,
            busy,
        })
    }

    /// The secret a request names: by UUID, or else by its use.
    ///
    /// # Errors
    /// Code 66 in the reference's words, code 8 when none is named.
    pub fn find(&self, wanted: Option<&SecretRef>) -> Result<Arc<Secret>> {
        let none = || Error::new(Code::InvalidArg, Domain::Secret, "no secret is named");
        let wanted = wanted.ok_or_else(none)?;
        if wanted.uuid.is_empty() {
            let Usage { r#type, id } = wanted.usage.as_ref().ok_or_else(none)?;
            let found = self.secrets.by_name(&usage_name(*r#type, id));
            return found.ok_or_else(|| no_secret(format!("no secret with matching usage '{id}'")));
        }
        let uuid = Uuid::from_slice(&wanted.uuid)
            .map_err(|_| Error::new(Code::InvalidArg, Domain::Secret, "a UUID has 16 bytes"))?;
        let missing = || no_secret(format!("no secret with matching uuid '{uuid}'"));
        self.secrets.by_uuid(&uuid).ok_or_else(missing)
    }

    /// A secret's value.
    ///
    /// # Errors
    /// Code 66 when it has none, what reading its file says.
    pub async fn value(&self, secret: &Secret) -> Result<Arc<Value>> {
        let uuid = *secret.uuid();
        let found = match &secret.published().value.held {
            Held::Memory(value) => value.clone(),
            Held::Disk => {
                let vault = self.vault.clone();
                blocking::run(move || vault.read(&uuid)).await?.map(Arc::new)
            }
        };
        found.ok_or_else(|| no_secret(format!("secret '{uuid}' does not have a value")))
    }

    /// Tells a change of the life cycle (virSecretEventLifecycleType).
    pub fn tell_lifecycle(&self, document: &Document, event: i32) {
        self.tell(document, Event::Lifecycle(LifecycleEvent { event }));
    }

    /// Tells an event of a secret.
    pub fn tell(&self, document: &Document, event: Event) {
        let secret = Some(reference(document));
        watch::tell(&self.journal, &WatchResponse { cursor: None, secret, event: Some(event) });
    }
}

fn no_secret(text: String) -> Error {
    Error::new(Code::NoSecret, Domain::Secret, text)
}
