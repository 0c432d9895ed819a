//! Displays: VNC, SPICE, SDL, D-Bus, EGL.

use crate::display::Server;
use crate::document::types::{
    DbusDisplay, EglHeadless, Graphics, ImageCompression, Listen, ListenKind, Sdl, SharePolicy, Spice,
    SpiceChannelMode, SpiceMouse, StreamingMode, Vnc, WanCompression,
};
use virt_error::{Code, Domain, Error, Result};

use super::Builder;
use super::props::{Opts, escape, on_off};

/// Certificates of VNC servers.
const VNC_CREDENTIALS: &str = "vnc-tls-creds0";
/// The first port a VNC display number counts from.
pub const VNC_PORT_BASE: i32 = 5900;

impl Builder<'_> {
    /// `-display none` for guests without any display, early on the line.
    pub(super) fn no_display(&mut self) {
        if self.def.devices.graphics.is_empty() {
            self.line.arg("-display", "none");
        }
    }

    /// All displays.
    pub(super) fn graphics(&mut self) -> Result<()> {
        let def = self.def;
        for graphics in &def.devices.graphics {
            match graphics {
                Graphics::Vnc(vnc) => self.vnc(vnc)?,
                Graphics::Spice(spice) => self.spice(spice)?,
                Graphics::Sdl(sdl) => self.sdl(sdl),
                Graphics::EglHeadless(egl) => self.egl(egl),
                Graphics::Dbus(dbus) => self.dbus(dbus),
                Graphics::Rdp(_) | Graphics::Desktop(_) => {
                    return Err(Error::new(
                        Code::ConfigUnsupported,
                        Domain::Qemu,
                        "unsupported graphics type",
                    ));
                }
            }
        }
        Ok(())
    }

    fn vnc(&mut self, vnc: &Vnc) -> Result<()> {
        let server = &self.launch.settings.displays.vnc;
        let listen = vnc.listens.first();
        let mut opts = match listen.map(|l| l.kind) {
            Some(ListenKind::Socket) => {
                Opts::new("").with("vnc", format!("unix:{}", socket(listen, vnc.socket.as_deref())))
            }
            Some(ListenKind::None) => Opts::new("none"),
            Some(ListenKind::Address | ListenKind::Network) | None => {
                let address = address(listen, &server.listen);
                let display = vnc.port.unwrap_or(VNC_PORT_BASE) - VNC_PORT_BASE;
                let mut opts = Opts::new(&format!("{address}:{display}"));
                // A line that is only shown has no port instead of one that is to be found.
                if let Some(port) = vnc.websocket.filter(|p| *p != -1 || self.launch.native) {
                    opts.put("websocket", port);
                }
                opts
            }
        };
        if let Some(policy) = vnc.share_policy.filter(|p| *p != SharePolicy::Default) {
            opts.put("share", policy.as_str());
        }
        if vnc.auth.passwd.is_some() || server.password.is_some() {
            opts.put("password", "on");
        }
        if server.tls {
            opts.put("tls-creds", VNC_CREDENTIALS);
        }
        if server.sasl {
            opts.put("sasl", "on");
        }
        if let Some(on) = vnc.power_control {
            opts.put("power-control", on_off(on));
        }
        if let Some(id) = self.audio_id(vnc.audio) {
            opts.put("audiodev", id);
        }
        if server.tls {
            self.tls_object(VNC_CREDENTIALS, true, &server.certificates);
        }
        self.sasl_folder(server);
        if let Some(keymap) = &vnc.keymap {
            self.line.opts("-vnc", opts);
            self.line.arg("-k", keymap);
            return Ok(());
        }
        self.line.opts("-vnc", opts);
        Ok(())
    }

    /// Where QEMU reads how to check users.
    fn sasl_folder(&mut self, server: &Server) {
        if let Some(dir) = server.sasl_dir.as_ref().filter(|_| server.sasl) {
            self.line.env.push(("SASL_CONF_PATH".into(), dir.clone()));
        }
    }

    fn spice(&mut self, g: &Spice) -> Result<()> {
        let server = &self.launch.settings.displays.spice;
        let listen = g.listens.first();
        let mut opts = Opts::default();
        match listen.map(|l| l.kind) {
            Some(ListenKind::Socket) => {
                opts.put("unix", "on");
                opts.put("addr", socket(listen, None));
            }
            Some(ListenKind::None) => {
                // A port of 0 keeps SPICE from listening at all.
                opts.put("port", 0);
            }
            Some(ListenKind::Address | ListenKind::Network) | None => {
                let (port, tls) = (g.port.unwrap_or(0), g.tls_port.unwrap_or(0));
                if port > 0 {
                    opts.put("port", port);
                }
                if tls > 0 {
                    opts.put("tls-port", tls);
                }
                if port > 0 || tls > 0 {
                    opts.put("addr", plain_address(listen, &server.listen));
                }
            }
        }
        if let Some(mode) = g.mouse.filter(|m| *m != SpiceMouse::Default) {
            opts.put("agent-mouse", on_off(mode == SpiceMouse::Client));
        }
        if server.sasl {
            opts.put("sasl", "on");
        }
        if g.auth.passwd.is_none() && server.password.is_none() {
            opts.put("disable-ticketing", "on");
        }
        if g.tls_port.is_some_and(|p| p > 0) {
            opts.put("x509-dir", &server.certificates.dir);
        }
        match g.default_mode {
            Some(SpiceChannelMode::Secure) => opts.put("tls-channel", "default"),
            Some(SpiceChannelMode::Insecure) => opts.put("plaintext-channel", "default"),
            _ => {}
        }
        for channel in &g.channels {
            match channel.mode {
                SpiceChannelMode::Secure => opts.put("tls-channel", channel.name),
                SpiceChannelMode::Insecure => opts.put("plaintext-channel", channel.name),
                SpiceChannelMode::Any => {}
            }
        }
        if let Some(mode) = g.image.filter(|m| *m != ImageCompression::Default) {
            opts.put("image-compression", mode);
        }
        for (key, mode) in [("jpeg-wan-compression", g.jpeg), ("zlib-glz-wan-compression", g.zlib)] {
            if let Some(mode) = mode.filter(|m| *m != WanCompression::Default) {
                opts.put(key, mode);
            }
        }
        opts = opts.switch("playback-compression", g.playback);
        if let Some(mode) = g.streaming.filter(|m| *m != StreamingMode::Default) {
            opts.put("streaming-video", mode);
        }
        if g.clipboard == Some(false) {
            opts.put("disable-copy-paste", "on");
        }
        if g.filetransfer == Some(false) {
            opts.put("disable-agent-file-xfer", "on");
        }
        if g.gl.enable == Some(true) {
            opts.put("gl", "on");
            if let Some(node) = &g.gl.rendernode {
                opts.put("rendernode", node);
            }
        }
        opts.put("seamless-migration", "on");
        self.sasl_folder(server);
        self.line.opts("-spice", opts);
        if let Some(keymap) = &g.keymap {
            self.line.arg("-k", keymap);
        }
        Ok(())
    }

    fn sdl(&mut self, g: &Sdl) {
        if let Some(xauth) = &g.xauth {
            self.line.env.push(("XAUTHORITY".into(), xauth.clone()));
        }
        if let Some(display) = &g.display {
            self.line.env.push(("DISPLAY".into(), display.clone()));
        }
        let mut opts = Opts::new("sdl");
        if g.gl.enable.is_some() {
            opts = opts.switch("gl", g.gl.enable);
        }
        if g.fullscreen == Some(true) {
            self.line.flag("-full-screen");
        }
        self.line.opts("-display", opts);
    }

    fn egl(&mut self, g: &EglHeadless) {
        let opts = Opts::new("egl-headless").opt("rendernode", g.rendernode.as_deref());
        self.line.opts("-display", opts);
    }

    fn dbus(&mut self, g: &DbusDisplay) {
        let mut opts = Opts::new("dbus");
        if g.p2p == Some(true) {
            opts.put("p2p", "on");
        } else if let Some(address) = &g.address {
            opts.put("addr", address);
        }
        opts = opts.switch("gl", g.gl.enable).opt("rendernode", g.gl.rendernode.as_deref());
        if let Some(id) = g.audio {
            opts.put("audiodev", format!("audio{id}"));
        }
        self.line.opts("-display", opts);
    }
}

fn socket(listen: Option<&Listen>, old: Option<&str>) -> String {
    listen.and_then(|l| l.socket.as_deref()).or(old).unwrap_or_default().to_string()
}

fn plain_address(listen: Option<&Listen>, default: &str) -> String {
    listen.and_then(|l| l.address.clone()).unwrap_or_else(|| default.to_string())
}

/// An IPv6 address stands in brackets before the display's number. Commas would begin options of their own.
fn address(listen: Option<&Listen>, default: &str) -> String {
    let plain = plain_address(listen, default);
    escape(&if plain.contains(':') { format!("[{plain}]") } else { plain })
}
