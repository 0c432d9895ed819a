//! Network cards: `-netdev` and the device.

use crate::document::machine;
use crate::document::types::{Interface, NetBackendKind, NetSource, TxMode, VhostUserMode};
use serde_json::json;
use virt_error::{Code, Domain, Error, Result};

use super::address::virtio;
use super::chardev::socket_role;
use super::props::{Opts, Props};
use super::{Builder, NetFds};

impl Builder<'_> {
    /// All network cards.
    pub(super) fn interfaces(&mut self) -> Result<()> {
        let def = self.def;
        for (i, net) in def.devices.interfaces.iter().enumerate() {
            if matches!(net.source, NetSource::Hostdev(_)) && !self.launch.native {
                continue;
            }
            self.interface(net, i)?;
        }
        Ok(())
    }

    fn interface(&mut self, net: &Interface, index: usize) -> Result<()> {
        let alias = net.info.alias.clone().unwrap_or_default();
        let host = format!("host{alias}");
        let netdev = self.netdev(net, index, &host)?;
        self.line.arg("-netdev", netdev.to_string());
        if let Some(model) = self.built_in(net) {
            let mac = net.mac.as_ref().and_then(|m| m.address).map(|m| m.to_string());
            let opts = Opts::new("nic")
                .opt("macaddr", mac)
                .with("netdev", &host)
                .with("model", model)
                .with("id", &alias);
            self.line.opts("-net", opts);
            return Ok(());
        }
        let props = self.card(net, &alias, &host);
        self.line.device(props);
        Ok(())
    }

    /// The card that is soldered to an Arm board.
    fn built_in<'n>(&self, net: &'n Interface) -> Option<&'n str> {
        let arch = &self.emulator.arch;
        let board = machine::is_arm(arch) && !machine::is_arm_virt(arch, self.machine());
        net.model.as_deref().filter(|m| board && matches!(*m, "lan9118" | "smc91c111"))
    }

    fn netdev(&mut self, net: &Interface, index: usize, id: &str) -> Result<Props> {
        let fds = if self.launch.native {
            Some(NetFds::placeholder(index))
        } else {
            net.info.alias.as_ref().and_then(|alias| self.launch.net_fds.get(alias)).cloned()
        };
        if let Some(fds) = fds.filter(|f| !f.tap.is_empty()) {
            // A line that is only shown has a tap in every place.
            let vdpa = matches!(net.source, NetSource::Vdpa(_)) && !self.launch.native;
            let props = if vdpa { vhost_vdpa(net, &fds) } else { tap(net, &fds) };
            return Ok(props.with("id", id));
        }
        let props = match &net.source {
            NetSource::User(_) if net.backend.kind == Some(NetBackendKind::Passt) => {
                let socket = self.launch.passt_socket(&net.info);
                let mut props = Props::new()
                    .with("type", "stream")
                    .with("addr", json!({"type": "unix", "path": socket}))
                    .with("server", false);
                if self.emulator.at_least(9, 2) {
                    props.put("reconnect-ms", 5000);
                } else {
                    props.put("reconnect", 5);
                }
                props
            }
            NetSource::User(_) => user(net),
            NetSource::Server(s) => {
                let host = s.address.clone().unwrap_or_default();
                Props::new().with("type", "socket").with("listen", format!("{host}:{}", s.port.unwrap_or(0)))
            }
            NetSource::Client(s) => {
                let host = s.address.clone().unwrap_or_default();
                Props::new().with("type", "socket").with("connect", format!("{host}:{}", s.port.unwrap_or(0)))
            }
            NetSource::Mcast(s) => {
                let host = s.address.clone().unwrap_or_default();
                Props::new().with("type", "socket").with("mcast", format!("{host}:{}", s.port.unwrap_or(0)))
            }
            NetSource::Udp(s) => {
                let local = s.local.clone().unwrap_or_default();
                Props::new()
                    .with("type", "socket")
                    .with("udp", format!("{}:{}", s.address.clone().unwrap_or_default(), s.port.unwrap_or(0)))
                    .with(
                        "localaddr",
                        format!("{}:{}", local.address.unwrap_or_default(), local.port.unwrap_or(0)),
                    )
            }
            NetSource::VhostUser(s) => {
                let alias = net.info.alias.clone().unwrap_or_default();
                let chardev = format!("char{alias}");
                let mut opts = Opts::new("socket").with("id", &chardev).opt("path", s.path.as_deref());
                let server = s.mode == Some(VhostUserMode::Server);
                socket_role(&mut opts, server, s.reconnect.as_ref(), self.emulator.at_least(9, 2));
                self.line.opts("-chardev", opts);
                Props::new()
                    .with("type", "vhost-user")
                    .with("chardev", chardev)
                    .opt("queues", net.driver.queues.filter(|q| *q > 1))
            }
            NetSource::Null => Props::new().with("type", "hubport").with("hubid", 0),
            other => {
                let kind = other.tag();
                let text = format!("network card of type '{kind}' was not connected before the start");
                return Err(Error::new(Code::InternalError, Domain::Qemu, text));
            }
        };
        Ok(props.with("id", id))
    }

    fn card(&self, net: &Interface, alias: &str, host: &str) -> Props {
        let model = net.model.as_deref().unwrap_or("virtio");
        let driver = &net.driver;
        let is_virtio = matches!(model, "virtio" | "virtio-transitional" | "virtio-non-transitional");
        let props = if is_virtio {
            let variant = crate::document::types::VirtioModel::from_name(model);
            let queues = driver.queues.filter(|q| *q > 1);
            let pci = !matches!(net.info.address, Some(crate::document::types::Address::Ccw(_)));
            let tx = driver.txmode.and_then(|m| match m {
                TxMode::Iothread => Some("bh"),
                TxMode::Timer => Some("timer"),
                TxMode::Default => None,
            });
            let (h, g) = (&driver.host, &driver.guest);
            virtio("virtio-net", variant, &net.info, &driver.virtio)
                .opt("tx", tx)
                .opt("ioeventfd", driver.ioeventfd)
                .opt("event_idx", driver.event_idx)
                .opt("csum", h.csum)
                .opt("gso", h.gso)
                .opt("host_tso4", h.tso4)
                .opt("host_tso6", h.tso6)
                .opt("host_ecn", h.ecn)
                .opt("host_ufo", h.ufo)
                .opt("mrg_rxbuf", h.mrg_rxbuf)
                .opt("guest_csum", g.csum)
                .opt("guest_tso4", g.tso4)
                .opt("guest_tso6", g.tso6)
                .opt("guest_ecn", g.ecn)
                .opt("guest_ufo", g.ufo)
                .when(queues.is_some(), "mq", true)
                .opt("vectors", queues.filter(|_| pci).map(|q| 2 * q + 2))
                .opt("rx_queue_size", driver.rx_queue_size)
                .opt("tx_queue_size", driver.tx_queue_size)
                .opt("host_mtu", net.mtu)
                .opt("rss", driver.rss)
                .opt("hash", driver.rss_hash_report)
                .when(
                    net.teaming
                        .as_ref()
                        .is_some_and(|t| t.kind == crate::document::types::TeamingKind::Persistent),
                    "failover",
                    true,
                )
        } else {
            Props::driver(model)
        };
        let mac = net.mac.as_ref().and_then(|m| m.address).map(|m| m.to_string());
        let props = props
            .with("netdev", host)
            .with("id", alias)
            .opt("mac", mac)
            .opt("bootindex", self.boot.of_interface(net))
            .opt("loadparm", net.info.boot.as_ref().and_then(|b| b.loadparm.clone()));
        let props = self.place(props, &net.info);
        self.rom(props, &net.info)
    }
}

/// A device of the host that moves the packets itself.
fn vhost_vdpa(net: &Interface, fds: &NetFds) -> Props {
    Props::new()
        .with("type", "vhost-vdpa")
        .opt("vhostfd", fds.tap.first().cloned())
        .opt("queues", net.driver.queues.filter(|q| *q > 1))
}

/// A card on a tap that was opened before.
fn tap(net: &Interface, fds: &NetFds) -> Props {
    let mut props = Props::new().with("type", "tap");
    let many = fds.tap.len() > 1;
    props.put(if many { "fds" } else { "fd" }, fds.tap.join(":"));
    if !fds.vhost.is_empty() {
        props.put("vhost", true);
        props.put(if many { "vhostfds" } else { "vhostfd" }, fds.vhost.join(":"));
    }
    props.opt("sndbuf", net.tune.sndbuf)
}

/// QEMU's own user network.
fn user(net: &Interface) -> Props {
    let mut props = Props::new().with("type", "user");
    for ip in &net.ips {
        let address = ip.address.clone().unwrap_or_default();
        if ip.family.as_deref() == Some("ipv6") || address.contains(':') {
            props.put("ipv6-prefix", address);
            if let Some(prefix) = ip.prefix {
                props.put("ipv6-prefixlen", prefix);
            }
        } else {
            let prefix = ip.prefix.map(|p| format!("/{p}")).unwrap_or_default();
            props.put("net", format!("{address}{prefix}"));
        }
    }
    props
}
