//! Start, create, suspend, resume, shutdown, reboot, reset, destroy.

use std::sync::Arc;

use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::schema::{self, Schema};
use virt_model::domain::Domain as Document;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;
use virt_rpc::Session;

use super::check::flags;
use crate::agent;
use crate::definitions::Definitions;
use crate::driver::Driver;
use crate::guest::start::{Saved, Start, has_agent};
use crate::guest::{Guest, Published, Work, not_running, stop};
use crate::process::ended::blocking;

const START: Spec = Spec::new("start", Class::Lifecycle);

/// `DomainService.Start`.
///
/// # Errors
/// Code 42; code 55 when it runs; whatever the start says.
pub async fn start(
    definitions: &Definitions,
    request: StartRequest,
    session: Option<Session>,
) -> Result<DomainResponse> {
    let known = VIR_DOMAIN_START_PAUSED
        | VIR_DOMAIN_START_AUTODESTROY
        | VIR_DOMAIN_START_BYPASS_CACHE
        | VIR_DOMAIN_START_FORCE_BOOT
        | VIR_DOMAIN_START_RESET_NVRAM;
    flags(request.flags, known, "qemuDomainCreateWithFlags")?;
    let driver = definitions.driver();
    let guest = driver.find(request.domain.as_ref())?;
    let (how, afresh) = (how(request.flags), request.flags & VIR_DOMAIN_START_FORCE_BOOT != 0);
    let starter = definitions.clone();
    guest
        .work(START, move |work| Box::pin(async move { Box::pin(starter.start(work, how, afresh)).await }))
        .await?;
    end_with_session(&guest, driver, request.flags, session)?;
    Ok(DomainResponse { domain: Some(guest.reference()) })
}

/// `DomainService.Create`.
///
/// # Errors
/// What is wrong with the document; code 9 when its name or UUID is another guest's; code 55 when it runs.
pub async fn create(
    definitions: &Definitions,
    request: CreateRequest,
    session: Option<Session>,
) -> Result<DomainResponse> {
    let known = VIR_DOMAIN_START_PAUSED
        | VIR_DOMAIN_START_AUTODESTROY
        | VIR_DOMAIN_START_VALIDATE
        | VIR_DOMAIN_START_RESET_NVRAM;
    flags(request.flags, known, "qemuDomainCreateXML")?;
    let asked = request.flags & VIR_DOMAIN_START_VALIDATE != 0;
    schema::check(asked, Schema::Domain, From::Qemu, &request.xml).await?;
    let driver = definitions.driver();
    let (reader, xml) = (definitions.clone(), request.xml);
    let document = Arc::new(blocking(move || reader.prepare(&xml)).await??);
    let guest = start_as_transient(driver, document, how(request.flags), None).await?;
    end_with_session(&guest, driver, request.flags, session)?;
    Ok(DomainResponse { domain: Some(guest.reference()) })
}

/// Starts a document as a guest that is forgotten when it ends, unless it is a defined one; from a saved state, if there
/// is one.
///
/// # Errors
/// Code 9 when its name or UUID is another guest's; code 55 when it runs; whatever the start says.
pub async fn start_as_transient(
    driver: &Arc<Driver>,
    document: Arc<Document>,
    how: Start,
    saved: Option<Saved>,
) -> Result<Arc<Guest>> {
    let name = document.name.clone().unwrap_or_default();
    let uuid = document.uuid.ok_or_else(|| Error::internal(From::Qemu, "the document has no UUID"))?;
    virt_object::names::DOMAIN.check(&name)?;
    loop {
        let (guest, existed) = match driver.guests.claim(&name, uuid).await? {
            Claim::Existing(guest) => (guest, true),
            Claim::New(reservation) => {
                (reservation.commit(Guest::new(driver, uuid, Published::inactive(&name, None))), false)
            }
        };
        let document = document.clone();
        let saved = saved.as_ref().map(Saved::again).transpose()?;
        match guest.work(START, move |work| Box::pin(start_transient(work, document, how, saved))).await {
            Ok(()) => return Ok(guest),
            // Removed before the start's turn came: it is started as a new one.
            Err(error) if existed && error.code() == Code::NoDomain => {}
            Err(error) => return Err(error),
        }
    }
}

async fn start_transient(
    work: &mut Work,
    document: Arc<Document>,
    how: Start,
    saved: Option<Saved>,
) -> Result<()> {
    let name = work.published().value.name.clone();
    if work.state().is_active() {
        let text = format!("domain is already active as '{name}'");
        return Err(Error::new(Code::OperationInvalid, From::Domain, text));
    }
    let started = Box::pin(work.start_from(document, how, saved)).await;
    if started.is_err() && !work.published().value.is_persistent() {
        work.driver.guests.remove(&work.uuid);
    }
    started
}

fn how(flags: u32) -> Start {
    let given = |bit| flags & bit != 0;
    Start {
        paused: given(VIR_DOMAIN_START_PAUSED),
        reset_nvram: given(VIR_DOMAIN_START_RESET_NVRAM),
        bypass_cache: given(VIR_DOMAIN_START_BYPASS_CACHE),
    }
}

/// A guest started for its client's life ends with the client's session.
fn end_with_session(
    guest: &Arc<Guest>,
    driver: &Arc<Driver>,
    flags: u32,
    session: Option<Session>,
) -> Result<()> {
    if flags & VIR_DOMAIN_START_AUTODESTROY == 0 {
        return Ok(());
    }
    let Some(session) = session else {
        let text = "a guest that ends with its client needs a session";
        return Err(Error::new(Code::ArgumentUnsupported, From::Qemu, text));
    };
    let (driver, uuid, id) = (driver.clone(), *guest.uuid(), guest.published().value.id);
    session.on_close(format!("autodestroy {uuid}"), move || async move {
        let Some(guest) = driver.guests.by_uuid(&uuid) else { return };
        // Started anew since: no longer this client's.
        if guest.published().value.id != id || id.is_none() {
            return;
        }
        if let Err(error) = stop::destroy(&guest, false).await {
            tracing::error!(?error, %uuid, "a guest could not end with its client");
        }
    })
}

/// `DomainService.Suspend`.
///
/// # Errors
/// Code 42; code 55 when it does not run.
pub async fn suspend(driver: &Driver, request: DomainRequest) -> Result<Empty> {
    let guest = running(driver, request.domain.as_ref())?;
    guest.work(Spec::new("suspend", Class::Lifecycle), |w| Box::pin(w.suspend())).await?;
    Ok(Empty {})
}

/// `DomainService.Resume`.
///
/// # Errors
/// Code 42; code 55 when it does not run, or runs already.
pub async fn resume(driver: &Driver, request: DomainRequest) -> Result<Empty> {
    let guest = running(driver, request.domain.as_ref())?;
    guest.work(Spec::new("resume", Class::Lifecycle), |w| Box::pin(w.resume())).await?;
    Ok(Empty {})
}

/// `DomainService.Reset`.
///
/// # Errors
/// Code 42; code 55 when it does not run.
pub async fn reset(driver: &Driver, request: ResetRequest) -> Result<Empty> {
    flags(request.flags, 0, "qemuDomainReset")?;
    let guest = running(driver, request.domain.as_ref())?;
    guest.work(Spec::new("reset", Class::Lifecycle), |w| Box::pin(w.reset())).await?;
    Ok(Empty {})
}

/// `DomainService.Wakeup`.
///
/// # Errors
/// Code 42; code 55 when it does not run; code 1 with QEMU's text when it does not sleep.
pub async fn wakeup(driver: &Driver, request: WakeupRequest) -> Result<Empty> {
    flags(request.flags, 0, "qemuDomainPMWakeup")?;
    let guest = running(driver, request.domain.as_ref())?;
    guest.work(Spec::new("wakeup", Class::Lifecycle), |w| Box::pin(w.wake_up())).await?;
    Ok(Empty {})
}

/// `DomainService.Shutdown`: by the guest agent when it is there and not ruled out, else by the power button.
///
/// # Errors
/// Code 42; code 55 when it does not run; those of the agent when only it was asked for.
pub async fn shutdown(driver: &Driver, request: ShutdownRequest) -> Result<Empty> {
    let (agent, acpi) = (VIR_DOMAIN_SHUTDOWN_GUEST_AGENT, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    flags(request.flags, agent | acpi, "qemuDomainShutdownFlags")?;
    let guest = driver.find(request.domain.as_ref())?;
    if by_agent(&guest, request.flags, agent, acpi, agent::Power::Down).await? {
        return Ok(Empty {});
    }
    guest.work(Spec::new("shutdown", Class::Lifecycle), |w| Box::pin(w.power_button(false))).await?;
    Ok(Empty {})
}

/// `DomainService.Reboot`: as [`shutdown`], and the machine starts again afterwards.
///
/// # Errors
/// As [`shutdown`].
pub async fn reboot(driver: &Driver, request: RebootRequest) -> Result<Empty> {
    let (agent, acpi) = (VIR_DOMAIN_REBOOT_GUEST_AGENT, VIR_DOMAIN_REBOOT_ACPI_POWER_BTN);
    flags(request.flags, agent | acpi, "qemuDomainReboot")?;
    let guest = running(driver, request.domain.as_ref())?;
    if by_agent(&guest, request.flags, agent, acpi, agent::Power::Reboot).await? {
        return Ok(Empty {});
    }
    guest.work(Spec::new("reboot", Class::Lifecycle), |w| Box::pin(w.power_button(true))).await?;
    Ok(Empty {})
}

/// Asks the agent if the flags let it. True: done. An agent that fails is no error while ACPI may be used.
async fn by_agent(
    guest: &Arc<Guest>,
    given: u32,
    agent: u32,
    acpi: u32,
    power: agent::Power,
) -> Result<bool> {
    let only_agent = given & agent != 0 && given & acpi == 0;
    let configured = guest.published().value.live.as_ref().is_some_and(|d| has_agent(d));
    if !only_agent && (!configured || given & agent == 0 && given != 0) {
        return Ok(false);
    }
    match agent::power(guest, power).await {
        Ok(()) => Ok(true),
        Err(error) if only_agent => Err(error),
        Err(_) => Ok(false),
    }
}

/// `DomainService.Destroy`.
///
/// # Errors
/// Code 42; code 55 when it does not run; code 38 when its process does not end.
pub async fn destroy(driver: &Driver, request: DestroyRequest) -> Result<Empty> {
    flags(request.flags, ALL_DOMAIN_DESTROY_FLAGS_VALUES, "qemuDomainDestroyFlags")?;
    let guest = driver.find(request.domain.as_ref())?;
    let log = driver.folders.log.join(format!("{}.log", guest.published().value.name));
    stop::destroy(&guest, request.flags & VIR_DOMAIN_DESTROY_GRACEFUL != 0).await?;
    if request.flags & VIR_DOMAIN_DESTROY_REMOVE_LOGS != 0
        && let Err(e) = std::fs::remove_file(&log)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(error = %e, log = %log.display(), "cannot remove a guest's log");
    }
    Ok(Empty {})
}

fn running(driver: &Driver, wanted: Option<&DomainRef>) -> Result<Arc<Guest>> {
    let guest = driver.find(wanted)?;
    if guest.published().value.is_active() { Ok(guest) } else { Err(not_running()) }
}
