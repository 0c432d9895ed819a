//! Changing a console of a running guest: its password. All else is fixed while QEMU runs.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::graphics::{Graphics, GraphicsAuth, Listen, ListenKind};

use super::password;
use crate::document::validate::vnc_password;
use crate::guest::Work;

/// Makes the password of the console that the document describes the document's.
///
/// # Errors
/// Code 99 when the guest has no such console; code 84 for another change; code 67 for a password VNC cannot have; code
/// 1 with QEMU's text.
pub async fn update(work: &mut Work, mut wanted: Graphics) -> Result<()> {
    wanted.complete()?;
    let kind = wanted.kind();
    let live = &work.run()?.live;
    let same = |g: &Graphics| std::mem::discriminant(g) == std::mem::discriminant(&wanted);
    let at = live.devices.graphics.iter().position(same).ok_or_else(|| {
        let text = format!("cannot find existing graphics device to modify of type '{kind}'");
        Error::new(Code::DeviceMissing, From::Qemu, text)
    })?;
    let old = &live.devices.graphics[at];
    check_listens(old.listens(), wanted.listens(), kind)?;
    let mut new = old.clone();
    let (ports, keymap, auth) = match (old, &wanted, &mut new) {
        (Graphics::Vnc(old), Graphics::Vnc(wanted), Graphics::Vnc(new)) => {
            let ports =
                old.autoport == wanted.autoport && (old.autoport == Some(true) || old.port == wanted.port);
            vnc_password(wanted)?;
            (ports, old.keymap == wanted.keymap, replace(&mut new.auth, &wanted.auth))
        }
        (Graphics::Spice(old), Graphics::Spice(wanted), Graphics::Spice(new)) => {
            let ports = old.autoport == wanted.autoport
                && (old.autoport == Some(true) || (old.port, old.tls_port) == (wanted.port, wanted.tls_port));
            (ports, old.keymap == wanted.keymap, replace(&mut new.auth, &wanted.auth))
        }
        _ => return Err(fixed(format!("unable to change config on '{kind}' graphics type"))),
    };
    if !ports {
        return Err(fixed(format!("cannot change port settings on {kind} graphics")));
    }
    if !keymap {
        return Err(fixed(format!("cannot change keymap setting on {kind} graphics")));
    }
    if auth == Changed::Yes {
        password::set(&new, &work.monitor()?, &work.driver.settings.displays).await?;
        work.run()?.live.devices.graphics[at] = new;
        work.publish_live()?;
    }
    Ok(())
}

#[derive(PartialEq)]
enum Changed {
    Yes,
    No,
}

fn replace(old: &mut GraphicsAuth, wanted: &GraphicsAuth) -> Changed {
    if old == wanted {
        return Changed::No;
    }
    old.clone_from(wanted);
    Changed::Yes
}

fn check_listens(old: &[Listen], wanted: &[Listen], kind: &str) -> Result<()> {
    if old.len() != wanted.len() {
        return Err(fixed(format!("cannot change the number of listen addresses on '{kind}' graphics")));
    }
    for (old, wanted) in old.iter().zip(wanted) {
        if old.kind != wanted.kind {
            return Err(fixed(format!("cannot change the type of listen address on '{kind}' graphics")));
        }
        let same = match old.kind {
            ListenKind::Address => old.address == wanted.address,
            ListenKind::Network => old.network == wanted.network,
            ListenKind::Socket => old.socket == wanted.socket,
            ListenKind::None => true,
        };
        if !same {
            let what = old.kind.as_str();
            return Err(fixed(format!("cannot change listen {what} setting on '{kind}' graphics")));
        }
    }
    Ok(())
}

fn fixed(text: String) -> Error {
    Error::new(Code::OperationUnsupported, From::Qemu, text)
}
