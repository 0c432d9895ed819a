//! Passwords and passphrases that pools and volumes need: from virtsecretd, asked for where they are used.

use std::collections::HashMap;
use std::path::PathBuf;

use tokio::runtime::Handle;
use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};
use virt_model::domain::source::SecretRef;
use virt_model::secret::UsageType;
use virt_model::storage::source::PoolAuth;
use virt_secret::Value;
use virt_secret::ask::{Secrets, Wanted};

use crate::volume::Volume;

/// Where values come from. Everything here blocks.
pub trait Keys: Send + Sync {
    /// The value of a secret by UUID, or else by what it is for.
    ///
    /// # Errors
    /// Code 66 when there is no such secret or it has no value, code 8 when it is for something else.
    fn reveal(&self, uuid: Option<&Uuid>, usage: Option<&str>, kind: UsageType) -> Result<Value>;

    /// The secrets that open volumes, by the volumes' paths.
    ///
    /// # Errors
    /// Code 38 when they cannot be had.
    fn of_volumes(&self) -> Result<HashMap<String, Uuid>>;
}

/// The host's own secrets.
pub struct HostKeys {
    runtime: Handle,
    secrets: Secrets,
}

impl HostKeys {
    /// Asks the daemon whose sockets are in `sockets`; waiting is done by threads that are not `runtime`'s own.
    pub fn new(runtime: Handle, sockets: PathBuf) -> Self {
        Self { runtime, secrets: Secrets::new(sockets) }
    }
}

impl Keys for HostKeys {
    fn reveal(&self, uuid: Option<&Uuid>, usage: Option<&str>, kind: UsageType) -> Result<Value> {
        let wanted = Wanted { uuid: uuid.map(Uuid::as_bytes), usage, kind: kind as i32 };
        self.runtime.block_on(self.secrets.reveal(wanted))
    }

    fn of_volumes(&self) -> Result<HashMap<String, Uuid>> {
        let found = self.runtime.block_on(self.secrets.of_volumes())?;
        Ok(found.into_iter().filter_map(|(path, uuid)| Some((path, Uuid::from_slice(&uuid).ok()?))).collect())
    }
}

/// A host without secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn reveal(&self, _: Option<&Uuid>, _: Option<&str>, _: UsageType) -> Result<Value> {
        Err(Error::new(Code::NoSecret, Domain::Secret, "this host has no secrets"))
    }

    fn of_volumes(&self) -> Result<HashMap<String, Uuid>> {
        Ok(HashMap::new())
    }
}

/// The passphrase of an encrypted volume.
///
/// # Errors
/// As [`Keys::reveal`].
pub fn passphrase(keys: &dyn Keys, secret: &SecretRef) -> Result<Value> {
    keys.reveal(secret.uuid.as_ref(), secret.usage.as_deref(), UsageType::Volume)
}

/// The password that a pool's server wants.
///
/// # Errors
/// As [`Keys::reveal`].
pub fn password(keys: &dyn Keys, auth: &PoolAuth, kind: UsageType) -> Result<Value> {
    keys.reveal(auth.secret.uuid.as_ref(), auth.secret.usage.as_deref(), kind)
}

/// Names the secrets of volumes that were found encrypted: the ones that are for a volume of this path.
pub fn name_secrets(keys: &dyn Keys, volumes: &mut [Volume]) {
    let encrypted =
        |v: &&mut Volume| v.document.target.encryption.as_ref().is_some_and(|e| e.secrets.is_empty());
    let mut found: Vec<_> = volumes.iter_mut().filter(encrypted).collect();
    if found.is_empty() {
        return;
    }
    let known = match keys.of_volumes() {
        Ok(known) => known,
        Err(error) => return tracing::warn!(?error, "secrets of encrypted volumes are not known"),
    };
    for volume in &mut found {
        let Some(uuid) = known.get(volume.path()).copied() else { continue };
        if let Some(encryption) = volume.document.target.encryption.as_mut() {
            let kind = Some("passphrase".to_string());
            encryption.secrets.push(SecretRef { kind, uuid: Some(uuid), usage: None });
        }
    }
}
