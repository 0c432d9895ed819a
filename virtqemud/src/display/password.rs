//! Who may come in: passwords of VNC and SPICE servers, and how long they hold.

use serde_json::json;
use virt_error::Result;
use virt_model::domain::Domain;
use virt_model::domain::graphics::{Connected, Graphics, GraphicsAuth};

use super::Displays;
use crate::qmp::Client;

/// Sets the passwords of a guest that is being started. Before this QEMU lets nobody in.
///
/// # Errors
/// Code 1 with QEMU's text.
pub async fn begin(live: &Domain, monitor: &Client, displays: &Displays) -> Result<()> {
    for graphics in &live.devices.graphics {
        set(graphics, monitor, displays).await?;
    }
    Ok(())
}

/// Sets the password that the document or else qemu.conf names. Where neither does, what was set before stays.
///
/// # Errors
/// As [`begin`].
pub async fn set(graphics: &Graphics, monitor: &Client, displays: &Displays) -> Result<()> {
    let (protocol, auth, common) = match graphics {
        Graphics::Vnc(g) => ("vnc", &g.auth, &displays.vnc.password),
        Graphics::Spice(g) => ("spice", &g.auth, &displays.spice.password),
        _ => return Ok(()),
    };
    let Some(password) = auth.passwd.as_ref().or(common.as_ref()) else { return Ok(()) };
    let mut arguments = json!({"protocol": protocol, "password": password});
    if let Some(connected) = auth.connected.filter(|c| *c != Connected::Default) {
        arguments["connected"] = connected.as_str().into();
    }
    monitor.run_untyped("set_password", &arguments).await?;
    let arguments = json!({"protocol": protocol, "time": until(auth)});
    monitor.run_untyped("expire_password", &arguments).await?;
    Ok(())
}

/// In QEMU's words: seconds since 1970.
fn until(auth: &GraphicsAuth) -> String {
    auth.valid_until().map_or_else(|| "never".into(), |seconds| seconds.to_string())
}
