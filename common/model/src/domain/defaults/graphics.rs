//! Listen addresses and ports of graphical consoles.

use virt_error::Error;
use virt_xml::At;

use super::super::Domain;
use super::super::graphics::{Graphics, Listen, ListenKind};
use super::{unsupported, xml_error};

pub(super) fn complete(d: &mut Domain) -> Result<(), Error> {
    for (i, graphics) in d.devices.graphics.iter_mut().enumerate() {
        let place = format!("/domain/devices/graphics[{}]", i + 1);
        match graphics {
            Graphics::Vnc(g) => {
                listens(&mut g.listen, g.socket.as_deref(), &mut g.listens).within(&place)?;
                if let Some(first) = g.listens.first().filter(|l| l.kind == ListenKind::Socket) {
                    g.socket = first.socket.clone();
                }
                if without_port(&g.listens) {
                    (g.port, g.autoport) = (None, None);
                } else {
                    auto(&mut g.port, &mut g.autoport);
                }
            }
            Graphics::Spice(g) => {
                let portless = g.port.is_none() && g.tls_port.is_none() && g.autoport != Some(true);
                // Without a port there is nothing to listen on.
                let first = g.listens.first().map(|l| l.kind);
                if portless && matches!(first, None | Some(ListenKind::Address)) {
                    g.listen = None;
                    match g.listens.first_mut() {
                        Some(first) => *first = Listen::default(),
                        None => g.listens.push(Listen::default()),
                    }
                }
                listens(&mut g.listen, None, &mut g.listens).within(&place)?;
                if without_port(&g.listens) {
                    (g.port, g.tls_port, g.autoport) = (None, None, None);
                    continue;
                }
                let none = |p: Option<i32>| p.is_none_or(|p| p == 0);
                let auto = *g.autoport.get_or_insert_with(|| g.port == Some(-1) && g.tls_port == Some(-1));
                if auto {
                    (g.port, g.tls_port) = (None, None);
                }
                if none(g.port) {
                    g.port = None;
                }
                if none(g.tls_port) {
                    g.tls_port = None;
                }
            }
            Graphics::Rdp(g) => {
                listens(&mut g.listen, None, &mut g.listens).within(&place)?;
                auto(&mut g.port, &mut g.autoport);
            }
            Graphics::Sdl(g) => g.gl.rendernode = None,
            Graphics::EglHeadless(g) => g.gl.enable = None,
            Graphics::Desktop(_) | Graphics::Dbus(_) => {}
        }
    }
    Ok(())
}

fn without_port(listens: &[Listen]) -> bool {
    listens.first().is_some_and(|l| matches!(l.kind, ListenKind::Socket | ListenKind::None))
}

/// No port, or -1, or `autoport`: the driver chooses one at start, and the document says -1.
fn auto(port: &mut Option<i32>, autoport: &mut Option<bool>) {
    match (*port, *autoport) {
        (Some(-1), _) | (None, None) | (_, Some(true)) => (*port, *autoport) = (Some(-1), Some(true)),
        (None | Some(0), Some(false)) => *port = None,
        (Some(_), _) => *autoport = Some(false),
    }
}

/// The `listen` attribute and the first address among the elements are the same thing.
fn listens(attr: &mut Option<String>, socket: Option<&str>, listens: &mut Vec<Listen>) -> Result<(), Error> {
    if attr.as_deref() == Some("") {
        *attr = None;
    }
    for l in listens.iter_mut() {
        match l.kind {
            ListenKind::Address => (l.network, l.socket) = (None, None),
            ListenKind::Network => {
                if l.network.is_none() {
                    return Err(xml_error("'network' attribute is required for listen type 'network'"));
                }
                (l.address, l.socket) = (None, None);
            }
            ListenKind::Socket => (l.network, l.address) = (None, None),
            ListenKind::None => (l.network, l.address, l.socket) = (None, None, None),
        }
    }
    if let Some(s) = socket
        && let Some(first) = listens.first_mut().filter(|l| l.kind != ListenKind::Socket)
    {
        *first = Listen { kind: ListenKind::Socket, socket: Some(s.to_string()), ..Listen::default() };
    }
    let Some(first) = listens.first_mut() else {
        let (kind, address, socket) = match socket {
            Some(s) => (ListenKind::Socket, None, Some(s.to_string())),
            None => (ListenKind::Address, attr.clone(), None),
        };
        if kind == ListenKind::Socket {
            *attr = None;
        }
        listens.push(Listen { kind, address, socket, ..Listen::default() });
        return Ok(());
    };
    match first.kind {
        ListenKind::Address => {
            if first.address.as_deref() == Some("") {
                first.address = None;
            }
            if let (Some(a), Some(b)) = (attr.as_deref(), first.address.as_deref())
                && a != b
            {
                return Err(unsupported(format!(
                    "graphics 'listen' attribute '{a}' must match 'address' attribute of first listen element (found '{b}')"
                )));
            }
            let address = first.address.take().or_else(|| attr.take());
            (first.address, *attr) = (address.clone(), address);
        }
        ListenKind::Socket => {
            *attr = None;
            match (socket, first.socket.as_deref()) {
                (Some(a), Some(b)) if a != b => {
                    return Err(unsupported(format!(
                        "graphics 'socket' attribute '{a}' must match 'socket' attribute of first listen element (found '{b}')"
                    )));
                }
                (Some(a), None) => first.socket = Some(a.to_string()),
                _ => {}
            }
        }
        ListenKind::Network | ListenKind::None => *attr = None,
    }
    Ok(())
}
