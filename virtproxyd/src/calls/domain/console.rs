//! Consoles, screens and keys.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use virt_api::domain::v1alpha1::{
    InjectNmiRequest, OpenConsoleRequest, OpenGraphicsRequest, ScreenshotRequest, SendKeyRequest,
};
use virt_error::{Code, Domain, Error, Result};
use virt_wire::remote::{procs, *};

use crate::route::Object;
use crate::streams::Source;

use super::super::{Call, Ctx, calls, malformed, rpc};
use super::{Consoles, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    stream procs::DomainOpenConsole => open_console;
    stream procs::DomainOpenChannel => open_channel;
    stream procs::DomainScreenshot => screenshot;
    give procs::DomainOpenGraphics => open_graphics;
    give procs::DomainOpenGraphicsFd => open_graphics_fd;
    ask procs::DomainSendKey => send_key;
    ask procs::DomainInjectNmi => inject_nmi;
};

async fn open_console(c: Ctx, a: DomainOpenConsoleArgs) -> Result<((), Source)> {
    let request = OpenConsoleRequest { domain: to_ref(a.dom), device: a.dev_name, flags: a.flags };
    let ticket = rpc!(c, Consoles.open_console(request)).await?;
    Ok(((), Source::Raw(c.claim(Object::Domain, &ticket.token).await?)))
}

async fn open_channel(c: Ctx, a: DomainOpenChannelArgs) -> Result<((), Source)> {
    let request = OpenConsoleRequest { domain: to_ref(a.dom), device: a.name, flags: a.flags };
    let ticket = rpc!(c, Consoles.open_channel(request)).await?;
    Ok(((), Source::Raw(c.claim(Object::Domain, &ticket.token).await?)))
}

async fn screenshot(c: Ctx, a: DomainScreenshotArgs) -> Result<(DomainScreenshotRet, Source)> {
    let request = ScreenshotRequest { domain: to_ref(a.dom), screen: a.screen, flags: a.flags };
    let picture = rpc!(c, Consoles.screenshot(request)).await?;
    let ticket = picture.ticket.ok_or_else(|| malformed("ticket"))?;
    let mime = Some(picture.mime).filter(|m| !m.is_empty());
    Ok((DomainScreenshotRet { mime }, Source::Raw(c.claim(Object::Domain, &ticket.token).await?)))
}

async fn open_graphics(c: Ctx, a: DomainOpenGraphicsArgs) -> Result<((), Vec<OwnedFd>)> {
    let [socket] = &c.fds[..] else {
        let text = format!("expected 1 file descriptor, got {}", c.fds.len());
        return Err(Error::new(Code::InvalidArg, Domain::Rpc, text));
    };
    let offer = c.offer(Object::Domain, &[socket.as_fd()]).await?;
    let request = OpenGraphicsRequest { domain: to_ref(a.dom), index: a.idx, offer, flags: a.flags };
    rpc!(c, Consoles.open_graphics(request)).await?;
    Ok(((), Vec::new()))
}

async fn open_graphics_fd(c: Ctx, a: DomainOpenGraphicsFdArgs) -> Result<((), Vec<OwnedFd>)> {
    let offer = Bytes::new();
    let request = OpenGraphicsRequest { domain: to_ref(a.dom), index: a.idx, offer, flags: a.flags };
    let ticket = rpc!(c, Consoles.open_graphics_fd(request)).await?;
    Ok(((), vec![c.claim(Object::Domain, &ticket.token).await?]))
}

async fn send_key(c: Ctx, a: DomainSendKeyArgs) -> Result<()> {
    let request = SendKeyRequest {
        domain: to_ref(a.dom),
        codeset: a.codeset,
        holdtime: a.holdtime,
        keycodes: a.keycodes,
        flags: a.flags,
    };
    rpc!(c, Consoles.send_key(request)).await?;
    Ok(())
}

async fn inject_nmi(c: Ctx, a: DomainInjectNmiArgs) -> Result<()> {
    rpc!(c, Consoles.inject_nmi(InjectNmiRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}
