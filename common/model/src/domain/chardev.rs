//! Character devices: serial, parallel, console and channel, and the host side they share with smartcards, RNGs and
//! redirected USB devices.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, OnOff, Xml, YesNo, names};

use super::info::DeviceInfo;
use super::seclabel::DeviceSeclabel;

/// The host side of a character device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(
    tag = "type",
    default = "pty",
    say(ConfigUnsupported, "unknown type presented to host for character device: {}")
)]
pub enum CharBackend {
    #[default]
    Null,
    Vc,
    #[xml("pty", child = "source")]
    Pty(PtySource),
    #[xml("dev", child = "source")]
    Dev(PathSource),
    #[xml("file", child = "source")]
    File(FileSource),
    #[xml("pipe", child = "source")]
    Pipe(PathSource),
    Stdio,
    Udp(UdpBackend),
    Tcp(TcpBackend),
    #[xml("unix", child = "source")]
    Unix(UnixSource),
    Spicevmc,
    #[xml("spiceport", child = "source")]
    Spiceport(ChannelSource),
    #[xml("nmdm", child = "source")]
    Nmdm(NmdmSource),
    #[xml("qemu-vdagent", child = "source")]
    QemuVdagent(VdagentSource),
    #[xml("dbus", child = "source")]
    Dbus(ChannelSource),
}

names! {
    /// Which end waits for the other.
    pub enum SocketMode { Connect = "connect", Bind = "bind" }
    /// What is spoken over a TCP socket.
    pub enum TcpProtocol { Raw = "raw", Telnet = "telnet", Telnets = "telnets", Tls = "tls" }
    /// Who moves the pointer.
    pub enum MouseMode { Client = "client", Server = "server" }
}

/// A pseudo terminal; its path exists while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PtySource {
    #[xml(attr, live, even_empty)]
    pub path: Option<String>,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
}

/// A host device or a pair of named pipes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PathSource {
    #[xml(attr, even_empty)]
    pub path: Option<String>,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
}

/// A file written to.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FileSource {
    #[xml(attr, even_empty)]
    pub path: Option<String>,
    #[xml(attr, with = OnOff)]
    pub append: Option<bool>,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
}

/// A port number where -1 is as good as none.
pub struct PortNumber;

const BAD_PORT: virt_xml::Say =
    virt_xml::Say { code: Code::XmlError, domain: Domain::Domain, text: "Invalid port number: {}" };

impl virt_xml::Codec<u32> for PortNumber {
    fn parse(text: &str) -> Result<u32, virt_xml::Bad> {
        let port = virt_xml::parse_int(text, 10).and_then(|n| i32::try_from(n).ok());
        match port {
            None => Err(virt_xml::Bad::Own(&BAD_PORT)),
            Some(port) => u32::try_from(port).map_err(|_| virt_xml::Bad::Missing),
        }
    }
    fn put(value: &u32, out: &mut String) {
        out.push_str(&value.to_string());
    }
}

/// Whether a lost connection is made anew, and after how many seconds.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Reconnect::check)]
pub struct Reconnect {
    #[xml(attr, with = YesNo)]
    pub enabled: Option<bool>,
    /// Seconds.
    #[xml(attr)]
    pub timeout: Option<u32>,
}

impl Reconnect {
    /// One that says nothing is none.
    pub(super) fn says(&self, _: Mode) -> bool {
        self.enabled.is_some()
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        match (self.enabled, self.timeout) {
            (Some(true), None) => return Err(e.missing_attr("timeout")),
            (Some(true), _) => {}
            _ => self.timeout = None,
        }
        Ok(())
    }
}

/// A unix socket. Without a path the driver makes one.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct UnixSource {
    #[xml(attr)]
    pub mode: Option<SocketMode>,
    #[xml(attr, even_empty)]
    pub path: Option<String>,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
    #[xml(child, keep_if = Reconnect::says)]
    pub reconnect: Option<Reconnect>,
}

/// A TCP socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TcpBackend {
    #[xml(child, once(XmlError, "only one source element is allowed for character device"))]
    pub source: TcpSource,
    #[xml(
        attr = "protocol@type",
        once(XmlError, "only one protocol element is allowed for character device")
    )]
    pub protocol: Option<TcpProtocol>,
}

/// Where a TCP socket is.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct TcpSource {
    #[xml(attr)]
    pub mode: Option<SocketMode>,
    #[xml(attr, even_empty)]
    pub host: Option<String>,
    #[xml(attr, even_empty)]
    pub service: Option<String>,
    #[xml(attr, with = YesNo)]
    pub tls: Option<bool>,
    /// Whether `tls` came from the driver's configuration (status file only).
    #[xml(attr = "tlsFromConfig", status)]
    pub tls_from_config: Option<u32>,
    #[xml(child = "seclabel", keep_if = DeviceSeclabel::shown)]
    pub seclabels: Vec<DeviceSeclabel>,
    #[xml(child, keep_if = Reconnect::says)]
    pub reconnect: Option<Reconnect>,
}

/// A UDP socket: one source to send to, one to receive on.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = UdpBackend::check)]
pub struct UdpBackend {
    #[xml(child = "source")]
    pub sources: Vec<UdpSource>,
}

impl UdpBackend {
    /// The reference writes the receiving end first.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        self.sources.sort_by_key(|s| s.mode != Some(SocketMode::Bind));
        // Of two for one direction the first counts.
        self.sources.dedup_by_key(|s| s.mode.unwrap_or_default());
        Ok(())
    }

    /// The end with this mode.
    pub fn source(&self, mode: SocketMode) -> Option<&UdpSource> {
        self.sources.iter().find(|s| s.mode.unwrap_or_default() == mode)
    }
}

/// One end of a UDP socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct UdpSource {
    #[xml(attr)]
    pub mode: Option<SocketMode>,
    #[xml(attr, even_empty)]
    pub host: Option<String>,
    #[xml(attr, even_empty)]
    pub service: Option<String>,
}

/// A named channel of SPICE or D-Bus.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ChannelSource {
    #[xml(attr, even_empty)]
    pub channel: Option<String>,
}

/// A pair of null modem devices.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NmdmSource {
    #[xml(attr)]
    pub master: Option<String>,
    #[xml(attr)]
    pub slave: Option<String>,
}

/// QEMU's own SPICE agent.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VdagentSource {
    #[xml(attr = "clipboard@copypaste", with = YesNo, required)]
    pub clipboard: Option<bool>,
    #[xml(attr = "mouse@mode", required)]
    pub mouse: Option<MouseMode>,
}

/// A copy of everything the guest sends.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CharLog::check)]
pub struct CharLog {
    #[xml(attr)]
    pub file: Option<String>,
    #[xml(attr, with = OnOff)]
    pub append: Option<bool>,
}

impl CharLog {
    /// A log without a file is none.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.file.is_none() {
            *self = Self::default();
        }
        Ok(())
    }
}

/// A host side and its log, of a device that has further kinds of host sides.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct LoggedBackend {
    #[xml(flatten)]
    pub backend: CharBackend,
    #[xml(child, once(XmlError, "only one log element is allowed for character device"))]
    pub log: CharLog,
}

impl CharBackend {
    /// The path of a file, pty, device, pipe or unix socket.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Pty(s) => s.path.as_deref(),
            Self::Dev(s) | Self::Pipe(s) => s.path.as_deref(),
            Self::File(s) => s.path.as_deref(),
            Self::Unix(s) => s.path.as_deref(),
            _ => None,
        }
    }

    /// How many sources the element may have.
    pub(super) fn check(&self, e: El<'_>) -> Result<()> {
        let (most, text) = match self {
            Self::Udp(_) => (2, "only two source elements are allowed for character device"),
            Self::Tcp(_) => return Ok(()),
            _ => (1, "only one source element is allowed for character device"),
        };
        if e.children_named("source").count() > most {
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        if e.children_named("protocol").nth(1).is_some() {
            let text = "only one protocol element is allowed for character device";
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        Ok(())
    }
}

names! {
    /// The device a serial port is.
    pub enum SerialTarget {
        None = "none", Isa = "isa-serial", Usb = "usb-serial", Pci = "pci-serial", SpaprVio = "spapr-vio-serial",
        System = "system-serial", Sclp = "sclp-serial", IsaDebug = "isa-debug"
    }
    /// The model of a serial port.
    pub enum SerialModel {
        None = "none", IsaSerial = "isa-serial", UsbSerial = "usb-serial", PciSerial = "pci-serial",
        SpaprVty = "spapr-vty", Pl011 = "pl011", Uart16550a = "16550a", SclpConsole = "sclpconsole",
        SclpLmConsole = "sclplmconsole", IsaDebugcon = "isa-debugcon"
    }
    /// What a console is connected to.
    pub enum ConsoleTarget {
        None = "none", Serial = "serial", Xen = "xen", Uml = "uml", Virtio = "virtio", Lxc = "lxc", Openvz = "openvz",
        Sclp = "sclp", SclpLm = "sclplm"
    }
    /// Whether the guest has a virtio port open.
    pub enum PortState { Connected = "connected", Disconnected = "disconnected" }
}

/// The guest side of a serial port.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SerialTargetSpec {
    #[xml(attr = "type", say(ConfigUnsupported, "unknown target type '{}' specified for character device"))]
    pub kind: Option<SerialTarget>,
    #[xml(attr, with = PortNumber)]
    pub port: Option<u32>,
    #[xml(
        attr = "model@name",
        loose,
        say(ConfigUnsupported, "unknown target model '{}' specified for character device")
    )]
    pub model: Option<SerialModel>,
}

/// `<serial>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Serial::check)]
pub struct Serial {
    #[xml(flatten)]
    pub backend: CharBackend,
    #[xml(child, once(XmlError, "only one log element is allowed for character device"))]
    pub log: CharLog,
    #[xml(child)]
    pub target: SerialTargetSpec,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Serial {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.backend.check(e)
    }
}

/// `<parallel>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Parallel::check)]
pub struct Parallel {
    #[xml(flatten)]
    pub backend: CharBackend,
    #[xml(child, once(XmlError, "only one log element is allowed for character device"))]
    pub log: CharLog,
    #[xml(attr = "target@port", with = PortNumber)]
    pub port: Option<u32>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Parallel {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.backend.check(e)
    }
}

/// The guest side of a console.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct ConsoleTargetSpec {
    #[xml(attr = "type", say(ConfigUnsupported, "unknown target type '{}' specified for character device"))]
    pub kind: Option<ConsoleTarget>,
    #[xml(attr, with = PortNumber)]
    pub port: Option<u32>,
}

/// `<console>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Console::check)]
pub struct Console {
    #[xml(flatten)]
    pub backend: CharBackend,
    /// The pseudo terminal once more, for old clients: the same as the backend's path.
    #[xml(attr, live)]
    pub tty: Option<String>,
    #[xml(child, once(XmlError, "only one log element is allowed for character device"))]
    pub log: CharLog,
    #[xml(child)]
    pub target: ConsoleTargetSpec,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Console {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.backend.check(e)
    }
}

/// The guest side of a channel.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type", say(ConfigUnsupported, "unknown target type '{}' specified for character device"))]
pub enum ChannelTarget {
    Guestfwd(GuestfwdTarget),
    Virtio(VirtioTarget),
    Xen(VirtioTarget),
}

/// An address in numbers.
pub struct NumericIp;

impl virt_xml::Codec<String> for NumericIp {
    fn parse(text: &str) -> std::result::Result<String, virt_xml::Bad> {
        let address = virt_xml::parse_ip(text).ok_or(virt_xml::Bad::Own(&virt_xml::NO_ADDRESS))?;
        Ok(address.to_string())
    }
    fn put(value: &String, out: &mut String) {
        out.push_str(value);
    }
}

/// An address in the guest's user network.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct GuestfwdTarget {
    #[xml(attr, with = NumericIp, need(XmlError, "guestfwd channel does not define a target address"))]
    pub address: Option<String>,
    #[xml(attr, required)]
    pub port: Option<u16>,
}

/// A named port of a virtio-serial controller.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VirtioTarget {
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr, live)]
    pub state: Option<PortState>,
}

/// `<channel>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Channel::check)]
pub struct Channel {
    #[xml(flatten)]
    pub backend: CharBackend,
    #[xml(child, once(XmlError, "only one log element is allowed for character device"))]
    pub log: CharLog,
    #[xml(child)]
    pub target: Option<ChannelTarget>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Channel {
    /// Whether another channel ends at the same place in the guest; whether somebody listens there does not matter.
    #[must_use]
    pub fn same_target(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Some(ChannelTarget::Virtio(a)), Some(ChannelTarget::Virtio(b)))
            | (Some(ChannelTarget::Xen(a)), Some(ChannelTarget::Xen(b))) => a.name == b.name,
            (a, b) => a == b,
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        if e.child("target").is_none_or(|t| t.attr("type").is_none()) {
            let text = "target type must be specified for channel device";
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        self.backend.check(e)
    }
}
