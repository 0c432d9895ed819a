//! Small devices: input, hub, watchdog, balloon, panic notifier, shared memory, vsock, IOMMU, crypto, crash store, TPM.

use virt_error::Result;

use super::Builder;
use super::address::{virtio, virtio_options};
use super::props::{Opts, Props, on_off};
use crate::document::machine;
use crate::document::types::{
    Address, BalloonModel, CryptoBackendModel, InputBus, InputGrab, InputKind, IommuModel, PanicModel, Shmem,
    ShmemModel, ShmemRole, TpmBackend, TpmModel, VirtioModel, WatchdogAction, WatchdogModel,
};

impl Builder<'_> {
    /// Keyboards, pointers and passed-through event devices.
    pub(super) fn inputs(&mut self) -> Result<()> {
        let def = self.def;
        for input in &def.devices.inputs {
            let alias = input.info.alias.clone().unwrap_or_default();
            if input.kind == InputKind::Evdev {
                let s = &input.source;
                let props = Props::object("input-linux", &alias)
                    .opt("evdev", s.dev.as_deref())
                    .opt("repeat", s.repeat)
                    .when(s.grab == Some(InputGrab::All), "grab_all", true)
                    .opt("grab-toggle", s.grab_toggle.map(|g| g.as_str()));
                self.line.object(props);
                continue;
            }
            let props = match input.bus.unwrap_or_default() {
                InputBus::Usb => Props::driver(match input.kind {
                    InputKind::Mouse => "usb-mouse",
                    InputKind::Tablet => "usb-tablet",
                    _ => "usb-kbd",
                })
                .with("id", alias),
                InputBus::Virtio => {
                    let base = match input.kind {
                        InputKind::Mouse => "virtio-mouse",
                        InputKind::Tablet => "virtio-tablet",
                        InputKind::Keyboard => "virtio-keyboard",
                        _ => "virtio-input-host",
                    };
                    // Only the passed-through device has the old variants.
                    let model = input.model.or(Some(VirtioModel::Default));
                    virtio(base, model, &input.info, &input.driver)
                        .with("id", alias)
                        .opt("evdev", input.source.evdev.as_deref())
                }
                _ => continue,
            };
            let props = self.place(props, &input.info);
            self.line.device(props);
        }
        Ok(())
    }

    /// USB hubs.
    pub(super) fn hubs(&mut self) {
        let def = self.def;
        for hub in &def.devices.hubs {
            let props = Props::driver("usb-hub").with("id", hub.info.alias.clone().unwrap_or_default());
            let props = self.place(props, &hub.info);
            self.line.device(props);
        }
    }

    /// Watchdogs and what they do.
    pub(super) fn watchdogs(&mut self) {
        let def = self.def;
        for watchdog in def.devices.watchdogs.iter().filter(|w| w.model != WatchdogModel::Itco) {
            let alias = watchdog.info.alias.clone().unwrap_or_default();
            let props = self.place(Props::driver(watchdog.model.as_str()).with("id", alias), &watchdog.info);
            self.line.device(props);
        }
        // Part of the chipset: it only has to be let loose.
        if def.devices.watchdogs.iter().any(|w| w.model == WatchdogModel::Itco) {
            self.line.arg("-global", "ICH9-LPC.noreboot=off");
        }
        if let Some(first) = def.devices.watchdogs.first() {
            // A dump is taken by us: QEMU pauses the guest and tells.
            let action = match first.action {
                WatchdogAction::Dump => "pause",
                action => action.as_str(),
            };
            self.line.arg("-watchdog-action", action);
        }
    }

    /// The balloon.
    pub(super) fn memballoon(&mut self) {
        let def = self.def;
        let Some(balloon) = &def.devices.memballoon else { return };
        let model = match balloon.model {
            BalloonModel::Virtio => VirtioModel::Virtio,
            BalloonModel::Transitional => VirtioModel::Transitional,
            BalloonModel::NonTransitional => VirtioModel::NonTransitional,
            BalloonModel::None | BalloonModel::Xen => return,
        };
        let props = virtio("virtio-balloon", Some(model), &balloon.info, &balloon.driver)
            .with("id", balloon.info.alias.clone().unwrap_or_default())
            .opt("deflate-on-oom", balloon.autodeflate)
            .opt("free-page-reporting", balloon.free_page_reporting);
        let props = self.place(props, &balloon.info);
        self.line.device(props);
    }

    /// The place where a guest's kernel leaves a note for dumps.
    pub(super) fn vmcoreinfo(&mut self) {
        if self.def.features.vmcoreinfo.as_ref().is_some_and(|s| s.on()) {
            self.line.device(Props::driver("vmcoreinfo"));
        }
    }

    /// The NVRAM device of PowerPC.
    pub(super) fn nvram_device(&mut self) {
        if let Some(nvram) = &self.def.devices.nvram
            && let Some(Address::SpaprVio(a)) = &nvram.info.address
        {
            let reg = a.reg.unwrap_or(0);
            self.line.arg("-global", format!("spapr-nvram.reg=0x{reg:x}"));
        }
    }

    /// Panic notifiers.
    pub(super) fn panics(&mut self) {
        let def = self.def;
        for panic in &def.devices.panics {
            match panic.model {
                Some(PanicModel::Isa) => {
                    let port = match &panic.info.address {
                        Some(Address::Isa(a)) => a.iobase,
                        _ => None,
                    };
                    self.line.device(Props::driver("pvpanic").opt("ioport", port));
                }
                Some(PanicModel::Pvpanic) => {
                    let props = self.place(Props::driver("pvpanic-pci"), &panic.info);
                    self.line.device(props);
                }
                _ => {}
            }
        }
    }

    /// Memory shared with other guests.
    pub(super) fn shmems(&mut self) {
        let def = self.def;
        for shmem in &def.devices.shmems {
            self.shmem(shmem);
        }
    }

    fn shmem(&mut self, shmem: &Shmem) {
        let alias = shmem.info.alias.clone().unwrap_or_default();
        let bytes = shmem.size.map_or(4 << 20, |s| s.bytes);
        let props = match shmem.model.unwrap_or(ShmemModel::Plain) {
            ShmemModel::Doorbell | ShmemModel::Ivshmem if shmem.server.is_some() => {
                let above = self.launch.lib_dir.rsplit_once('/').map_or("", |(above, _)| above);
                let default = format!("{above}/shmem-{}-sock", shmem.name);
                let path = shmem.server.as_ref().and_then(|s| s.path.clone()).unwrap_or(default);
                let opts = Opts::new("socket").with("id", format!("char{alias}")).with("path", path);
                let msi = shmem.msi.clone().unwrap_or_default();
                let props = Props::driver("ivshmem-doorbell")
                    .with("id", alias.as_str())
                    .with("chardev", format!("char{alias}"))
                    .opt("vectors", msi.vectors)
                    .opt("ioeventfd", msi.ioeventfd);
                let props = self.place(props, &shmem.info);
                self.line.device(props);
                self.line.opts("-chardev", opts);
                return;
            }
            _ => {
                let memory = format!("shmmem-{alias}");
                let path = format!("/dev/shm/{}", shmem.name);
                self.line.object(
                    Props::object("memory-backend-file", &memory)
                        .with("mem-path", path)
                        .with("size", bytes)
                        .with("share", true),
                );
                Props::driver("ivshmem-plain")
                    .with("id", alias.as_str())
                    .with("memdev", memory)
                    .opt("master", role(shmem.role))
            }
        };
        let props = self.place(props, &shmem.info);
        self.line.device(props);
    }

    /// The vsock device; its descriptor was opened before, or stands for one in a line that is only shown.
    pub(super) fn vsock(&mut self) {
        let def = self.def;
        let Some(vsock) = &def.devices.vsock else { return };
        let model = vsock.model.or(Some(VirtioModel::Default));
        let fd = self.launch.vsock_fd.unwrap_or(-1);
        let props = virtio("vhost-vsock", model, &vsock.info, &vsock.driver)
            .with("id", vsock.info.alias.clone().unwrap_or_default())
            .with("guest-cid", vsock.cid.unwrap_or(0))
            .with("vhostfd", fd.to_string());
        let props = self.place(props, &vsock.info);
        self.line.device(props);
    }

    /// IOMMUs, before the devices behind them.
    pub(super) fn iommus(&mut self) {
        let def = self.def;
        for iommu in &def.devices.iommus {
            let alias = iommu.info.alias.clone().unwrap_or_default();
            let d = &iommu.driver;
            let props = match iommu.model {
                IommuModel::Intel => Props::driver("intel-iommu")
                    .with("id", alias)
                    .opt("intremap", d.intremap.map(on_off))
                    .opt("caching-mode", d.caching_mode)
                    .opt("eim", d.eim.map(on_off))
                    .opt("device-iotlb", d.iotlb)
                    .opt("aw-bits", d.aw_bits)
                    .opt("dma-translation", d.dma_translation),
                IommuModel::Virtio => {
                    let props = virtio("virtio-iommu", None, &iommu.info, &Default::default());
                    // The PCI variant goes by the plain name.
                    let props = if matches!(iommu.info.address, Some(Address::Pci(_))) {
                        props.with("driver", "virtio-iommu")
                    } else {
                        props
                    };
                    self.place(props.with("id", alias), &iommu.info)
                }
                // An option of the machine.
                IommuModel::Smmuv3 => continue,
            };
            self.line.device(props);
        }
    }

    /// Crypto devices.
    pub(super) fn cryptos(&mut self) {
        let def = self.def;
        for crypto in &def.devices.cryptos {
            let alias = crypto.info.alias.clone().unwrap_or_default();
            let object = format!("obj{alias}");
            let kind = match crypto.backend.model {
                CryptoBackendModel::Builtin => "cryptodev-backend-builtin",
                CryptoBackendModel::Lkcf => "cryptodev-backend-lkcf",
            };
            self.line
                .object(Props::object(kind, &object).opt("queues", crypto.backend.queues.filter(|q| *q > 0)));
            let props =
                virtio("virtio-crypto", Some(VirtioModel::Default), &crypto.info, &Default::default());
            let props = virtio_options(props, &crypto.driver).with("cryptodev", object).with("id", alias);
            let props = self.place(props, &crypto.info);
            self.line.device(props);
        }
    }

    /// Where a crashing guest leaves its log.
    pub(super) fn pstore(&mut self) {
        let def = self.def;
        let Some(pstore) = &def.devices.pstore else { return };
        let alias = pstore.info.alias.clone().unwrap_or_default();
        let memory = format!("mem{alias}");
        self.line.object(
            Props::object("memory-backend-file", &memory)
                .opt("mem-path", pstore.path.as_deref())
                .with("size", pstore.size.map_or(0, |s| s.kib * 1024))
                .with("share", true),
        );
        let props = Props::driver("acpi-erst").with("id", alias).with("memdev", memory);
        let props = self.place(props, &pstore.info);
        self.line.device(props);
    }

    /// Trusted platform modules.
    pub(super) fn tpms(&mut self) {
        let def = self.def;
        for tpm in &def.devices.tpms {
            let alias = tpm.info.alias.clone().unwrap_or_default();
            let id = format!("tpm-{alias}");
            let model = tpm.model.unwrap_or_default();
            match &tpm.backend {
                Some(TpmBackend::Passthrough(p)) => {
                    let path = p.path.clone().unwrap_or_else(|| "/dev/tpm0".into());
                    let cancel =
                        format!("/sys/class/tpm/{}/device/cancel", path.rsplit('/').next().unwrap_or("tpm0"));
                    let opts = Opts::new("passthrough")
                        .with("id", &id)
                        .with("path", path)
                        .with("cancel-path", cancel);
                    self.line.opts("-tpmdev", opts);
                }
                backend => {
                    let socket = match backend {
                        Some(TpmBackend::External(e)) => e.source.path.clone(),
                        _ => self.launch.tpm_socket.clone(),
                    };
                    let opts = match socket {
                        Some(path) => Opts::new("socket").with("id", "chrtpm").with("path", path),
                        None => Opts::new("null").with("id", "chrtpm"),
                    };
                    self.line.opts("-chardev", opts);
                    self.line
                        .opts("-tpmdev", Opts::new("emulator").with("id", &id).with("chardev", "chrtpm"));
                }
            }
            let driver = match model {
                // Where there is no ISA the chip is mapped into memory.
                TpmModel::Tis if !machine::is_x86(&self.emulator.arch) => "tpm-tis-device",
                model => model.as_str(),
            };
            let props = Props::driver(driver).with("tpmdev", id).with("id", alias);
            let props = self.place(props, &tpm.info);
            self.line.device(props);
        }
    }

    /// `-chardev` of the monitor and `-mon`.
    pub(super) fn monitor(&mut self) {
        let mut opts = Opts::new("socket").with("id", "charmonitor");
        match &self.launch.monitor {
            super::Monitor::Socket(path) => opts.put("path", path),
            super::Monitor::Fd(fd) => opts.put("fd", fd),
        }
        opts.put("server", "on");
        opts.put("wait", "off");
        self.line.opts("-chardev", opts);
        self.line.arg("-mon", "chardev=charmonitor,id=monitor,mode=control");
    }
}

fn role(role: Option<ShmemRole>) -> Option<&'static str> {
    match role {
        Some(ShmemRole::Master) => Some("on"),
        Some(ShmemRole::Peer) => Some("off"),
        _ => None,
    }
}
