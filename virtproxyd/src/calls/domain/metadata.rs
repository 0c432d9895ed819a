//! Title, description and the applications' own elements.

use virt_api::domain::v1alpha1::{GetMetadataRequest, SetMetadataRequest};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Domains, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetMetadata => get;
    ask procs::DomainSetMetadata => set;
};

async fn get(c: Ctx, a: DomainGetMetadataArgs) -> Result<DomainGetMetadataRet> {
    let request = GetMetadataRequest { domain: to_ref(a.dom), r#type: a.r#type, uri: a.uri, flags: a.flags };
    Ok(DomainGetMetadataRet { metadata: rpc!(c, Domains.get_metadata(request)).await?.metadata })
}

async fn set(c: Ctx, a: DomainSetMetadataArgs) -> Result<()> {
    let request = SetMetadataRequest {
        domain: to_ref(a.dom),
        r#type: a.r#type,
        metadata: a.metadata,
        key: a.key,
        uri: a.uri,
        flags: a.flags,
    };
    rpc!(c, Domains.set_metadata(request)).await?;
    Ok(())
}
