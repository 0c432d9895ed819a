//! Serial and parallel ports, channels, consoles, smartcards and redirected USB devices.

use crate::document::types::{
    Address, Channel, ChannelTarget, CharBackend, ConsoleTarget, ControllerKind, RedirRule, Redirdev, Serial,
    SerialModel, SmartcardMode, VirtioSerialAddress,
};
use serde_json::json;
use virt_error::Result;

use super::Builder;
use super::address::virtio_options;
use super::chardev::Purpose;
use super::props::Props;

impl Builder<'_> {
    /// Serial ports.
    pub(super) fn serials(&mut self) {
        let def = self.def;
        for serial in &def.devices.serials {
            let alias = serial.info.alias.clone().unwrap_or_default();
            let chardev = self.chardev(&serial.backend, &serial.log, &alias, Purpose::Port);
            if let Some(props) = self.serial(serial, &chardev, &alias) {
                self.line.device(props);
            } else {
                // Built into the board: the n-th chardev given this way.
                self.line.arg("-serial", format!("chardev:{chardev}"));
            }
        }
    }

    fn serial(&self, serial: &Serial, chardev: &str, alias: &str) -> Option<Props> {
        let model = match serial.target.model? {
            SerialModel::Pl011 | SerialModel::Uart16550a | SerialModel::None => return None,
            model => model.as_str(),
        };
        let props = Props::driver(model).with("chardev", chardev).with("id", alias);
        let isa = serial.target.model == Some(SerialModel::IsaSerial);
        let props = if isa { props.opt("index", serial.target.port) } else { props };
        Some(self.place(props, &serial.info))
    }

    /// Parallel ports.
    pub(super) fn parallels(&mut self) {
        let def = self.def;
        for parallel in &def.devices.parallels {
            let alias = parallel.info.alias.clone().unwrap_or_default();
            let chardev = self.chardev(&parallel.backend, &parallel.log, &alias, Purpose::Parallel);
            let props = Props::driver("isa-parallel").with("chardev", chardev).with("id", alias);
            let props = self.place(props, &parallel.info);
            self.line.device(props);
        }
    }

    /// Channels to the guest.
    pub(super) fn channels(&mut self) {
        let def = self.def;
        for channel in &def.devices.channels {
            let alias = channel.info.alias.clone().unwrap_or_default();
            let chardev = self.chardev(&channel.backend, &channel.log, &alias, Purpose::Port);
            match &channel.target {
                Some(ChannelTarget::Guestfwd(t)) => {
                    let address = t.address.clone().unwrap_or_default();
                    let port = t.port.unwrap_or(0);
                    let forward = json!([{"str": format!("tcp:{address}:{port}-chardev:{chardev}")}]);
                    let props = Props::new().with("type", "user").with("guestfwd", forward).with("id", alias);
                    self.line.arg("-netdev", props.to_string());
                }
                Some(ChannelTarget::Virtio(t)) => {
                    let props = self.virtio_port("virtserialport", channel, &chardev, &alias);
                    let spice =
                        matches!(channel.backend, CharBackend::Spicevmc | CharBackend::QemuVdagent(_));
                    let name = t.name.as_deref().or(spice.then_some("com.redhat.spice.0"));
                    self.line.device(props.opt("name", name));
                }
                Some(ChannelTarget::Xen(_)) | None => {}
            }
        }
    }

    fn virtio_port(&self, driver: &str, channel: &Channel, chardev: &str, alias: &str) -> Props {
        let none = VirtioSerialAddress::default();
        let at = match &channel.info.address {
            Some(Address::VirtioSerial(a)) => a,
            _ => &none,
        };
        self.virtio_port_at(driver, at, chardev, alias)
    }

    fn virtio_port_at(&self, driver: &str, at: &VirtioSerialAddress, chardev: &str, alias: &str) -> Props {
        let bus =
            format!("{}.{}", self.buses.controller(ControllerKind::VirtioSerial, at.controller), at.bus);
        Props::driver(driver).with("bus", bus).with("nr", at.port).with("chardev", chardev).with("id", alias)
    }

    /// Consoles that are devices of their own; the first one usually stands for the first serial port.
    pub(super) fn consoles(&mut self) {
        let def = self.def;
        for console in &def.devices.consoles {
            let alias = console.info.alias.clone().unwrap_or_default();
            match console.target.kind {
                Some(ConsoleTarget::Virtio) => {
                    let chardev = self.chardev(&console.backend, &console.log, &alias, Purpose::Port);
                    let props = if let Some(Address::VirtioSerial(at)) = &console.info.address {
                        self.virtio_port_at("virtconsole", at, &chardev, &alias)
                    } else {
                        let props = Props::driver("virtconsole").with("chardev", chardev).with("id", alias);
                        self.place(props, &console.info)
                    };
                    self.line.device(props);
                }
                Some(kind @ (ConsoleTarget::Sclp | ConsoleTarget::SclpLm)) => {
                    let chardev = self.chardev(&console.backend, &console.log, &alias, Purpose::Port);
                    let name = if kind == ConsoleTarget::Sclp { "sclpconsole" } else { "sclplmconsole" };
                    self.line.device(Props::driver(name).with("chardev", chardev).with("id", alias));
                }
                _ => {}
            }
        }
    }

    /// The smartcard.
    pub(super) fn smartcards(&mut self) {
        let def = self.def;
        for card in &def.devices.smartcards {
            let alias = card.info.alias.clone().unwrap_or_default();
            let props = match &card.mode {
                SmartcardMode::Host => Props::driver("ccid-card-emulated").with("backend", "nss-emulated"),
                SmartcardMode::HostCertificates(c) => {
                    let mut props = Props::driver("ccid-card-emulated").with("backend", "certificates");
                    for (i, name) in c.certificates.iter().enumerate() {
                        props.put(&format!("cert{}", i + 1), name.as_str());
                    }
                    props.with("db", c.database.as_deref().unwrap_or("/etc/pki/nssdb"))
                }
                SmartcardMode::Passthrough(side) => {
                    let chardev = self.chardev(&side.backend, &side.log, &alias, Purpose::Smartcard);
                    Props::driver("ccid-card-passthru").with("chardev", chardev)
                }
            };
            let reader = match &card.info.address {
                Some(Address::Ccid(a)) => a.controller,
                _ => 0,
            };
            let bus = format!("{}.0", self.buses.controller(ControllerKind::Ccid, reader));
            self.line.device(props.with("id", alias).with("bus", bus));
        }
    }

    /// USB devices a client lends to the guest.
    pub(super) fn redirdevs(&mut self) {
        let def = self.def;
        let filter = def
            .devices
            .redirfilter
            .as_ref()
            .map(|f| f.usbdevs.iter().map(rule).collect::<Vec<_>>().join("|"));
        for device in &def.devices.redirdevs {
            let props = self.redirdev(device, filter.as_deref());
            self.line.device(props);
        }
    }

    fn redirdev(&mut self, device: &Redirdev, filter: Option<&str>) -> Props {
        let alias = device.info.alias.clone().unwrap_or_default();
        let chardev = self.chardev(&device.backend, &Default::default(), &alias, Purpose::Redirection);
        let props = Props::driver("usb-redir")
            .with("chardev", chardev)
            .with("id", alias)
            .opt("filter", filter)
            .opt("bootindex", device.info.boot.as_ref().map(|b| b.order));
        self.place(props, &device.info)
    }

    /// Random number devices with their backends.
    pub(super) fn rngs(&mut self) -> Result<()> {
        use crate::document::types::{RngBackend, RngModel, VirtioModel};
        let def = self.def;
        for rng in &def.devices.rngs {
            let alias = rng.info.alias.clone().unwrap_or_default();
            let id = format!("obj{alias}");
            let object = match &rng.backend {
                Some(RngBackend::Random(p)) => Props::object("rng-random", &id)
                    .with("filename", p.path.clone().unwrap_or_else(|| "/dev/random".into())),
                Some(RngBackend::Egd(side)) => {
                    let chardev = self.chardev(&side.backend, &side.log, &alias, Purpose::Port);
                    Props::object("rng-egd", &id).with("chardev", chardev)
                }
                Some(RngBackend::Builtin) | None => Props::object("rng-builtin", &id),
            };
            self.line.object(object);
            let model = match rng.model {
                RngModel::Virtio => VirtioModel::Virtio,
                RngModel::Transitional => VirtioModel::Transitional,
                RngModel::NonTransitional => VirtioModel::NonTransitional,
            };
            let mut props = super::address::virtio("virtio-rng", Some(model), &rng.info, &Default::default());
            props = virtio_options(props, &rng.driver).with("rng", id).with("id", alias);
            if let Some(rate) = rng.rate.as_ref().filter(|r| r.bytes > 0) {
                props = props.with("max-bytes", rate.bytes).with("period", rate.period.unwrap_or(1000));
            }
            let props = self.place(props, &rng.info);
            self.line.device(props);
        }
        Ok(())
    }
}

/// `class:vendor:product:version:allow`, -1 for anything.
fn rule(r: &RedirRule) -> String {
    let hex =
        |n: Option<u32>, width: usize| n.map_or_else(|| "-1".to_string(), |n| format!("0x{n:0width$X}"));
    let version = r.version.as_deref().and_then(bcd).map_or_else(|| "-1".into(), |v| format!("0x{v:04X}"));
    format!("{}:{}:{}:{version}:{}", hex(r.class, 2), hex(r.vendor, 4), hex(r.product, 4), u32::from(r.allow))
}

/// `2.10` as binary coded decimal: 0x0210.
fn bcd(version: &str) -> Option<u32> {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let digits = |text: &str| text.parse::<u32>().ok().map(|n| ((n / 10) << 4) | (n % 10));
    let minor = if minor.len() == 1 { format!("{minor}0") } else { minor.to_string() };
    Some(digits(major)? << 8 | digits(&minor)?)
}
