//! Lists of domains and looking one up.

use bytes::Bytes;
use virt_api::domain::v1alpha1::{DomainRef, GetRequest, ListRequest};
use virt_consts::{VIR_CONNECT_LIST_DOMAINS_ACTIVE, VIR_CONNECT_LIST_DOMAINS_INACTIVE};
use virt_error::{Code, Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Domains, to_wire};
use crate::refusal;

pub(super) const CALLS: &[Call] = calls! {
    keep(Domain) procs::ConnectListAllDomains => list_all;
    keep(Domain) procs::ConnectListDomains => list_ids;
    keep(Domain) procs::ConnectListDefinedDomains => list_defined;
    keep(Domain) procs::ConnectNumOfDomains => num_active;
    keep(Domain) procs::ConnectNumOfDefinedDomains => num_defined;
    keep(Domain) procs::DomainLookupByName => by_name;
    keep(Domain) procs::DomainLookupByUuid => by_uuid;
    keep(Domain) procs::DomainLookupById => by_id;
};

/// The protocol carries names, UUIDs and ids only.
fn list(filter: u32, count_only: bool) -> ListRequest {
    ListRequest { filter, count_only, references_only: !count_only, with_xml: false }
}

async fn list_all(c: Ctx, a: ConnectListAllDomainsArgs) -> Result<ConnectListAllDomainsRet> {
    let count_only = a.need_results == 0;
    let found = rpc!(c, Domains.list(list(a.flags, count_only))).await?;
    if count_only {
        return Ok(ConnectListAllDomainsRet { domains: Vec::new(), ret: found.count });
    }
    within_limit(found.domains.len())?;
    let ret = u32::try_from(found.domains.len()).unwrap_or(u32::MAX);
    let domains = found.domains.into_iter().map(|d| to_wire(d.domain)).collect::<Result<_>>()?;
    Ok(ConnectListAllDomainsRet { domains, ret })
}

async fn rows(c: &Ctx, filter: u32) -> Result<Vec<DomainRef>> {
    let found = rpc!(c, Domains.list(list(filter, false))).await?;
    Ok(found.domains.into_iter().filter_map(|d| d.domain).collect())
}

async fn count(c: Ctx, filter: u32) -> Result<i32> {
    let found = rpc!(c, Domains.list(list(filter, true))).await?;
    Ok(i32::try_from(found.count).unwrap_or(i32::MAX))
}

async fn list_ids(c: Ctx, a: ConnectListDomainsArgs) -> Result<ConnectListDomainsRet> {
    let room = room("maxids", a.maxids)?;
    let rows = rows(&c, VIR_CONNECT_LIST_DOMAINS_ACTIVE).await?;
    let ids = rows.into_iter().filter_map(|d| i32::try_from(d.id?).ok()).take(room).collect();
    Ok(ConnectListDomainsRet { ids })
}

async fn list_defined(c: Ctx, a: ConnectListDefinedDomainsArgs) -> Result<ConnectListDefinedDomainsRet> {
    let room = room("maxnames", a.maxnames)?;
    let rows = rows(&c, VIR_CONNECT_LIST_DOMAINS_INACTIVE).await?;
    Ok(ConnectListDefinedDomainsRet { names: rows.into_iter().map(|d| d.name).take(room).collect() })
}

async fn num_active(c: Ctx, (): ()) -> Result<ConnectNumOfDomainsRet> {
    Ok(ConnectNumOfDomainsRet { num: count(c, VIR_CONNECT_LIST_DOMAINS_ACTIVE).await? })
}

async fn num_defined(c: Ctx, (): ()) -> Result<ConnectNumOfDefinedDomainsRet> {
    Ok(ConnectNumOfDefinedDomainsRet { num: count(c, VIR_CONNECT_LIST_DOMAINS_INACTIVE).await? })
}

async fn get(c: Ctx, wanted: DomainRef) -> Result<NonnullDomain> {
    let row = rpc!(c, Domains.get(GetRequest { domain: Some(wanted) })).await?;
    to_wire(row.domain)
}

async fn by_name(c: Ctx, a: DomainLookupByNameArgs) -> Result<DomainLookupByNameRet> {
    if a.name.is_empty() {
        // A reference without a name names nothing; the answer is the same as for any unknown name.
        return Err(Error::new(Code::NoDomain, Domain::Qemu, "no domain with matching name ''"));
    }
    Ok(DomainLookupByNameRet { dom: get(c, DomainRef { name: a.name, ..Default::default() }).await? })
}

async fn by_uuid(c: Ctx, a: DomainLookupByUuidArgs) -> Result<DomainLookupByUuidRet> {
    Ok(DomainLookupByUuidRet {
        dom: get(c, DomainRef { uuid: Bytes::copy_from_slice(&a.uuid), ..Default::default() }).await?,
    })
}

async fn by_id(c: Ctx, a: DomainLookupByIdArgs) -> Result<DomainLookupByIdRet> {
    let id = u32::try_from(a.id).map_err(|_| {
        let function = "virDomainLookupByID";
        Error::invalid_arg(
            Domain::Domain,
            function,
            "id",
            format!("id in {function} must be zero or greater"),
        )
    })?;
    Ok(DomainLookupByIdRet { dom: get(c, DomainRef { id: Some(id), ..Default::default() }).await? })
}

fn room(name: &str, asked: i32) -> Result<usize> {
    Ok(refusal::size(name, asked, DOMAIN_LIST_MAX, "REMOTE_DOMAIN_LIST_MAX", refusal::rpc)? as usize)
}

fn within_limit(count: usize) -> Result<()> {
    if count <= DOMAIN_LIST_MAX as usize {
        return Ok(());
    }
    Err(refusal::rpc(format!("Too many domains '{count}' for limit '{DOMAIN_LIST_MAX}'")))
}
