//! Defaults of displays: ports and listen addresses.

use virt_error::Result;

use super::types::{Graphics, Listen, ListenKind};
use super::unsupported;

/// Ports of 0 and -1 mean "choose one"; the first listen element and the old attributes say the same.
pub fn complete(graphics: &mut Graphics) -> Result<()> {
    match graphics {
        Graphics::Vnc(g) => {
            merge(&mut g.listens, &mut g.listen, g.socket.as_ref())?;
            let network = is_network(&g.listens);
            if network {
                match g.port {
                    None | Some(0 | -1) => {
                        g.port = Some(-1);
                        g.autoport = Some(true);
                    }
                    Some(_) => {
                        g.autoport.get_or_insert(false);
                    }
                }
                if g.autoport == Some(true) {
                    g.port = Some(-1);
                }
            } else {
                g.port = None;
                g.autoport = None;
            }
            g.socket = g.listens.first().and_then(|l| l.socket.clone()).filter(|_| !network);
        }
        Graphics::Spice(g) => {
            merge(&mut g.listens, &mut g.listen, None)?;
            if is_network(&g.listens) {
                let unset = |p: Option<i32>| matches!(p, None | Some(0));
                if g.port == Some(-1) || g.tls_port == Some(-1) {
                    // -1 asks for any port of that kind.
                    if g.autoport.is_none()
                        && (unset(g.tls_port) || g.tls_port == Some(-1))
                        && g.port == Some(-1)
                    {
                        g.autoport = Some(true);
                    }
                }
                if unset(g.port) && unset(g.tls_port) && g.autoport.is_none() {
                    g.autoport = Some(true);
                }
                if g.autoport == Some(true) {
                    g.port = None;
                    g.tls_port = None;
                } else if g.autoport.is_none() {
                    g.autoport = Some(false);
                }
            } else {
                g.port = None;
                g.tls_port = None;
                g.autoport = None;
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_network(listens: &[Listen]) -> bool {
    matches!(listens.first().map(|l| l.kind), None | Some(ListenKind::Address | ListenKind::Network))
}

/// Brings the old `listen` and `socket` attributes and the first listen element together.
fn merge(listens: &mut Vec<Listen>, attribute: &mut Option<String>, socket: Option<&String>) -> Result<()> {
    if let Some(first) = listens.first() {
        if let (Some(old), ListenKind::Address) = (attribute.as_ref(), first.kind)
            && first.address.as_ref() != Some(old)
        {
            let found = first.address.clone().unwrap_or_default();
            return Err(unsupported(format!(
                "graphics 'listen' attribute '{old}' must match 'address' attribute of first listen element (found '{found}')"
            )));
        }
        if let (Some(old), ListenKind::Socket) = (socket, first.kind)
            && first.socket.as_ref() != Some(old)
        {
            let found = first.socket.clone().unwrap_or_default();
            return Err(unsupported(format!(
                "graphics 'socket' attribute '{old}' must match 'socket' attribute of first listen element (found '{found}')"
            )));
        }
    } else if let Some(path) = socket {
        listens.push(Listen { kind: ListenKind::Socket, socket: Some(path.clone()), ..Listen::default() });
    } else {
        listens.push(Listen { kind: ListenKind::Address, address: attribute.clone(), ..Listen::default() });
    }
    let first = listens.first();
    for l in listens.iter() {
        if l.kind == ListenKind::Network && l.network.is_none() {
            return Err(super::xml_error("'network' attribute is required for listen type 'network'"));
        }
    }
    *attribute = first.filter(|l| l.kind == ListenKind::Address).and_then(|l| l.address.clone());
    Ok(())
}
