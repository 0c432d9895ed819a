//! How a daemon asks virtsecretd: values by descriptor, and which secrets volumes have.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use virt_api::secret::v1alpha1::secret_service_client::SecretServiceClient;
use virt_api::secret::v1alpha1::{ListRequest, RevealRequest, SecretRef, Usage};
use virt_error::{Code, Domain, Error, Result};
use virt_rpc::client::Daemon;
use virt_rpc::{client, from_status};

use crate::Value;

/// How long virtsecretd may take for one question.
const PATIENCE: Duration = Duration::from_secs(30);
/// A secret that opens volumes, from virSecretUsageType.
const VOLUME: i32 = 1;

/// A secret as a document names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its 16 bytes; what it is for decides when there are none.
    pub uuid: Option<&'a [u8; 16]>,
    /// A volume's path, a target or a name.
    pub usage: Option<&'a str>,
    /// What it must be for, from virSecretUsageType; a secret that is for nothing in particular will do too.
    pub kind: i32,
}

/// virtsecretd as another daemon sees it.
pub struct Secrets {
    sockets: PathBuf,
    daemon: OnceLock<Daemon>,
}

impl Secrets {
    /// The daemon whose sockets are in `sockets`; it is reached when the first secret is needed.
    pub fn new(sockets: PathBuf) -> Self {
        Self { sockets, daemon: OnceLock::new() }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.get_or_init(|| Daemon::new(&self.sockets, "virtsecretd"))
    }

    /// A secret's value.
    ///
    /// # Errors
    /// Code 66 when there is no such secret or it has no value, code 8 when it is for something else, code 38 when the
    /// daemon is not reached.
    pub async fn reveal(&self, wanted: Wanted<'_>) -> Result<Value> {
        let daemon = self.daemon();
        let mut service = client!(SecretServiceClient, daemon);
        let secret = match wanted.uuid {
            Some(uuid) => SecretRef { uuid: Bytes::copy_from_slice(uuid), usage: None },
            None => {
                let id = wanted.usage.unwrap_or_default().to_string();
                SecretRef { uuid: Bytes::new(), usage: Some(Usage { r#type: wanted.kind, id }) }
            }
        };
        let request = RevealRequest { secret: Some(secret), usage_type: Some(wanted.kind) };
        in_time(async {
            let ticket = service.reveal(request).await.map_err(|s| from_status(&s))?.into_inner();
            let file = daemon.claim(&ticket.token).await?.pop();
            let none = || Error::new(Code::Rpc, Domain::Rpc, "expected one descriptor");
            Value::from_memfd(file.ok_or_else(none)?)
        })
        .await
    }

    /// The UUIDs of the secrets that open volumes, by the volumes' paths.
    ///
    /// # Errors
    /// Code 38 when the daemon is not reached.
    pub async fn of_volumes(&self) -> Result<HashMap<String, Bytes>> {
        let daemon = self.daemon();
        let mut service = client!(SecretServiceClient, daemon);
        let request = ListRequest { filter: 0, count_only: false };
        let rows = in_time(async { service.list(request).await.map_err(|s| from_status(&s)) }).await?;
        let secrets = rows.into_inner().secrets.into_iter().filter_map(|row| row.secret);
        let path = |s: SecretRef| Some((s.usage.filter(|u| u.r#type == VOLUME)?.id, s.uuid));
        Ok(secrets.filter_map(path).collect())
    }
}

async fn in_time<R>(call: impl Future<Output = Result<R>>) -> Result<R> {
    let late = |_| Error::new(Code::OperationTimeout, Domain::Secret, "virtsecretd did not answer in time");
    tokio::time::timeout(PATIENCE, call).await.map_err(late)?
}
