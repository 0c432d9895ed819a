//! Host devices handed to the guest.

use virt_error::{Code, Domain, Error, Result};
use virt_model::domain::address::PciAddress;

use super::Builder;
use super::props::{Props, on_off};
use crate::document::types::{
    Address, ControllerKind, DriveAddress, GuestReset, Hostdev, HostdevModel, HostdevSource, MdevHostdev,
    ScsiHostdev, ScsiProtocol, TeamingKind, UsbHostdev,
};

impl Builder<'_> {
    /// All host devices.
    pub(super) fn hostdevs(&mut self) -> Result<()> {
        let def = self.def;
        for dev in &def.devices.hostdevs {
            match &dev.source {
                HostdevSource::Pci(s) => self.host_pci(dev, &s.address),
                HostdevSource::Usb(s) => self.host_usb(dev, s)?,
                HostdevSource::Mdev(s) => self.mdev(dev, s),
                HostdevSource::Scsi(s) => self.host_scsi(dev, s)?,
                HostdevSource::ScsiHost(s) => self.vhost_scsi(dev, s.wwpn.as_deref().unwrap_or_default()),
                HostdevSource::Storage(_) | HostdevSource::Misc(_) | HostdevSource::Net(_) => {}
            }
        }
        Ok(())
    }

    fn alias<'d>(&self, dev: &'d Hostdev) -> &'d str {
        dev.info.alias.as_deref().unwrap_or_default()
    }

    fn host_pci(&mut self, dev: &Hostdev, at: &PciAddress) {
        let transient = dev.teaming.as_ref().filter(|t| t.kind == TeamingKind::Transient);
        let props = Props::driver("vfio-pci")
            .with("host", format!("{:04x}:{:02x}:{:02x}.{:x}", at.domain, at.bus, at.slot, at.function))
            .with("id", self.alias(dev))
            .opt("bootindex", dev.info.boot.as_ref().map(|b| b.order))
            .opt("failover_pair_id", transient.and_then(|t| t.persistent.as_deref()))
            .opt("display", dev.display.map(on_off))
            .when(dev.ramfb == Some(true), "ramfb", true);
        let props = self.place(props, &dev.info);
        let props = self.rom(props, &dev.info);
        self.line.device(props);
    }

    fn host_usb(&mut self, dev: &Hostdev, s: &UsbHostdev) -> Result<()> {
        let props = Props::driver("usb-host");
        let props = match &s.address {
            _ if s.missing == Some(true) => props,
            Some(a) if a.bus.is_some() || a.device.is_some() => {
                let (bus, device) = (a.bus.unwrap_or(0), a.device.unwrap_or(0));
                if bus == 0 && device == 0 {
                    return Err(Error::internal(
                        Domain::Qemu,
                        "USB host device is missing bus/device information",
                    ));
                }
                props.with("hostdevice", format!("/dev/bus/usb/{bus:03}/{device:03}"))
            }
            // A line that is only shown has no host to look for it on.
            _ if self.launch.native => {
                let text = "USB host device is missing bus/device information";
                return Err(Error::internal(Domain::Qemu, text));
            }
            _ => props.opt("vendorid", s.vendor).opt("productid", s.product),
        };
        let reset = s.guest_reset.and_then(|r| match r {
            GuestReset::Default => None,
            GuestReset::Off => Some((false, true)),
            GuestReset::Uninitialized => Some((true, false)),
            GuestReset::On => Some((true, true)),
        });
        let props = props
            .with("id", self.alias(dev))
            .opt("bootindex", dev.info.boot.as_ref().map(|b| b.order))
            .opt("guest-reset", reset.map(|r| r.0))
            .opt("guest-resets-all", reset.map(|r| r.1));
        let props = self.place(props, &dev.info);
        self.line.device(props);
        Ok(())
    }

    fn mdev(&mut self, dev: &Hostdev, s: &MdevHostdev) {
        let ramfb = dev.ramfb == Some(true);
        let driver = match dev.model {
            Some(HostdevModel::VfioCcw) => "vfio-ccw",
            Some(HostdevModel::VfioAp) => "vfio-ap",
            // Only the variant that cannot be unplugged has a boot display.
            _ if ramfb => "vfio-pci-nohotplug",
            _ => "vfio-pci",
        };
        let uuid = s.uuid.map(|u| u.to_string()).unwrap_or_default();
        let props = Props::driver(driver)
            .with("id", self.alias(dev))
            .with("sysfsdev", format!("/sys/bus/mdev/devices/{uuid}"))
            .opt("display", dev.display.map(on_off))
            .when(ramfb, "ramfb", true)
            .opt("bootindex", dev.info.boot.as_ref().map(|b| b.order));
        let props = self.place(props, &dev.info);
        self.line.device(props);
    }

    fn host_scsi(&mut self, dev: &Hostdev, s: &ScsiHostdev) -> Result<()> {
        let alias = self.alias(dev).to_string();
        // They are counted on after the images of disks.
        let all = self.def.devices.hostdevs.iter();
        let before = all
            .filter(|h| matches!(h.source, HostdevSource::Scsi(_)))
            .take_while(|h| h.info.alias != dev.info.alias)
            .count() as u32;
        let node = format!("libvirt-{}-backend", crate::document::nodes::next_index(self.def) + before);
        let props = if s.protocol == Some(ScsiProtocol::Iscsi) {
            let host = s.hosts.first().cloned().unwrap_or_default();
            let name = s.name.clone().unwrap_or_default();
            let (target, lun) = name.split_once('/').unwrap_or((&name, "0"));
            Props::driver("iscsi")
                .with(
                    "portal",
                    format!("{}:{}", host.name.clone().unwrap_or_default(), host.port.unwrap_or(0)),
                )
                .with("target", target)
                .with("lun", lun.parse::<u32>().unwrap_or(0))
                .with("transport", "tcp")
                .opt("initiator-name", s.initiator.as_deref())
        } else {
            let path = self.launch.scsi_generic(s).ok_or_else(|| {
                Error::new(
                    Code::InternalError,
                    Domain::Qemu,
                    "cannot find the SCSI generic device of a host device",
                )
            })?;
            Props::driver("host_device").with("filename", path)
        };
        let props = props.with("node-name", node.as_str()).with("read-only", dev.readonly);
        self.line.arg("-blockdev", props.to_string());
        let none = DriveAddress::default();
        let at = match &dev.info.address {
            Some(Address::Drive(a)) => a,
            _ => &none,
        };
        let bus = format!("{}.0", self.buses.controller(ControllerKind::Scsi, at.controller));
        let props = Props::driver("scsi-generic").with("bus", bus);
        let props = if self.buses.scsi_model(at.controller) == Some("lsilogic") {
            props.with("scsi-id", at.unit)
        } else {
            props.with("channel", at.bus).with("scsi-id", at.target).with("lun", at.unit)
        };
        let props = props
            .when(dev.shareable, "share-rw", true)
            .with("drive", node)
            .with("id", alias)
            .opt("bootindex", dev.info.boot.as_ref().map(|b| b.order));
        self.line.device(props);
        Ok(())
    }

    fn vhost_scsi(&mut self, dev: &Hostdev, wwpn: &str) {
        let suffix = match dev.model {
            Some(HostdevModel::VirtioTransitional) => "-pci-transitional",
            Some(HostdevModel::VirtioNonTransitional) => "-pci-non-transitional",
            _ if matches!(dev.info.address, Some(Address::Ccw(_))) => "-ccw",
            _ => "-pci",
        };
        let fd = self.launch.vhost_scsi_fd.unwrap_or(3);
        let props = Props::driver(&format!("vhost-scsi{suffix}"))
            .with("wwpn", wwpn)
            .with("vhostfd", fd.to_string())
            .with("id", self.alias(dev));
        let props = self.place(props, &dev.info);
        self.line.device(props);
    }
}
