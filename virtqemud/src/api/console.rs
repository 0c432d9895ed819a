//! Consoles, channels, pictures, keys.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virt_api::common::v1alpha1::Ticket;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::owner::{Class, Spec};
use virt_rpc::Caller;
use virt_rpc::descriptor::Descriptors;

use super::check::flags;
use crate::console::{self, What};
use crate::display::client;
use crate::driver::Driver;
use crate::guest::{Guest, Work, not_running};
use crate::keycodes;
use crate::qmp::commands::{InjectNmi, Key, Screendump, SendKey};

/// Most keys pressed together.
const MAX_KEYS: usize = 16;

/// `DomainConsoleService.OpenConsole` and `OpenChannel`.
///
/// # Errors
/// As [`console::open`].
pub async fn open(
    driver: &Driver,
    descriptors: &Descriptors,
    request: OpenConsoleRequest,
    caller: &Caller,
    what: What,
) -> Result<Ticket> {
    let force = match what {
        What::Console => {
            flags(
                request.flags,
                VIR_DOMAIN_CONSOLE_SAFE | VIR_DOMAIN_CONSOLE_FORCE,
                "qemuDomainOpenConsole",
            )?;
            request.flags & VIR_DOMAIN_CONSOLE_FORCE != 0
        }
        What::Channel => {
            flags(request.flags, VIR_DOMAIN_CHANNEL_FORCE, "qemuDomainOpenChannel")?;
            request.flags & VIR_DOMAIN_CHANNEL_FORCE != 0
        }
    };
    let guest = running(driver, request.domain.as_ref())?;
    let (device, locks) = (request.device.as_deref(), driver.folders.locks.as_deref());
    let end = console::open(&guest, what, device, force, locks).await?;
    ticket(descriptors, caller, end)
}

fn ticket(descriptors: &Descriptors, caller: &Caller, fd: OwnedFd) -> Result<Ticket> {
    Ok(Ticket { token: descriptors.park(vec![fd], caller)? })
}

/// `DomainConsoleService.OpenGraphics`.
///
/// # Errors
/// As [`client::add`]; code 39 for a descriptor that was not offered.
pub async fn open_graphics(
    driver: &Driver,
    descriptors: &Descriptors,
    request: OpenGraphicsRequest,
    caller: &Caller,
) -> Result<Empty> {
    flags(request.flags, VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH, "qemuDomainOpenGraphics")?;
    let guest = running(driver, request.domain.as_ref())?;
    let socket = descriptors.take_offer(&request.offer, caller)?.pop();
    let socket =
        socket.ok_or_else(|| Error::new(Code::InvalidArg, From::Qemu, "no connection was offered"))?;
    join(&guest, request, socket).await?;
    Ok(Empty {})
}

/// `DomainConsoleService.OpenGraphicsFd`.
///
/// # Errors
/// As [`client::add`].
pub async fn open_graphics_fd(
    driver: &Driver,
    descriptors: &Descriptors,
    request: OpenGraphicsRequest,
    caller: &Caller,
) -> Result<Ticket> {
    flags(request.flags, VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH, "qemuDomainOpenGraphicsFD")?;
    let guest = running(driver, request.domain.as_ref())?;
    let (ours, theirs) = client::pair()?;
    join(&guest, request, theirs).await?;
    ticket(descriptors, caller, ours)
}

async fn join(guest: &Guest, request: OpenGraphicsRequest, socket: OwnedFd) -> Result<()> {
    guest
        .work(Spec::new("open-graphics", Class::Modify), move |work| {
            Box::pin(client::add(work, request.index, socket, request.flags))
        })
        .await
}

/// `DomainConsoleService.SendKey`.
///
/// # Errors
/// Code 42; code 55 when it does not run; code 8 for an unknown code set; code 1 for a key that has no number.
pub async fn send_key(driver: &Driver, request: SendKeyRequest) -> Result<Empty> {
    flags(request.flags, 0, "qemuDomainSendKey")?;
    if request.keycodes.len() > MAX_KEYS {
        let text = format!("nkeycodes in virDomainSendKey must be less than or equal to {MAX_KEYS}");
        return Err(Error::invalid_arg(From::Domain, "virDomainSendKey", "nkeycodes", text));
    }
    let set = keycodes::Set::from_number(request.codeset)?;
    let keys: Vec<Key> =
        request.keycodes.iter().map(|k| Ok(Key::Number(set.qnum(*k)?))).collect::<Result<_>>()?;
    let guest = running(driver, request.domain.as_ref())?;
    let press = SendKey { keys, hold_time: (request.holdtime > 0).then_some(request.holdtime) };
    guest
        .work(Spec::new("send-key", Class::Modify), move |work| {
            Box::pin(async move {
                work.monitor()?.run(&press).await?;
                Ok(())
            })
        })
        .await?;
    Ok(Empty {})
}

/// `DomainConsoleService.InjectNmi`.
///
/// # Errors
/// Code 42; code 55 when it does not run.
pub async fn inject_nmi(driver: &Driver, request: InjectNmiRequest) -> Result<Empty> {
    flags(request.flags, 0, "qemuDomainInjectNMI")?;
    let guest = running(driver, request.domain.as_ref())?;
    guest
        .work(Spec::new("inject-nmi", Class::Modify), |work| {
            Box::pin(async move {
                work.monitor()?.run(&InjectNmi {}).await?;
                Ok(())
            })
        })
        .await?;
    Ok(Empty {})
}

/// `DomainConsoleService.Screenshot`.
///
/// # Errors
/// Code 42; code 55 when it does not run or has no screen; code 8 for a screen it does not have.
pub async fn screenshot(
    driver: &Driver,
    descriptors: &Descriptors,
    request: ScreenshotRequest,
    caller: &Caller,
) -> Result<ScreenshotResponse> {
    flags(request.flags, 0, "qemuDomainScreenshot")?;
    let guest = running(driver, request.domain.as_ref())?;
    let screen = request.screen;
    let (file, mime) = guest
        .work(Spec::new("screenshot", Class::Query), move |work| Box::pin(dump_screen(work, screen)))
        .await?;
    let ticket = ticket(descriptors, caller, file)?;
    Ok(ScreenshotResponse { ticket: Some(ticket), mime: mime.into() })
}

/// QEMU writes the picture into the guest's private folder; the name is gone when the client reads it.
async fn dump_screen(work: &mut Work, screen: u32) -> Result<(OwnedFd, &'static str)> {
    let owner = work.who()?.owner();
    let run = work.run()?;
    let videos = &run.live.devices.videos;
    if videos.is_empty() {
        let text = "no screens to take screenshot from";
        return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
    }
    // Heads are numbered through all devices.
    let mut left = screen;
    let mut device = None;
    for video in videos {
        let heads = video.model.heads.unwrap_or(1).max(1);
        if left < heads {
            device = Some(video.info.alias.clone());
            break;
        }
        left -= heads;
    }
    let device = device.ok_or_else(|| Error::new(Code::OperationInvalid, From::Qemu, "no such screen ID"))?;
    let path = run.held.paths.lib.join("screenshot");
    let failed = |e| Error::system(From::Qemu, format!("unable to open {}", path.display()), e);
    let make = || -> std::io::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut open = std::fs::OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(file)
    };
    let file = make().map_err(failed)?;
    let filename = path.display().to_string();
    // QEMU takes a head only together with its device.
    let head = device.as_ref().map(|_| left);
    let picture = |format| Screendump { filename: filename.clone(), device: device.clone(), head, format };
    let mut mime = "image/png";
    let mut dumped = run.monitor.run(&picture("png")).await;
    if dumped.as_ref().is_err_and(|e| !e.is_fatal()) {
        mime = "image/x-portable-pixmap";
        dumped = run.monitor.run(&picture("ppm")).await;
    }
    let removed = std::fs::remove_file(&path).map_err(failed);
    dumped?;
    removed?;
    Ok((file.into(), mime))
}

fn running(driver: &Driver, wanted: Option<&DomainRef>) -> Result<Arc<Guest>> {
    let guest = driver.find(wanted)?;
    if guest.published().value.is_active() { Ok(guest) } else { Err(not_running()) }
}
