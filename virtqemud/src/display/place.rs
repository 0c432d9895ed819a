//! Where a console listens: TCP ports, unix sockets of its own, addresses of virtual networks.

use std::path::Path;
use std::sync::Arc;

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::graphics::{Graphics, Listen, ListenKind, Spice, SpiceChannelMode, Vnc};

use super::{Displays, Server};
use crate::document::unsupported;
use crate::driver::Driver;
use crate::process::ports::{Port, Ports};

/// Ports that stand for automatically chosen ones on a line that is only shown.
const SHOWN_VNC: i32 = 5900;
const SHOWN_SPICE: i32 = 5901;
const SHOWN_SPICE_TLS: i32 = 5902;

/// Consoles that do not say where they listen use the driver's address, or a socket in the guest's `folder`.
pub fn listen(graphics: &mut Graphics, displays: &Displays, folder: &str) {
    match graphics {
        Graphics::Vnc(g) => {
            settle(&mut g.listens, &mut g.listen, &displays.vnc, &format!("{folder}/vnc.sock"));
            if let Some(first) = g.listens.first().filter(|l| l.kind == ListenKind::Socket) {
                (g.socket, g.port, g.autoport) = (first.socket.clone(), None, None);
            }
        }
        Graphics::Spice(g) => {
            settle(&mut g.listens, &mut g.listen, &displays.spice, &format!("{folder}/spice.sock"));
            if g.listens.first().is_some_and(|l| l.kind == ListenKind::Socket) {
                (g.port, g.tls_port, g.autoport) = (None, None, None);
            }
        }
        _ => {}
    }
}

fn settle(listens: &mut Vec<Listen>, attribute: &mut Option<String>, server: &Server, socket: &str) {
    if listens.is_empty() {
        listens.push(Listen { kind: ListenKind::Address, ..Listen::default() });
    }
    for (i, listen) in listens.iter_mut().enumerate() {
        if listen.kind == ListenKind::Address && listen.address.is_none() {
            listen.from_config = Some(1);
            if server.auto_socket {
                listen.kind = ListenKind::Socket;
            } else {
                listen.address = Some(server.listen.clone());
                if i == 0 {
                    attribute.clone_from(&listen.address);
                }
            }
        }
        if listen.kind == ListenKind::Socket && listen.socket.is_none() {
            listen.socket = Some(socket.to_owned());
            listen.auto_generated = Some(true);
        }
    }
}

/// What qemu.conf does not allow a definition.
///
/// # Errors
/// Code 67 for a port with TLS where TLS is off.
pub fn check(domain: &Domain, displays: &Displays) -> Result<()> {
    let with_tls = |g: &Graphics| matches!(g, Graphics::Spice(g) if g.tls_port.is_some_and(|p| p > 0));
    if !displays.spice.tls && domain.devices.graphics.iter().any(with_tls) {
        return Err(unsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf"));
    }
    Ok(())
}

/// Finds the addresses of consoles that listen where a virtual network has its own. Blocking, on a thread of the runtime.
///
/// # Errors
/// Code 43 without such a network; code 1 when it has no address.
pub fn network_addresses(driver: &Driver, live: &mut Domain) -> Result<()> {
    let runtime = tokio::runtime::Handle::current();
    for graphics in &mut live.devices.graphics {
        let (listens, attribute) = match graphics {
            Graphics::Vnc(g) => (&mut g.listens, &mut g.listen),
            Graphics::Spice(g) => (&mut g.listens, &mut g.listen),
            _ => continue,
        };
        for (i, listen) in listens.iter_mut().enumerate() {
            let Some(network) = listen.network.as_deref().filter(|_| listen.kind == ListenKind::Network)
            else {
                continue;
            };
            listen.address = Some(runtime.block_on(driver.networks.host_address(network))?);
            if i == 0 {
                attribute.clone_from(&listen.address);
            }
        }
    }
    Ok(())
}

/// Consoles that draw by OpenGL and name no device get the host's first.
///
/// # Errors
/// Code 38 when the host has no such devices, code 67 when none of them can draw.
pub fn render_nodes(live: &mut Domain) -> Result<()> {
    for graphics in &mut live.devices.graphics {
        let node = match graphics {
            Graphics::Spice(g) if g.gl.enable == Some(true) => &mut g.gl.rendernode,
            Graphics::Dbus(g) if g.gl.enable == Some(true) => &mut g.gl.rendernode,
            Graphics::EglHeadless(g) => &mut g.rendernode,
            _ => continue,
        };
        if node.is_none() {
            *node = Some(first_render_node(Path::new("/dev/dri"))?);
        }
    }
    Ok(())
}

fn first_render_node(dir: &Path) -> Result<String> {
    let failed = |e| Error::system(From::None, format!("cannot open directory '{}'", dir.display()), e);
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    let nodes = entries.flatten().filter(|e| e.file_name().as_encoded_bytes().starts_with(b"renderD"));
    let first = nodes.map(|e| e.path()).min();
    first
        .map(|p| p.to_string_lossy().into_owned())
        .ok_or_else(|| unsupported("No DRM render nodes available"))
}

/// Chooses the ports that are open, and takes note of the others.
///
/// # Errors
/// Code 67 for a port outside its range or TLS that is not configured; code 1 when all ports are in use.
pub fn assign(driver: &Driver, live: &mut Domain) -> Result<Vec<Port>> {
    let mut taken = Vec::new();
    for graphics in &mut live.devices.graphics {
        match graphics {
            Graphics::Vnc(vnc) if has_port(&vnc.listens) => vnc_ports(driver, vnc, &mut taken)?,
            Graphics::Spice(spice) if has_port(&spice.listens) => spice_ports(driver, spice, &mut taken)?,
            _ => {}
        }
    }
    Ok(taken)
}

/// Takes note of the ports of a guest that runs already.
pub fn mark(driver: &Driver, live: &Domain) -> Vec<Port> {
    let display = &driver.display_ports;
    let found = live.devices.graphics.iter().flat_map(|graphics| match graphics {
        Graphics::Vnc(g) => [(display, g.port), (&driver.websocket_ports, g.websocket)],
        Graphics::Spice(g) => [(display, g.port), (display, g.tls_port)],
        _ => [(display, None), (display, None)],
    });
    found.filter_map(|(ports, number)| ports.mark(number.and_then(|n| u16::try_from(n).ok())?)).collect()
}

/// Fills in ports for a line that is only shown.
///
/// # Errors
/// Code 67 for a VNC port outside its range.
pub fn show(graphics: &mut Graphics, displays: &Displays) -> Result<()> {
    match graphics {
        Graphics::Vnc(g) if has_port(&g.listens) => {
            if g.autoport == Some(true) {
                g.port = Some(SHOWN_VNC);
            }
            in_range(g)
        }
        Graphics::Spice(g) if has_port(&g.listens) => {
            let wanted = wanted(g, displays.spice.tls);
            if wanted.plain {
                g.port = Some(SHOWN_SPICE);
            }
            if wanted.tls {
                g.tls_port = Some(SHOWN_SPICE_TLS);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn has_port(listens: &[Listen]) -> bool {
    listens.iter().all(|l| matches!(l.kind, ListenKind::Address | ListenKind::Network))
}

fn vnc_ports(driver: &Driver, vnc: &mut Vnc, taken: &mut Vec<Port>) -> Result<()> {
    if vnc.autoport == Some(true) {
        vnc.port = Some(take(&driver.display_ports, taken)?);
    } else {
        in_range(vnc)?;
        note(&driver.display_ports, vnc.port, taken);
    }
    if vnc.websocket == Some(-1) {
        vnc.websocket = Some(take(&driver.websocket_ports, taken)?);
        vnc.websocket_generated = Some(true);
    } else {
        note(&driver.websocket_ports, vnc.websocket, taken);
    }
    Ok(())
}

/// A display's number counts from port 5900.
fn in_range(vnc: &Vnc) -> Result<()> {
    if vnc.port.is_some_and(|p| (5900..=65535).contains(&p)) {
        return Ok(());
    }
    Err(unsupported("vnc port must be in range [5900,65535]"))
}

/// Which ports of a SPICE server are to be chosen.
struct Wanted {
    plain: bool,
    tls: bool,
}

fn wanted(spice: &Spice, with_tls: bool) -> Wanted {
    let mut wanted = Wanted { plain: spice.port == Some(-1), tls: spice.tls_port == Some(-1) };
    if spice.autoport == Some(true) {
        let default = spice.default_mode.unwrap_or(SpiceChannelMode::Any);
        for mode in spice.channels.iter().map(|c| c.mode).chain([default]) {
            match mode {
                SpiceChannelMode::Secure => wanted.tls = true,
                SpiceChannelMode::Insecure => wanted.plain = true,
                SpiceChannelMode::Any => (wanted.plain, wanted.tls) = (true, wanted.tls || with_tls),
            }
        }
    }
    wanted
}

fn spice_ports(driver: &Driver, spice: &mut Spice, taken: &mut Vec<Port>) -> Result<()> {
    let with_tls = driver.settings.displays.spice.tls;
    let wanted = wanted(spice, with_tls);
    if wanted.tls && !with_tls {
        return Err(unsupported(
            "Auto allocation of spice TLS port requested but spice TLS is disabled in qemu.conf",
        ));
    }
    for (wanted, port) in [(wanted.plain, &mut spice.port), (wanted.tls, &mut spice.tls_port)] {
        if wanted {
            *port = Some(take(&driver.display_ports, taken)?);
        } else {
            note(&driver.display_ports, *port, taken);
        }
    }
    Ok(())
}

fn take(ports: &Arc<Ports>, taken: &mut Vec<Port>) -> Result<i32> {
    let port = ports.take()?;
    let number = i32::from(port.number());
    taken.push(port);
    Ok(number)
}

fn note(ports: &Arc<Ports>, number: Option<i32>, taken: &mut Vec<Port>) {
    taken.extend(number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).and_then(|n| ports.mark(n)));
}

#[cfg(test)]
mod tests {
    use virt_model::Mode;

    use super::*;

    fn spice(attributes: &str, inside: &str) -> Spice {
        let text = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
             <graphics type='spice' {attributes}>{inside}</graphics></devices></domain>"
        );
        let mut domain = Domain::parse(&text, Mode::CONFIG).expect("a document");
        let mut graphics = domain.devices.graphics.remove(0);
        graphics.complete().expect("completed");
        let Graphics::Spice(spice) = graphics else { panic!("not SPICE") };
        *spice
    }

    #[test]
    fn spice_gets_the_ports_its_channels_need() {
        let secure = "<channel name='main' mode='secure'/>";
        let cases = [
            ("autoport='yes'", "", false, (true, false)),
            ("autoport='yes'", "", true, (true, true)),
            ("autoport='yes' defaultMode='secure'", "", false, (false, true)),
            ("autoport='yes' defaultMode='insecure'", "", true, (true, false)),
            ("autoport='yes' defaultMode='insecure'", secure, true, (true, true)),
            ("port='-1' tlsPort='-1' autoport='no'", "", false, (true, false)),
            ("port='-1'", "", true, (true, false)),
            ("port='5960' tlsPort='-1' autoport='no'", "", false, (false, true)),
            ("port='5960'", "", true, (false, false)),
        ];
        for (attributes, inside, with_tls, expected) in cases {
            let wanted = wanted(&spice(attributes, inside), with_tls);
            assert_eq!((wanted.plain, wanted.tls), expected, "{attributes} {inside} {with_tls}");
        }
        for attributes in ["", "port='0'", "tlsPort='0'"] {
            assert_eq!(spice(attributes, "").listens[0].kind, ListenKind::None, "{attributes}");
        }
    }

    #[test]
    fn the_first_device_that_draws_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["card0", "renderD129", "renderD128"] {
            std::fs::write(dir.path().join(name), "").expect("a file");
        }
        let found = first_render_node(dir.path()).expect("found");
        assert!(found.ends_with("/renderD128"), "{found}");
        assert!(first_render_node(&dir.path().join("none")).is_err());
    }
}
