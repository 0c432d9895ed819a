//! Lists, look-ups, documents and states: all from what guests have published.

use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain as Document;
use virt_model::domain::cpu::Cpu;
use virt_object::registry::Snapshot;

use super::check::flags;
use crate::driver::Driver;
use crate::guest::state::Kind;
use crate::guest::{CUSTOM_MONITOR, Guest, Published, not_running};

/// Groups of filter bits: of each group, one of the bits given must fit.
const GROUPS: &[&[u32]] = &[
    &[VIR_CONNECT_LIST_DOMAINS_ACTIVE, VIR_CONNECT_LIST_DOMAINS_INACTIVE],
    &[VIR_CONNECT_LIST_DOMAINS_PERSISTENT, VIR_CONNECT_LIST_DOMAINS_TRANSIENT],
    &[
        VIR_CONNECT_LIST_DOMAINS_RUNNING,
        VIR_CONNECT_LIST_DOMAINS_PAUSED,
        VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
        VIR_CONNECT_LIST_DOMAINS_OTHER,
    ],
    &[VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE],
    &[VIR_CONNECT_LIST_DOMAINS_AUTOSTART, VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART],
    &[VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT],
    &[VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT],
];

/// The bits that describe a guest.
fn bits(p: &Published) -> u32 {
    let choose = |yes: bool, on: u32, off: u32| if yes { on } else { off };
    let state = match p.state.kind() {
        Kind::Running => VIR_CONNECT_LIST_DOMAINS_RUNNING,
        Kind::Paused => VIR_CONNECT_LIST_DOMAINS_PAUSED,
        Kind::Shutoff => VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
        Kind::Shutdown | Kind::Crashed | Kind::PmSuspended => VIR_CONNECT_LIST_DOMAINS_OTHER,
    };
    choose(p.is_active(), VIR_CONNECT_LIST_DOMAINS_ACTIVE, VIR_CONNECT_LIST_DOMAINS_INACTIVE)
        | choose(p.is_persistent(), VIR_CONNECT_LIST_DOMAINS_PERSISTENT, VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
        | state
        | choose(
            p.managed_save,
            VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
            VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE,
        )
        | choose(p.autostart, VIR_CONNECT_LIST_DOMAINS_AUTOSTART, VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART)
        | choose(p.snapshots > 0, VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT)
        | choose(
            p.checkpoints > 0,
            VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
            VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT,
        )
}

/// Whether a guest is among those a filter names; no bits name all. A transient guest without a document yet is not.
pub(super) fn fits(p: &Published, filter: u32) -> bool {
    if p.document().is_none() {
        return false;
    }
    if filter == 0 {
        return true;
    }
    let bits = bits(p);
    GROUPS.iter().all(|group| {
        let mask = group.iter().fold(0, |a, b| a | b);
        filter & mask == 0 || filter & mask & bits != 0
    })
}

/// `DomainService.List`.
///
/// # Errors
/// Code 8 for unknown filter bits.
pub fn list(driver: &Driver, request: ListRequest) -> Result<ListResponse> {
    flags(request.filter, ALL_CONNECT_LIST_ALL_DOMAINS_FLAGS, "qemuConnectListAllDomains")?;
    let guests = driver.guests.list();
    let mut domains = Vec::with_capacity(if request.count_only { 0 } else { guests.len() });
    let mut count = 0;
    for guest in guests.iter() {
        let snapshot = guest.published();
        if !fits(&snapshot.value, request.filter) {
            continue;
        }
        count += 1;
        if request.references_only {
            let domain = Some(snapshot.value.reference(guest.uuid()));
            domains.push(Domain { domain, ..Domain::default() });
        } else if !request.count_only {
            let mut row = row(guest, &snapshot);
            if request.with_xml {
                row.xml = document_text(&snapshot.value, 0)?;
            }
            domains.push(row);
        }
    }
    Ok(ListResponse { domains, count })
}

/// `DomainService.Get`.
///
/// # Errors
/// Code 42.
pub fn get(driver: &Driver, request: GetRequest) -> Result<Domain> {
    let guest = driver.find(request.domain.as_ref())?;
    let snapshot = guest.published();
    Ok(row(&guest, &snapshot))
}

fn row(guest: &Guest, snapshot: &Snapshot<Published>) -> Domain {
    let p = &snapshot.value;
    let document = p.document();
    Domain {
        domain: Some(p.reference(guest.uuid())),
        state: Some(p.state_message()),
        persistent: p.is_persistent(),
        autostart: p.autostart,
        has_managed_save: p.managed_save,
        updated: p.updated,
        title: document.and_then(|d| d.title.clone()).unwrap_or_default(),
        max_memory: document.map_or(0, |d| max_memory(d)),
        vcpus: document.map_or(0, |d| vcpus(d)),
        generation: snapshot.generation,
        snapshots: p.snapshots,
        checkpoints: p.checkpoints,
        xml: String::new(),
        autostart_once: p.autostart_once,
        os_type: document.and_then(|d| d.os.kind.name.clone()).unwrap_or_default(),
    }
}

fn max_memory(d: &Document) -> u64 {
    d.memory.as_ref().map_or(0, |m| m.size.kib)
}

fn vcpus(d: &Document) -> u32 {
    d.vcpu.as_ref().map_or(1, |v| v.current.or(v.max).unwrap_or(1))
}

/// `DomainService.GetXml`.
///
/// # Errors
/// Code 42; code 8 for unknown flags; code 29 for secrets asked for by a caller who may only look.
pub fn get_xml(driver: &Driver, request: GetXmlRequest, read_only: bool) -> Result<GetXmlResponse> {
    flags(request.flags, ALL_DOMAIN_XML_FLAGS, "qemuDomainGetXMLDesc")?;
    if read_only && request.flags & (VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE) != 0 {
        return Err(Error::new(Code::OperationDenied, From::Domain, "virDomainGetXMLDesc with secure flag"));
    }
    let guest = driver.find(request.domain.as_ref())?;
    let published = guest.published();
    Ok(GetXmlResponse { xml: document_text(&published.value, request.flags)? })
}

fn document_text(p: &Published, flags: u32) -> Result<String> {
    let asked = |bit: u32| flags & bit != 0;
    let inactive = asked(VIR_DOMAIN_XML_INACTIVE) || !p.is_active();
    let mode = Mode {
        inactive,
        secure: asked(VIR_DOMAIN_XML_SECURE),
        migratable: asked(VIR_DOMAIN_XML_MIGRATABLE),
        ..Mode::LIVE
    };
    let document = if inactive { p.config.as_ref().or(p.live.as_ref()) } else { p.document() };
    // Another host is told what was asked for, not what this one made of it.
    let planned = p.planned_cpu.as_ref().filter(|_| mode.migratable && !inactive);
    if let (Some(document), Some(cpu)) = (document, planned) {
        let mut planned = Document::clone(document);
        planned.cpu = Some(Cpu::clone(cpu));
        return Ok(planned.format(mode));
    }
    document.map(|d| d.format(mode)).ok_or_else(|| Error::internal(From::Qemu, "the domain has no document"))
}

/// `DomainService.GetInfo`.
///
/// # Errors
/// Code 42.
pub fn get_info(driver: &Driver, request: DomainRequest) -> Result<InfoResponse> {
    let guest = driver.find(request.domain.as_ref())?;
    let published = guest.published();
    let p = &published.value;
    let document = p.document();
    let max_memory = document.map_or(0, |d| max_memory(d));
    let memory = document.and_then(|d| d.current_memory).map_or(max_memory, |m| m.kib);
    // A process that ends right now has used what it has used: 0 tells no more than its end does.
    let cpu_time = guest
        .shared()
        .process()
        .and_then(|process| process.stat().ok())
        .map_or(0, |s| s.user_ns + s.system_ns);
    Ok(InfoResponse {
        state: p.state.numbers().0.into(),
        max_memory,
        memory,
        vcpus: document.map_or(0, |d| vcpus(d)),
        cpu_time,
    })
}

/// `DomainService.GetState`.
///
/// # Errors
/// Code 42.
pub fn get_state(driver: &Driver, request: DomainRequest) -> Result<DomainState> {
    Ok(driver.find(request.domain.as_ref())?.published().value.state_message())
}

/// `DomainService.GetControlInfo`.
///
/// # Errors
/// Code 42; code 55 when it does not run.
pub fn get_control_info(driver: &Driver, request: DomainRequest) -> Result<ControlInfoResponse> {
    let guest = driver.find(request.domain.as_ref())?;
    if !guest.published().value.is_active() {
        return Err(not_running());
    }
    let holder = guest.holders().long.or(guest.holders().running).map(|s| s.name.to_string());
    let pending = guest.shared().monitor().and_then(|m| m.pending());
    let (state, age) = match (&pending, &holder) {
        (Some(pending), _) => (VIR_DOMAIN_CONTROL_OCCUPIED, pending.age.as_millis()),
        (None, Some(_)) => (VIR_DOMAIN_CONTROL_JOB, 0),
        (None, None) => (VIR_DOMAIN_CONTROL_OK, 0),
    };
    Ok(ControlInfoResponse {
        state: u32::try_from(state).unwrap_or_default(),
        details: 0,
        state_time: u64::try_from(age).unwrap_or(u64::MAX),
        holder: holder.unwrap_or_default(),
    })
}

/// `DomainService.GetMessages`.
///
/// # Errors
/// Code 42; code 8 for unknown flags.
pub fn get_messages(driver: &Driver, request: GetMessagesRequest) -> Result<GetMessagesResponse> {
    const TAINTING: u32 = VIR_DOMAIN_MESSAGE_TAINTING as u32;
    const DEPRECATION: u32 = VIR_DOMAIN_MESSAGE_DEPRECATION as u32;
    flags(request.flags, TAINTING | DEPRECATION, "virDomainObjGetMessages")?;
    let guest = driver.find(request.domain.as_ref())?;
    let published = guest.published();
    let wanted = request.flags == 0 || request.flags & TAINTING != 0;
    let taints = published.value.taints.iter().filter(|_| wanted);
    Ok(GetMessagesResponse { messages: taints.map(|t| format!("tainted: {}", taint_text(t))).collect() })
}

fn taint_text(taint: &str) -> &str {
    match taint {
        CUSTOM_MONITOR => "custom control monitor commands issued",
        "custom-ga-command" => "custom guest agent control commands issued",
        other => other,
    }
}

/// `DomainService.GetSecurityLabels`: one for each of the host's models, "none" and DAC.
///
/// # Errors
/// Code 42.
pub fn get_security_labels(driver: &Driver, request: DomainRequest) -> Result<SecurityLabelsResponse> {
    let guest = driver.find(request.domain.as_ref())?;
    let published = guest.published();
    let dac = published
        .value
        .live
        .as_ref()
        .and_then(|d| d.seclabels.iter().find(|l| l.model.as_deref() == Some("dac"))?.label.clone());
    let none = SecurityLabel { label: String::new(), enforcing: false };
    let dac = dac.map(|label| SecurityLabel { label, enforcing: true });
    Ok(SecurityLabelsResponse { labels: std::iter::once(none).chain(dac).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::state::{Paused, State};
    use std::sync::Arc;

    #[test]
    fn filters_are_groups() {
        let off = Published::inactive("a", Some(Arc::new(Document::default())));
        let mut paused = Published::inactive("b", None);
        assert!(
            !fits(&paused, 0) && !fits(&paused, VIR_CONNECT_LIST_DOMAINS_INACTIVE),
            "it has no document yet"
        );
        paused.live = Some(Arc::new(Document::default()));
        paused.state = State::Paused(Paused::User);
        paused.autostart = true;
        let both = |filter| (fits(&off, filter), fits(&paused, filter));
        assert_eq!(both(0), (true, true));
        assert_eq!(both(VIR_CONNECT_LIST_DOMAINS_ACTIVE), (false, true));
        assert_eq!(both(VIR_CONNECT_LIST_DOMAINS_ACTIVE | VIR_CONNECT_LIST_DOMAINS_INACTIVE), (true, true));
        assert_eq!(both(VIR_CONNECT_LIST_DOMAINS_RUNNING | VIR_CONNECT_LIST_DOMAINS_SHUTOFF), (true, false));
        assert_eq!(
            both(VIR_CONNECT_LIST_DOMAINS_TRANSIENT | VIR_CONNECT_LIST_DOMAINS_AUTOSTART),
            (false, true)
        );
        assert_eq!(
            both(VIR_CONNECT_LIST_DOMAINS_PERSISTENT | VIR_CONNECT_LIST_DOMAINS_AUTOSTART),
            (false, false)
        );
        assert_eq!(both(VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT), (true, true));
        assert_eq!(both(VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT), (false, false));
    }
}
