//! Calls about secrets. Values are handed to virtsecretd and fetched from it as sealed memory files.

use std::os::fd::AsFd as _;

use bytes::Bytes;
use virt_api::common::v1alpha1::Ticket;
use virt_api::secret::v1alpha1 as api;
use virt_api::secret::v1alpha1::secret_service_client::SecretServiceClient as Secrets;
use virt_error::{Domain, Error, Result};
use virt_secret::Value;
use virt_wire::remote::{procs, *};
use virt_wire::xdr::Opaque;

use super::{Call, Ctx, calls, count, malformed, rpc};
use crate::route::Object;

pub(super) const CALLS: &[Call] = calls! {
    keep(Secret) procs::ConnectListAllSecrets => list_all;
    keep(Secret) procs::ConnectNumOfSecrets => number;
    keep(Secret) procs::ConnectListSecrets => uuids;
    keep(Secret) procs::SecretLookupByUuid => by_uuid;
    keep(Secret) procs::SecretLookupByUsage => by_usage;
    ask procs::SecretDefineXml => define;
    ask procs::SecretGetXmlDesc => get_xml;
    ask procs::SecretSetValue => set_value;
    ask procs::SecretGetValue => get_value;
    ask procs::SecretUndefine => undefine;
};

/// A client's secret object in a request.
fn to_ref(secret: NonnullSecret) -> Option<api::SecretRef> {
    let usage = Some(api::Usage { r#type: secret.usage_type, id: secret.usage_id });
    Some(api::SecretRef { uuid: Bytes::copy_from_slice(&secret.uuid), usage })
}

/// A daemon's secret as clients get it.
pub(crate) fn to_wire(secret: Option<api::SecretRef>) -> Result<NonnullSecret> {
    let secret = secret.ok_or_else(|| malformed("secret"))?;
    let uuid = secret.uuid.as_ref().try_into().map_err(|_| malformed("secret's UUID"))?;
    let usage = secret.usage.unwrap_or_default();
    Ok(NonnullSecret { uuid, usage_type: usage.r#type, usage_id: usage.id })
}

async fn rows(c: Ctx, filter: u32, count_only: bool) -> Result<api::ListResponse> {
    rpc!(c, Secret: Secrets.list(api::ListRequest { filter, count_only })).await
}

async fn list_all(c: Ctx, a: ConnectListAllSecretsArgs) -> Result<ConnectListAllSecretsRet> {
    let list = rows(c, a.flags, a.need_results == 0).await?;
    let secrets = list.secrets.into_iter().map(|s| to_wire(s.secret)).collect::<Result<_>>()?;
    Ok(ConnectListAllSecretsRet { secrets, ret: list.count })
}

async fn number(c: Ctx, (): ()) -> Result<ConnectNumOfSecretsRet> {
    Ok(ConnectNumOfSecretsRet { num: count(rows(c, 0, true).await?.count as usize) })
}

async fn uuids(c: Ctx, a: ConnectListSecretsArgs) -> Result<ConnectListSecretsRet> {
    let most = usize::try_from(a.maxuuids).unwrap_or(0);
    let list = rows(c, 0, false).await?.secrets.into_iter().take(most);
    let text = |s: api::Secret| Ok(uuid::Uuid::from_bytes(to_wire(s.secret)?.uuid).to_string());
    Ok(ConnectListSecretsRet { uuids: list.map(text).collect::<Result<_>>()? })
}

async fn look_up(c: Ctx, secret: api::SecretRef) -> Result<NonnullSecret> {
    to_wire(rpc!(c, Secret: Secrets.get(api::SecretRequest { secret: Some(secret) })).await?.secret)
}

async fn by_uuid(c: Ctx, a: SecretLookupByUuidArgs) -> Result<SecretLookupByUuidRet> {
    let wanted = api::SecretRef { uuid: Bytes::copy_from_slice(&a.uuid), usage: None };
    Ok(SecretLookupByUuidRet { secret: look_up(c, wanted).await? })
}

async fn by_usage(c: Ctx, a: SecretLookupByUsageArgs) -> Result<SecretLookupByUsageRet> {
    let usage = Some(api::Usage { r#type: a.usage_type, id: a.usage_id });
    let wanted = api::SecretRef { uuid: Bytes::new(), usage };
    Ok(SecretLookupByUsageRet { secret: look_up(c, wanted).await? })
}

async fn define(c: Ctx, a: SecretDefineXmlArgs) -> Result<SecretDefineXmlRet> {
    let request = api::DefineRequest { xml: a.xml, flags: a.flags };
    Ok(SecretDefineXmlRet { secret: to_wire(rpc!(c, Secret: Secrets.define(request)).await?.secret)? })
}

async fn get_xml(c: Ctx, a: SecretGetXmlDescArgs) -> Result<SecretGetXmlDescRet> {
    let request = api::GetXmlRequest { secret: to_ref(a.secret), flags: a.flags };
    Ok(SecretGetXmlDescRet { xml: rpc!(c, Secret: Secrets.get_xml(request)).await?.xml })
}

async fn set_value(c: Ctx, mut a: SecretSetValueArgs) -> Result<()> {
    let value = Value::take(&mut a.value.0);
    if value.bytes().is_empty() {
        let text = "value in virSecretSetValue must not be NULL";
        return Err(Error::invalid_arg(Domain::Secret, "virSecretSetValue", "value", text));
    }
    let file = value.to_memfd()?;
    let session = c.link.session(c.info, Object::Secret).await?;
    let token = session.daemon().offer(&[file.as_fd()]).await?;
    let value = Some(Ticket { token });
    let request = api::SetValueRequest { secret: to_ref(a.secret), value, flags: a.flags };
    rpc!(c, Secret: Secrets.set_value(request)).await?;
    Ok(())
}

async fn get_value(c: Ctx, a: SecretGetValueArgs) -> Result<SecretGetValueRet> {
    let request = api::GetValueRequest { secret: to_ref(a.secret), flags: a.flags };
    let ticket = rpc!(c, Secret: Secrets.get_value(request)).await?;
    let value = Value::from_memfd(c.claim(Object::Secret, &ticket.token).await?)?;
    Ok(SecretGetValueRet { value: Opaque(value.bytes().to_vec()) })
}

async fn undefine(c: Ctx, a: SecretUndefineArgs) -> Result<()> {
    rpc!(c, Secret: Secrets.undefine(api::SecretRequest { secret: to_ref(a.secret) })).await?;
    Ok(())
}
