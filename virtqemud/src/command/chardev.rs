//! Host sides of character devices: `-chardev`.

use crate::document::types::{CharBackend, CharLog, MouseMode, Reconnect, SocketMode, TcpProtocol};

use super::Builder;
use super::TlsSettings;
use super::props::{Opts, Props, on_off};

/// What a backend is for; QEMU names SPICE channels by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Serial ports, consoles and channels.
    Port,
    /// A parallel port, which drives host devices its own way.
    Parallel,
    /// A smartcard passed through.
    Smartcard,
    /// A redirected USB device.
    Redirection,
}

impl Builder<'_> {
    /// `-chardev` for a device's backend; `alias` is the device's own. Returns the character device's id.
    pub(super) fn chardev(
        &mut self,
        backend: &CharBackend,
        log: &CharLog,
        alias: &str,
        purpose: Purpose,
    ) -> String {
        let id = format!("char{alias}");
        self.chardev_named(backend, log, &id, purpose);
        id
    }

    /// The same with the id given.
    pub(super) fn chardev_named(&mut self, backend: &CharBackend, log: &CharLog, id: &str, purpose: Purpose) {
        let start = |kind: &str| Opts::new(kind).with("id", id);
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let opts = match backend {
            CharBackend::Null => start("null"),
            CharBackend::Vc => start("vc"),
            CharBackend::Pty(_) => start("pty"),
            CharBackend::Stdio => start("stdio"),
            CharBackend::Dev(s) => start(if purpose == Purpose::Parallel { "parallel" } else { "serial" })
                .with("path", text(&s.path)),
            CharBackend::File(s) => start("file").with("path", text(&s.path)).switch("append", s.append),
            CharBackend::Pipe(s) => start("pipe").with("path", text(&s.path)),
            CharBackend::Udp(u) => {
                let (to, from) = (u.source(SocketMode::Connect), u.source(SocketMode::Bind));
                let host =
                    |s: Option<&crate::document::types::UdpSource>| text(&s.and_then(|s| s.host.clone()));
                let port = |s: Option<&crate::document::types::UdpSource>| s.and_then(|s| s.service.clone());
                start("udp")
                    .with("host", host(to))
                    .with("port", port(to).unwrap_or_default())
                    .with("localaddr", host(from))
                    .with("localport", port(from).unwrap_or_else(|| "0".into()))
            }
            CharBackend::Tcp(t) => {
                let server = t.source.mode == Some(SocketMode::Bind);
                let tls = t.source.tls == Some(true);
                if tls {
                    self.tls_object(&format!("obj{id}_tls0"), server, &self.launch.settings.chardev_tls);
                }
                let telnet = matches!(t.protocol, Some(TcpProtocol::Telnet));
                let mut opts =
                    start("socket").with("host", text(&t.source.host)).with("port", text(&t.source.service));
                if telnet {
                    opts.put("telnet", "on");
                }
                socket_role(&mut opts, server, t.source.reconnect.as_ref(), self.emulator.at_least(9, 2));
                if tls {
                    opts.put("tls-creds", format!("obj{id}_tls0"));
                }
                opts
            }
            CharBackend::Unix(s) => {
                let server = s.mode == Some(SocketMode::Bind);
                let path = text(&s.path);
                let mut opts = match self.launch.socket_fds.get(&path).filter(|_| server) {
                    Some(fd) => start("socket").with("fd", fd.to_string()),
                    None => start("socket").with("path", path),
                };
                socket_role(&mut opts, server, s.reconnect.as_ref(), self.emulator.at_least(9, 2));
                opts
            }
            CharBackend::Spicevmc => {
                let name = match purpose {
                    Purpose::Smartcard => "smartcard",
                    Purpose::Redirection => "usbredir",
                    Purpose::Port | Purpose::Parallel => "vdagent",
                };
                start("spicevmc").with("name", name)
            }
            CharBackend::Spiceport(s) => start("spiceport").with("name", text(&s.channel)),
            CharBackend::Dbus(s) => {
                let default = match purpose {
                    Purpose::Redirection => "org.qemu.usbredir",
                    Purpose::Smartcard => "org.qemu.smartcard",
                    Purpose::Port | Purpose::Parallel => "",
                };
                start("dbus").with("name", s.channel.as_deref().unwrap_or(default))
            }
            CharBackend::QemuVdagent(s) => {
                let mut opts = start("qemu-vdagent").with("name", "vdagent").switch("clipboard", s.clipboard);
                if let Some(mode) = s.mouse {
                    opts.put("mouse", on_off(mode == MouseMode::Client));
                }
                opts
            }
            // Null modem pairs exist on bhyve only; validation refused them.
            CharBackend::Nmdm(_) => start("null"),
        };
        let opts = opts
            .opt("logfile", log.file.as_deref())
            .switch("logappend", log.append.filter(|_| log.file.is_some()));
        self.line.opts("-chardev", opts);
    }

    /// Credentials for one TLS endpoint.
    pub(super) fn tls_object(&mut self, id: &str, server: bool, tls: &TlsSettings) {
        self.line.object(
            Props::object("tls-creds-x509", id)
                .with("dir", tls.dir.as_str())
                .with("endpoint", if server { "server" } else { "client" })
                .with("verify-peer", !server || tls.verify),
        );
    }
}

pub(super) fn socket_role(opts: &mut Opts, server: bool, reconnect: Option<&Reconnect>, milliseconds: bool) {
    if server {
        opts.put("server", "on");
        opts.put("wait", "off");
        return;
    }
    let seconds = match reconnect.map(|r| (r.enabled, r.timeout)) {
        Some((Some(true), timeout)) => u64::from(timeout.unwrap_or(0)),
        Some((Some(false), _)) => 0,
        _ => return,
    };
    // `reconnect` counted seconds until QEMU 9.2 replaced it.
    if milliseconds {
        opts.put("reconnect-ms", seconds * 1000);
    } else {
        opts.put("reconnect", seconds);
    }
}
