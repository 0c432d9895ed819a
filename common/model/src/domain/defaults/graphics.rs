//! Listen addresses and ports of graphical consoles.

use virt_error::Error;
use virt_xml::At;

use super::super::Domain;
use super::super::graphics::{Connected, Graphics, Listen, ListenKind};
use super::{unsupported, xml_error};

pub(super) fn complete(d: &mut Domain) -> Result<(), Error> {
    for (i, graphics) in d.devices.graphics.iter_mut().enumerate() {
        graphics.complete().within(&format!("/domain/devices/graphics[{}]", i + 1))?;
    }
    Ok(())
}

impl Graphics {
    /// Decides what the document leaves open: the kinds of addresses, whether ports are chosen at the start.
    ///
    /// # Errors
    /// Code 67 for addresses that contradict each other, code 1 for a moment that is none.
    pub fn complete(&mut self) -> Result<(), Error> {
        match self {
            Self::Vnc(g) => {
                g.auth.complete()?;
                if !matches!(g.auth.connected, None | Some(Connected::Default | Connected::Keep)) {
                    return Err(unsupported("VNC supports connected='keep' only"));
                }
                if g.websocket == Some(0) {
                    g.websocket = None;
                }
                listens(&mut g.listen, g.socket.as_deref(), &mut g.listens)?;
                if let Some(first) = g.listens.first().filter(|l| l.kind == ListenKind::Socket) {
                    g.socket = first.socket.clone();
                }
                if without_port(&g.listens) {
                    (g.port, g.autoport) = (None, None);
                } else {
                    auto(&mut g.port, &mut g.autoport);
                }
            }
            Self::Spice(g) => {
                g.auth.complete()?;
                let none = |p: Option<i32>| p.is_none_or(|p| p == 0);
                if (g.port, g.tls_port) == (Some(-1), Some(-1)) {
                    g.autoport = Some(true);
                }
                let portless = none(g.port) && none(g.tls_port) && g.autoport != Some(true);
                // Without a port there is nothing to listen on.
                let first = g.listens.first().map(|l| l.kind);
                if portless && matches!(first, None | Some(ListenKind::Address)) {
                    g.listen = None;
                    match g.listens.first_mut() {
                        Some(first) => *first = Listen::default(),
                        None => g.listens.push(Listen::default()),
                    }
                }
                listens(&mut g.listen, None, &mut g.listens)?;
                if without_port(&g.listens) {
                    (g.port, g.tls_port, g.autoport) = (None, None, None);
                    return Ok(());
                }
                if *g.autoport.get_or_insert(false) {
                    (g.port, g.tls_port) = (None, None);
                }
                if none(g.port) {
                    g.port = None;
                }
                if none(g.tls_port) {
                    g.tls_port = None;
                }
            }
            Self::Rdp(g) => {
                listens(&mut g.listen, None, &mut g.listens)?;
                auto(&mut g.port, &mut g.autoport);
            }
            Self::Sdl(g) => g.gl.rendernode = None,
            Self::Desktop(_) | Self::Dbus(_) | Self::EglHeadless(_) => {}
        }
        Ok(())
    }
}

fn without_port(listens: &[Listen]) -> bool {
    listens.first().is_some_and(|l| matches!(l.kind, ListenKind::Socket | ListenKind::None))
}

/// No port, or -1, or `autoport`: the driver chooses one at start, and the document says -1.
fn auto(port: &mut Option<i32>, autoport: &mut Option<bool>) {
    match (*port, *autoport) {
        (Some(-1), _) | (None, None) | (_, Some(true)) => (*port, *autoport) = (Some(-1), Some(true)),
        (None | Some(0), Some(false)) | (Some(0), None) => (*port, *autoport) = (None, Some(false)),
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
