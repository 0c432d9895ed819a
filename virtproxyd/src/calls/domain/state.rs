//! What a domain is and how it is: read from the daemon's published snapshot.

use virt_api::domain::v1alpha1::{self as api, GetHostnameRequest, GetMessagesRequest, GetRequest};
use virt_error::Result;
use virt_wire::remote::{procs, *};
use virt_wire::xdr::Chars;

use super::super::{Call, Ctx, calls, count, rpc};
use super::{Domains, only, to_ref};
use crate::refusal;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetInfo => info;
    keep(Domain) procs::DomainGetState => state;
    ask procs::DomainGetControlInfo => control_info;
    keep(Domain) procs::DomainGetOsType => os_type;
    keep(Domain) procs::DomainIsActive => is_active;
    keep(Domain) procs::DomainIsPersistent => is_persistent;
    keep(Domain) procs::DomainIsUpdated => is_updated;
    keep(Domain) procs::DomainGetAutostart => autostart;
    ask procs::DomainGetAutostartOnce => autostart_once;
    ask procs::DomainHasManagedSaveImage => has_managed_save;
    ask procs::DomainGetSecurityLabel => security_label;
    ask procs::DomainGetSecurityLabelList => security_labels;
    ask procs::DomainGetMessages => messages;
    ask procs::DomainGetHostname => hostname;
};

async fn info(c: Ctx, a: DomainGetInfoArgs) -> Result<DomainGetInfoRet> {
    let info = rpc!(c, Domains.get_info(only(a.dom))).await?;
    Ok(DomainGetInfoRet {
        state: u8::try_from(info.state).unwrap_or_default(),
        max_mem: info.max_memory,
        memory: info.memory,
        nr_virt_cpu: u16::try_from(info.vcpus).unwrap_or(u16::MAX),
        cpu_time: info.cpu_time,
    })
}

async fn state(c: Ctx, a: DomainGetStateArgs) -> Result<DomainGetStateRet> {
    refusal::no_flags(a.flags, "qemuDomainGetState")?;
    let state = rpc!(c, Domains.get_state(only(a.dom))).await?;
    Ok(DomainGetStateRet { state: state.state, reason: state.reason })
}

async fn control_info(c: Ctx, a: DomainGetControlInfoArgs) -> Result<DomainGetControlInfoRet> {
    refusal::no_flags(a.flags, "qemuDomainGetControlInfo")?;
    let info = rpc!(c, Domains.get_control_info(only(a.dom))).await?;
    Ok(DomainGetControlInfoRet { state: info.state, details: info.details, state_time: info.state_time })
}

/// The domain's row, which answers most small questions.
async fn row(c: &Ctx, dom: NonnullDomain) -> Result<api::Domain> {
    rpc!(c, Domains.get(GetRequest { domain: to_ref(dom) })).await
}

async fn os_type(c: Ctx, a: DomainGetOsTypeArgs) -> Result<DomainGetOsTypeRet> {
    Ok(DomainGetOsTypeRet { r#type: row(&c, a.dom).await?.os_type })
}

async fn is_active(c: Ctx, a: DomainIsActiveArgs) -> Result<DomainIsActiveRet> {
    let row = row(&c, a.dom).await?;
    Ok(DomainIsActiveRet { active: row.domain.is_some_and(|d| d.id.is_some()).into() })
}

async fn is_persistent(c: Ctx, a: DomainIsPersistentArgs) -> Result<DomainIsPersistentRet> {
    Ok(DomainIsPersistentRet { persistent: row(&c, a.dom).await?.persistent.into() })
}

async fn is_updated(c: Ctx, a: DomainIsUpdatedArgs) -> Result<DomainIsUpdatedRet> {
    Ok(DomainIsUpdatedRet { updated: row(&c, a.dom).await?.updated.into() })
}

async fn autostart(c: Ctx, a: DomainGetAutostartArgs) -> Result<DomainGetAutostartRet> {
    Ok(DomainGetAutostartRet { autostart: row(&c, a.dom).await?.autostart.into() })
}

async fn autostart_once(c: Ctx, a: DomainGetAutostartOnceArgs) -> Result<DomainGetAutostartOnceRet> {
    Ok(DomainGetAutostartOnceRet { autostart: row(&c, a.dom).await?.autostart_once.into() })
}

async fn has_managed_save(c: Ctx, a: DomainHasManagedSaveImageArgs) -> Result<DomainHasManagedSaveImageRet> {
    refusal::no_flags(a.flags, "qemuDomainHasManagedSaveImage")?;
    Ok(DomainHasManagedSaveImageRet { result: row(&c, a.dom).await?.has_managed_save.into() })
}

async fn labels(c: &Ctx, dom: NonnullDomain) -> Result<Vec<DomainGetSecurityLabelRet>> {
    let labels = rpc!(c, Domains.get_security_labels(only(dom))).await?.labels;
    Ok(labels.into_iter().map(label).collect())
}

/// A label with its closing NUL, as the reference sends it.
fn label(label: api::SecurityLabel) -> DomainGetSecurityLabelRet {
    let mut text = label.label.into_bytes();
    text.truncate(SECURITY_LABEL_MAX as usize - 1);
    text.push(0);
    DomainGetSecurityLabelRet { label: Chars(text), enforcing: label.enforcing.into() }
}

async fn security_label(c: Ctx, a: DomainGetSecurityLabelArgs) -> Result<DomainGetSecurityLabelRet> {
    let first = labels(&c, a.dom).await?.into_iter().next();
    Ok(first.unwrap_or_else(|| label(api::SecurityLabel::default())))
}

async fn security_labels(c: Ctx, a: DomainGetSecurityLabelListArgs) -> Result<DomainGetSecurityLabelListRet> {
    let labels = labels(&c, a.dom).await?;
    Ok(DomainGetSecurityLabelListRet { ret: count(labels.len()), labels })
}

async fn messages(c: Ctx, a: DomainGetMessagesArgs) -> Result<DomainGetMessagesRet> {
    let request = GetMessagesRequest { domain: to_ref(a.dom), flags: a.flags };
    Ok(DomainGetMessagesRet { msgs: rpc!(c, Domains.get_messages(request)).await?.messages })
}

async fn hostname(c: Ctx, a: DomainGetHostnameArgs) -> Result<DomainGetHostnameRet> {
    let request = GetHostnameRequest { domain: to_ref(a.dom), flags: a.flags };
    Ok(DomainGetHostnameRet { hostname: rpc!(c, Domains.get_hostname(request)).await?.hostname })
}
