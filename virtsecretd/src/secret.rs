//! One secret: its published state, and how callers name it.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::secret::v1alpha1 as api;
use virt_model::secret::Secret as Document;
use virt_object::busy::Token;
use virt_object::managed;
use virt_secret::Value;

use crate::driver::Driver;

/// A secret's handle.
pub type Secret = managed::Managed<Driver>;
/// What a job of a secret works on.
pub type Work = managed::Work<Driver>;

/// What everybody may read without waiting. The value is only named here when it is nowhere else.
#[derive(Debug, Clone)]
pub struct Published {
    /// The document, with its UUID.
    pub document: Arc<Document>,
    /// Where the value is.
    pub held: Held,
    /// An ephemeral secret is gone with the daemon, so the daemon stays.
    pub stay: Stay,
}

/// Where a secret's value is.
#[derive(Debug, Clone, Default)]
pub enum Held {
    /// In memory, or not set: an ephemeral secret.
    Memory(Option<Arc<Value>>),
    /// On disk, if it was ever set.
    #[default]
    Disk,
}

/// A reason for the daemon not to exit when idle, or none.
#[derive(Clone, Default)]
pub struct Stay(Option<Token>);

impl std::fmt::Debug for Stay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stay({})", self.0.is_some())
    }
}

impl Published {
    /// The state of a secret with this document; `value` is what an ephemeral one holds.
    pub fn new(driver: &Driver, document: Arc<Document>, value: Option<Arc<Value>>) -> Self {
        if document.ephemeral {
            let stay = Stay(Some(driver.busy.token()));
            return Self { document, held: Held::Memory(value), stay };
        }
        Self { document, held: Held::Disk, stay: Stay::default() }
    }
}

/// The name under which the registry holds a secret: what it is used for, which only one secret can be, or its UUID.
pub fn registry_name(document: &Document, uuid: &Uuid) -> String {
    document.usage().map_or_else(|| uuid.to_string(), |(kind, id)| usage_name(kind as i32, id))
}

/// The registry's name for a use.
pub fn usage_name(kind: i32, id: &str) -> String {
    format!("{kind} {id}")
}

/// How callers name a secret.
pub fn reference(document: &Document) -> api::SecretRef {
    let uuid = document.uuid.unwrap_or_default();
    let usage = document.usage().map(|(kind, id)| api::Usage { r#type: kind as i32, id: id.to_string() });
    api::SecretRef { uuid: Bytes::copy_from_slice(uuid.as_bytes()), usage: Some(usage.unwrap_or_default()) }
}
