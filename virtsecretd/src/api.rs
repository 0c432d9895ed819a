//! `SecretService`: check, convert, ask, convert. Values come and go through the descriptor channel.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::common::v1alpha1::Ticket;
use virt_api::secret::v1alpha1::secret_service_server::SecretService;
use virt_api::secret::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_host::schema::{self, Schema};
use virt_model::secret::UsageType;
use virt_object::blocking;
use virt_rpc::descriptor::Descriptors;
use virt_rpc::watch::{self, Watched};
use virt_rpc::{Caller, answer, check};
use virt_secret::Value;

use crate::definitions;
use crate::driver::Driver;
use crate::secret::{Secret as Handle, reference};

type Answer<T> = Result<Response<T>, Status>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct SecretApi {
    driver: Arc<Driver>,
    descriptors: Descriptors,
}

impl SecretApi {
    /// For this driver's secrets.
    pub fn new(driver: Arc<Driver>, descriptors: Descriptors) -> Self {
        Self { driver, descriptors }
    }

    async fn hand_out(&self, secret: &Handle, caller: &Caller) -> Result<Ticket> {
        let value = self.driver.value(secret).await?;
        Ok(Ticket { token: self.descriptors.park(vec![value.to_memfd()?], caller)? })
    }
}

fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    check::flags(Domain::Secret, given, known, function)
}

fn row(secret: &Handle) -> Secret {
    let published = secret.published();
    let document = &published.value.document;
    Secret {
        secret: Some(reference(document)),
        ephemeral: document.ephemeral,
        private: document.private,
        generation: published.generation,
    }
}

/// Whether a row passes: in each group of filters, no bit means all.
fn passes(row: &Secret, filter: u32) -> bool {
    let groups = [
        (VIR_CONNECT_LIST_SECRETS_EPHEMERAL, VIR_CONNECT_LIST_SECRETS_NO_EPHEMERAL, row.ephemeral),
        (VIR_CONNECT_LIST_SECRETS_PRIVATE, VIR_CONNECT_LIST_SECRETS_NO_PRIVATE, row.private),
    ];
    check::passes(filter, &groups)
}

/// Only a daemon of this host that asks for itself is told what no client may know: it runs as our own user, and it is
/// not virtproxyd, whose calls are made in a client's session.
fn is_daemon(caller: &Caller) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if caller.session().is_none() && caller.connection().uid == own {
        return Ok(());
    }
    tracing::warn!(caller = ?caller.connection(), "a secret's value was asked for by somebody else than a daemon");
    Err(Error::new(Code::AccessDenied, Domain::Secret, "only daemons of this host are told this"))
}

/// A secret that is for nothing in particular may be used for anything, others only for their own use.
fn check_use(secret: &Handle, wanted: Option<i32>) -> Result<()> {
    let kind = secret.published().value.document.usage().map_or(UsageType::None, |(kind, _)| kind);
    let Some(wanted) = wanted.filter(|wanted| kind != UsageType::None && *wanted != kind as i32) else {
        return Ok(());
    };
    let known = UsageType::ALL.iter().find(|(_, kind)| *kind as i32 == wanted);
    let wanted = known.map_or("none", |(name, _)| name);
    let text = format!("secret with uuid {} is of type '{kind}' not expected '{wanted}' type", secret.uuid());
    Err(Error::new(Code::InvalidArg, Domain::Secret, text))
}

#[tonic::async_trait]
impl SecretService for SecretApi {
    type WatchStream = Watched<WatchResponse>;

    async fn define(&self, request: Request<DefineRequest>) -> Answer<Secret> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_SECRET_DEFINE_VALIDATE, "secretDefineXML")?;
            let asked = request.flags & VIR_SECRET_DEFINE_VALIDATE != 0;
            schema::check(asked, Schema::Secret, Domain::Secret, &request.xml).await?;
            let document = definitions::define(&self.driver, request.xml).await?;
            let (ephemeral, private) = (document.ephemeral, document.private);
            Ok(Secret { secret: Some(reference(&document)), ephemeral, private, generation: 0 })
        })
        .await
    }

    async fn undefine(&self, request: Request<SecretRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let secret = self.driver.find(request.secret.as_ref())?;
            definitions::undefine(&secret).await.map(|()| Empty {})
        })
        .await
    }

    async fn set_value(&self, request: Request<SetValueRequest>) -> Answer<Empty> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "secretSetValue")?;
            let secret = self.driver.find(request.secret.as_ref())?;
            let missing = || {
                let text = "value in virSecretSetValue must not be NULL";
                Error::invalid_arg(Domain::Secret, "virSecretSetValue", "value", text)
            };
            let ticket = request.value.ok_or_else(missing)?;
            let mut offered = self.descriptors.take_offer(&ticket.token, &caller)?;
            let file = offered.pop().filter(|_| offered.is_empty()).ok_or_else(missing)?;
            // Reading memory blocks for no time worth a thread, but who knows what was handed over.
            let value = blocking::run(move || Value::from_memfd(file)).await?;
            if value.bytes().is_empty() {
                return Err(missing());
            }
            definitions::set_value(&secret, Arc::new(value)).await.map(|()| Empty {})
        })
        .await
    }

    async fn get_value(&self, request: Request<GetValueRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "secretGetValue")?;
            let secret = self.driver.find(request.secret.as_ref())?;
            if secret.published().value.document.private {
                return Err(Error::new(Code::InvalidSecret, Domain::Secret, "secret is private"));
            }
            self.hand_out(&secret, &caller).await
        })
        .await
    }

    async fn reveal(&self, request: Request<RevealRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        answer(async {
            is_daemon(&caller)?;
            let secret = self.driver.find(request.secret.as_ref())?;
            check_use(&secret, request.usage_type)?;
            tracing::debug!(uuid = %secret.uuid(), pid = caller.connection().pid, "a daemon is told a value");
            self.hand_out(&secret, &caller).await
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.filter, 0xf, "secretConnectListAllSecrets")?;
            let all = self.driver.secrets.list();
            let mut secrets: Vec<Secret> =
                all.iter().map(|s| row(s)).filter(|r| passes(r, request.filter)).collect();
            let count = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
            if request.count_only {
                secrets.clear();
            }
            Ok(ListResponse { secrets, count })
        })
        .await
    }

    async fn get(&self, request: Request<SecretRequest>) -> Answer<Secret> {
        let request = request.into_inner();
        answer(async { Ok(row(&*self.driver.find(request.secret.as_ref())?)) }).await
    }

    async fn get_xml(&self, request: Request<GetXmlRequest>) -> Answer<GetXmlResponse> {
        let request = request.into_inner();
        answer(async {
            let secret = self.driver.find(request.secret.as_ref())?;
            flags(request.flags, 0, "secretGetXMLDesc")?;
            Ok(GetXmlResponse { xml: secret.published().value.document.format() })
        })
        .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        answer(async {
            let only = match &request.secret {
                Some(wanted) => Some(*self.driver.find(Some(wanted))?.uuid()),
                None => None,
            };
            watch::watch(&self.driver.journal, request.after, move |told: &WatchResponse| {
                only.is_none_or(|uuid| {
                    told.secret.as_ref().is_some_and(|s| s.uuid.as_ref() == uuid.as_bytes())
                })
            })
        })
        .await
    }
}
