//! The host side of character devices, wherever they are.

use virt_error::{Code, Result};

use super::super::Domain;
use super::super::chardev::{ChannelTarget, CharBackend, Reconnect, SocketMode, UdpBackend};
use super::super::info::each;
use super::super::misc::{RngBackend, SmartcardMode};
use super::{fail, internal, unsupported, xml};

pub(super) fn check(d: &Domain) -> Result<()> {
    let dev = &d.devices;
    each(&dev.serials, |x| {
        backend(&x.backend, false)?;
        Ok(())
    })?;
    each(&dev.parallels, |x| {
        backend(&x.backend, false)?;
        Ok(())
    })?;
    each(&dev.consoles, |x| {
        backend(&x.backend, false)?;
        Ok(())
    })?;
    each(&dev.channels, |x| {
        // A unix channel without a path gets a socket of the driver's.
        let virtio = matches!(x.target, Some(ChannelTarget::Virtio(_) | ChannelTarget::Xen(_)));
        backend(&x.backend, virtio)?;
        if let Some(ChannelTarget::Guestfwd(t)) = &x.target
            && t.address.is_none()
        {
            return xml("guestfwd channel does not define a target address");
        }
        Ok(())
    })?;
    each(&dev.redirdevs, |x| {
        backend(&x.backend, false)?;
        Ok(())
    })?;
    each(&dev.smartcards, |x| {
        match &x.mode {
            SmartcardMode::Passthrough(b) => backend(&b.backend, false)?,
            SmartcardMode::HostCertificates(c) => {
                if let Some(db) = c.database.as_deref().filter(|db| !db.starts_with('/')) {
                    return xml(format!("expecting absolute path: {db}"));
                }
            }
            SmartcardMode::Host => {}
        }
        Ok(())
    })?;
    each(&dev.rngs, |x| {
        if let Some(RngBackend::Egd(b)) = &x.backend {
            backend(&b.backend, false)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn missing<T>(what: &str) -> Result<T> {
    internal(format!("Missing source {what} attribute for char device"))
}

fn backend(b: &CharBackend, path_optional: bool) -> Result<()> {
    match b {
        CharBackend::Dev(s) | CharBackend::Pipe(s) if s.path.is_none() => missing("path"),
        CharBackend::File(s) if s.path.is_none() => missing("path"),
        CharBackend::Unix(s) => {
            if s.path.is_none() && !path_optional {
                return missing("path");
            }
            reconnect(s.reconnect.as_ref(), s.mode)
        }
        CharBackend::Tcp(t) => {
            if t.source.host.is_none() {
                return missing("host");
            }
            if t.source.service.is_none() {
                return missing("service");
            }
            reconnect(t.source.reconnect.as_ref(), t.source.mode)
        }
        CharBackend::Udp(u) if no_service(u) => missing("service"),
        CharBackend::Nmdm(s) if s.master.is_none() => missing("master"),
        CharBackend::Nmdm(s) if s.slave.is_none() => missing("slave"),
        CharBackend::Spiceport(s) if s.channel.is_none() => {
            unsupported("Missing source channel attribute for char device")
        }
        CharBackend::Dbus(s) if s.channel.is_none() => {
            unsupported("Missing source channel attribute for char device")
        }
        _ => Ok(()),
    }
}

fn no_service(u: &UdpBackend) -> bool {
    u.source(SocketMode::Connect).is_none_or(|s| s.service.is_none())
}

fn reconnect(r: Option<&Reconnect>, mode: Option<SocketMode>) -> Result<()> {
    match r {
        Some(r) if r.enabled.is_some() && mode != Some(SocketMode::Connect) => {
            internal("chardev reconnect is possible only for connect mode")
        }
        Some(r) if r.enabled == Some(true) && r.timeout == Some(0) => {
            fail(Code::InvalidArg, "chardev reconnect source timeout cannot be '0'")
        }
        _ => Ok(()),
    }
}
