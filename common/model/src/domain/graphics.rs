//! Graphical consoles.

use virt_error::{Domain, Error};
use virt_xml::{Mode, NonZero, OnOff, Xml, YesElse, YesNo, names};

/// `<graphics>`.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum Graphics {
    Sdl(Sdl),
    Vnc(Vnc),
    Rdp(Rdp),
    Desktop(Desktop),
    Spice(Box<Spice>),
    #[xml("egl-headless")]
    EglHeadless(EglHeadless),
    Dbus(DbusDisplay),
}

names! {
    /// What happens to older clients when a new one comes.
    pub enum Connected { Default = "default", Fail = "fail", Disconnect = "disconnect", Keep = "keep" }
    /// When a VNC client shares the console.
    pub enum SharePolicy { Default = "default", AllowExclusive = "allow-exclusive", ForceShared = "force-shared", Ignore = "ignore" }
    /// Where a console listens.
    pub enum ListenKind { None = "none", Address = "address", Network = "network", Socket = "socket" }
    /// SPICE's channels.
    pub enum SpiceChannelName {
        Main = "main", Display = "display", Inputs = "inputs", Cursor = "cursor", Playback = "playback", Record = "record",
        Smartcard = "smartcard", Usbredir = "usbredir"
    }
    /// Whether a channel is encrypted.
    pub enum SpiceChannelMode { Any = "any", Secure = "secure", Insecure = "insecure" }
    /// Image compression.
    pub enum ImageCompression { Default = "default", AutoGlz = "auto_glz", AutoLz = "auto_lz", Quic = "quic", Glz = "glz", Lz = "lz", Off = "off" }
    /// JPEG and zlib compression over slow links.
    pub enum WanCompression { Default = "default", Auto = "auto", Never = "never", Always = "always" }
    /// Video streams.
    pub enum StreamingMode { Default = "default", Filter = "filter", All = "all", Off = "off" }
    /// Who moves the pointer.
    pub enum SpiceMouse { Default = "default", Server = "server", Client = "client" }
}

/// A password for a console and how long it holds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct GraphicsAuth {
    #[xml(attr, secure, even_empty)]
    pub passwd: Option<String>,
    /// `2011-05-31T16:11:22`, UTC.
    #[xml(attr = "passwdValidTo", secure)]
    pub passwd_valid_to: Option<String>,
    #[xml(attr, say(ConfigUnsupported, "unknown connected value {}"))]
    pub connected: Option<Connected>,
}

impl GraphicsAuth {
    /// Until when the password holds, in seconds since 1970; `None`: for ever.
    pub fn valid_until(&self) -> Option<i64> {
        self.passwd_valid_to.as_deref().and_then(moment)
    }

    /// Without a password the rest says nothing. A moment is written with all its digits.
    pub(super) fn complete(&mut self) -> Result<(), Error> {
        if self.passwd.is_none() {
            *self = Self::default();
        }
        let Some(text) = &mut self.passwd_valid_to else { return Ok(()) };
        if moment(text).is_none() {
            let text = format!("cannot parse password validity time '{text}', expect YYYY-MM-DDTHH:MM:SS");
            return Err(Error::internal(Domain::None, text));
        }
        let parts: Vec<&str> = text.split(['-', 'T', ':']).collect();
        if let [year, month, day, hour, minute, second] = parts[..] {
            *text = format!("{year:0>4}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}:{second:0>2}");
        }
        Ok(())
    }
}

/// `YYYY-MM-DDTHH:MM:SS` in UTC as seconds since 1970.
fn moment(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let three = |text: &str, by: char| -> Option<[i64; 3]> {
        let whole = |t: &str| if t.bytes().all(|b| b.is_ascii_digit()) { t.parse().ok() } else { None };
        let parts: Vec<i64> = text.split(by).map(whole).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (three(date, '-')?, three(time, ':')?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    let fits = (1970..10_000).contains(&year)
        && (1..=*lengths.get(before)?).contains(&day)
        && (hour < 24 && minute < 60 && second < 61);
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let days =
        (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + lengths[..before].iter().sum::<i64>() + day - 1;
    fits.then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// One place where a console listens.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Listen {
    #[xml(attr = "type", required)]
    pub kind: ListenKind,
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr, loose)]
    pub network: Option<String>,
    #[xml(attr, loose)]
    pub socket: Option<String>,
    /// Whether the address came from the driver's configuration (status file only).
    #[xml(attr = "fromConfig", status)]
    pub from_config: Option<u32>,
    /// Whether the socket's path was made by the driver (status file only).
    #[xml(attr = "autoGenerated", with = YesNo, status)]
    pub auto_generated: Option<bool>,
}

/// VNC.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vnc {
    #[xml(attr)]
    pub socket: Option<String>,
    #[xml(attr, say(InternalError, "cannot parse vnc port {}"))]
    pub port: Option<i32>,
    #[xml(attr, with = YesElse)]
    pub autoport: Option<bool>,
    #[xml(attr, read_if = some_port)]
    pub websocket: Option<i32>,
    #[xml(attr = "websocketGenerated", with = YesNo, status)]
    pub websocket_generated: Option<bool>,
    /// The first listen address once more, for old clients.
    #[xml(attr)]
    pub listen: Option<String>,
    #[xml(attr, even_empty)]
    pub keymap: Option<String>,
    #[xml(attr = "sharePolicy")]
    pub share_policy: Option<SharePolicy>,
    #[xml(attr = "powerControl", with = YesNo)]
    pub power_control: Option<bool>,
    #[xml(attr = "wait", with = OnOff)]
    pub wait: Option<bool>,
    #[xml(flatten)]
    pub auth: GraphicsAuth,
    #[xml(child = "listen")]
    pub listens: Vec<Listen>,
    #[xml(attr = "audio@id", with = NonZero, required)]
    pub audio: Option<u32>,
}

/// SPICE.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Spice {
    #[xml(attr)]
    pub port: Option<i32>,
    #[xml(attr = "tlsPort", say(InternalError, "cannot parse spice tlsPort {}"))]
    pub tls_port: Option<i32>,
    #[xml(attr, with = YesNo)]
    pub autoport: Option<bool>,
    #[xml(attr)]
    pub listen: Option<String>,
    #[xml(attr, even_empty)]
    pub keymap: Option<String>,
    #[xml(attr = "defaultMode")]
    pub default_mode: Option<SpiceChannelMode>,
    #[xml(flatten)]
    pub auth: GraphicsAuth,
    #[xml(child = "listen")]
    pub listens: Vec<Listen>,
    #[xml(child = "channel")]
    pub channels: Vec<SpiceChannel>,
    #[xml(attr = "image@compression", required)]
    pub image: Option<ImageCompression>,
    #[xml(attr = "jpeg@compression")]
    pub jpeg: Option<WanCompression>,
    #[xml(attr = "zlib@compression")]
    pub zlib: Option<WanCompression>,
    #[xml(attr = "playback@compression", with = OnOff)]
    pub playback: Option<bool>,
    #[xml(attr = "streaming@mode")]
    pub streaming: Option<StreamingMode>,
    #[xml(attr = "mouse@mode")]
    pub mouse: Option<SpiceMouse>,
    #[xml(attr = "clipboard@copypaste", with = YesNo)]
    pub clipboard: Option<bool>,
    #[xml(attr = "filetransfer@enable", with = YesNo)]
    pub filetransfer: Option<bool>,
    #[xml(child)]
    pub gl: Gl,
    #[xml(attr = "audio@id", with = NonZero, required)]
    pub audio: Option<u32>,
}

/// A SPICE channel's encryption.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SpiceChannel {
    #[xml(attr, required)]
    pub name: SpiceChannelName,
    #[xml(attr, required)]
    pub mode: SpiceChannelMode,
}

/// OpenGL and the host's render node.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Gl {
    #[xml(attr, with = YesNo, required)]
    pub enable: Option<bool>,
    #[xml(attr)]
    pub rendernode: Option<String>,
}

/// A window on the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Sdl {
    #[xml(attr)]
    pub display: Option<String>,
    #[xml(attr, even_empty)]
    pub xauth: Option<String>,
    #[xml(attr, with = YesNo)]
    pub fullscreen: Option<bool>,
    #[xml(child)]
    pub gl: Gl,
    #[xml(attr = "audio@id", with = NonZero, required)]
    pub audio: Option<u32>,
}

/// RDP.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Rdp {
    #[xml(attr, say(InternalError, "cannot parse rdp port {}"))]
    pub port: Option<i32>,
    #[xml(attr, with = YesElse)]
    pub autoport: Option<bool>,
    #[xml(attr = "replaceUser", with = YesNo)]
    pub replace_user: Option<bool>,
    #[xml(attr = "multiUser", with = YesNo)]
    pub multi_user: Option<bool>,
    #[xml(attr)]
    pub listen: Option<String>,
    #[xml(attr)]
    pub username: Option<String>,
    #[xml(attr, secure)]
    pub passwd: Option<String>,
    #[xml(child = "listen")]
    pub listens: Vec<Listen>,
}

/// A desktop of the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Desktop {
    #[xml(attr)]
    pub display: Option<String>,
    #[xml(attr, with = YesNo)]
    pub fullscreen: Option<bool>,
}

/// Rendering without a window.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct EglHeadless {
    /// The host's render node; it is always used, nothing switches it on.
    #[xml(attr = "gl@rendernode")]
    pub rendernode: Option<String>,
}

/// Port 0 is none.
fn some_port(port: &i32, _: Mode) -> bool {
    *port != 0
}

/// Peers are asked for or not at all.
fn yes(on: &bool, _: Mode) -> bool {
    *on
}

/// A console on D-Bus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DbusDisplay {
    #[xml(attr, with = YesNo, read_if = yes)]
    pub p2p: Option<bool>,
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr = "fromConfig", status)]
    pub from_config: Option<u32>,
    #[xml(child)]
    pub gl: Gl,
    #[xml(attr = "audio@id", with = NonZero, required)]
    pub audio: Option<u32>,
}

impl Graphics {
    /// Takes back the ports that were chosen at start.
    pub fn forget_ports(&mut self) {
        match self {
            Self::Vnc(g) => {
                if g.autoport == Some(true) && g.port.is_some() {
                    g.port = Some(-1);
                }
                if g.websocket_generated == Some(true) {
                    g.websocket = Some(-1);
                }
            }
            Self::Spice(g) if g.autoport == Some(true) => (g.port, g.tls_port) = (None, None),
            Self::Rdp(g) if g.autoport == Some(true) && g.port.is_some() => g.port = Some(-1),
            _ => {}
        }
        let (listens, attribute) = match self {
            Self::Vnc(g) => {
                if g.listens.first().is_some_and(|l| l.auto_generated == Some(true)) {
                    g.socket = None;
                }
                (&mut g.listens, &mut g.listen)
            }
            Self::Spice(g) => (&mut g.listens, &mut g.listen),
            _ => return,
        };
        for (i, listen) in listens.iter_mut().enumerate() {
            if listen.from_config.is_some() || listen.kind == ListenKind::Network {
                listen.address = None;
                if i == 0 {
                    *attribute = None;
                }
            }
            if listen.auto_generated == Some(true) {
                listen.socket = None;
            }
        }
    }

    /// The element's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sdl(_) => "sdl",
            Self::Vnc(_) => "vnc",
            Self::Rdp(_) => "rdp",
            Self::Desktop(_) => "desktop",
            Self::Spice(_) => "spice",
            Self::EglHeadless(_) => "egl-headless",
            Self::Dbus(_) => "dbus",
        }
    }

    /// Where it listens.
    pub fn listens(&self) -> &[Listen] {
        match self {
            Self::Vnc(g) => &g.listens,
            Self::Spice(g) => &g.listens,
            Self::Rdp(g) => &g.listens,
            Self::Sdl(_) | Self::Desktop(_) | Self::EglHeadless(_) | Self::Dbus(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(text: &str) -> Option<(String, i64)> {
        let mut auth =
            GraphicsAuth { passwd: Some("x".into()), passwd_valid_to: Some(text.into()), connected: None };
        auth.complete().ok()?;
        Some((auth.passwd_valid_to.clone()?, auth.valid_until()?))
    }

    #[test]
    fn moments() {
        assert_eq!(until("1970-01-01T00:00:00"), Some(("1970-01-01T00:00:00".into(), 0)));
        assert_eq!(until("2027-1-1T0:0:0"), Some(("2027-01-01T00:00:00".into(), 1_798_761_600)));
        assert_eq!(until("2024-02-29T12:30:15").map(|u| u.1), Some(1_709_209_815));
        for wrong in [
            "",
            "never",
            "2027-13-01T00:00:00",
            "2023-02-29T00:00:00",
            "2027-01-01",
            "2027-01-01T00:00:00Z",
            "2027-01--1T00:00:00",
        ] {
            assert!(until(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn without_a_password_nothing_is_said_of_it() {
        let mut auth = GraphicsAuth {
            passwd: None,
            passwd_valid_to: Some("never".into()),
            connected: Some(Connected::Fail),
        };
        auth.complete().expect("no error");
        assert_eq!(auth, GraphicsAuth::default());
    }
}
