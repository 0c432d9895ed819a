//! Defaults of single devices.

use virt_error::Result;
use virt_xml::At;

use super::types::{
    AccessMode, Address, AudioKind, BalloonModel, CharBackend, ControllerKind, Domain, Graphics,
    HostdevModel, HostdevNetAddress, HostdevSource, Input, InputBus, InputKind, Interface, IoapicDriver,
    IommuModel, MemoryAccess, MemoryModel, NetSource, Panic, PanicModel, PciModelName, RngBackend, Shmem,
    ShmemModel, SmartcardMode, SoundModel, TpmBackend, TpmModel, TpmVersion, Video, VideoKind, VirtioModel,
    Vsock, Zpci,
};
use super::{disks, machine, ports, unsupported};
use crate::emulator::Emulator;

/// Fills in every device's defaults.
pub fn complete(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    let arch = emulator.arch.clone();
    disks::complete(def);
    for net in &mut def.devices.interfaces {
        interface(net, emulator, &name, &arch);
    }
    for input in &mut def.devices.inputs {
        complete_input(input, &arch);
    }
    ports::complete(def, emulator);
    for tpm in &mut def.devices.tpms {
        let model = *tpm.model.get_or_insert(if machine::is_pseries(&name) {
            TpmModel::Spapr
        } else {
            TpmModel::Tis
        });
        if let Some(TpmBackend::Emulator(e)) = &mut tpm.backend {
            let old = model == TpmModel::Tis && machine::is_x86(&arch);
            e.version.get_or_insert(if old { TpmVersion::V1_2 } else { TpmVersion::V2_0 });
        }
        if let Some(TpmBackend::Passthrough(p)) = &mut tpm.backend {
            p.path.get_or_insert_with(|| "/dev/tpm0".into());
        }
    }
    for panic in &mut def.devices.panics {
        complete_panic(panic, &arch, &name);
    }
    for fs in &mut def.devices.filesystems {
        let socket = matches!(&fs.source, super::types::FsSource::Mount(m) if m.socket.is_some());
        if !socket {
            fs.accessmode.get_or_insert(AccessMode::Passthrough);
        }
    }
    for sound in &mut def.devices.sounds {
        if sound.model == SoundModel::Virtio {
            sound.streams = sound.streams.filter(|n| *n > 0).or(Some(2));
        }
    }
    many_vcpus(def, &name);
    for dev in &mut def.devices.redirdevs {
        if let CharBackend::Dbus(s) = &mut dev.backend {
            s.channel.get_or_insert_with(|| "org.qemu.usbredir".into());
        }
    }
    for shmem in &mut def.devices.shmems {
        complete_shmem(shmem);
    }
    for rng in &mut def.devices.rngs {
        if let Some(RngBackend::Random(p)) = &mut rng.backend {
            p.path.get_or_insert_with(|| "/dev/random".into());
        }
    }
    if let Some(Vsock { model, auto_cid, cid, .. }) = &mut def.devices.vsock {
        model.get_or_insert(VirtioModel::Virtio);
        auto_cid.get_or_insert(cid.is_none());
    }
    for card in &mut def.devices.smartcards {
        card.info.address.get_or_insert_with(|| Address::Ccid(Default::default()));
        if let SmartcardMode::HostCertificates(c) = &mut card.mode {
            c.database = c.database.take().filter(|d| !d.is_empty());
        }
    }
    for dev in &mut def.devices.hostdevs {
        if matches!(dev.source, HostdevSource::Mdev(_)) && dev.model == Some(HostdevModel::VfioPci) {
            dev.display.get_or_insert(false);
        }
    }
    for memory in &mut def.devices.memories {
        match memory.model {
            MemoryModel::VirtioMem => _ = memory.target.requested.get_or_insert_default(),
            // A guest's writes would not reach the file otherwise.
            MemoryModel::VirtioPmem => _ = memory.access.get_or_insert(MemoryAccess::Shared),
            _ => {}
        }
    }
    complete_videos(&mut def.devices.videos);
    Ok(())
}

/// More vcpus than the old interrupt format can name need an IOMMU that remaps interrupts.
fn many_vcpus(def: &mut Domain, name: &str) {
    const OLD_FORMAT: u32 = 255;
    // Interrupts are remapped by QEMU: the I/O APIC is its too.
    if def.devices.iommus.iter().any(|i| i.driver.intremap == Some(true)) {
        def.features.ioapic.get_or_insert(IoapicDriver::Qemu);
    }
    if !machine::is_q35(name) || super::vcpus::most(def) <= OLD_FORMAT {
        return;
    }
    let Some(iommu) = def.devices.iommus.iter_mut().find(|i| i.model == IommuModel::Intel) else { return };
    iommu.driver.intremap.get_or_insert(true);
    iommu.driver.eim.get_or_insert(true);
    def.features.ioapic.get_or_insert(IoapicDriver::Qemu);
}

/// Before the model's own defaults: what is not configuration goes.
pub fn before(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = def.os.kind.machine.clone().unwrap_or_default();
    ports::before(def);
    if let Some(balloon) = def.devices.memballoon.as_mut().filter(|b| b.model == BalloonModel::None) {
        balloon.info = super::types::DeviceInfo::default();
    }
    // The host's own numbers of a device are found when it is handed over.
    for host in &mut def.devices.hostdevs {
        if let HostdevSource::Pci(s) = &mut host.source {
            s.address.zpci = Zpci::default();
        }
    }
    for net in &mut def.devices.interfaces {
        if let NetSource::Hostdev(s) = &mut net.source
            && let Some(HostdevNetAddress::Pci(a)) = &mut s.address
        {
            a.zpci = Zpci::default();
        }
    }
    let d = &mut def.devices;
    let infos = d.disks.iter_mut().map(|x| &mut x.info).chain(d.interfaces.iter_mut().map(|x| &mut x.info));
    for boot in infos.chain(d.hostdevs.iter_mut().map(|x| &mut x.info)).filter_map(|i| i.boot.as_mut()) {
        // The boot loader of IBM Z reads large letters.
        boot.loadparm.iter_mut().for_each(|p| p.make_ascii_uppercase());
    }
    for net in &mut def.devices.interfaces {
        // An address of zeroes asks for a new one.
        if let Some(mac) = &mut net.mac
            && mac.address.is_some_and(|a| a.0 == [0; 6])
        {
            mac.address = None;
        }
    }
    for video in &mut def.devices.videos {
        if video.model.kind == VideoKind::Default {
            video.model.kind = default_video(emulator, &name);
        }
    }
    for graphics in &mut def.devices.graphics {
        forget_made_sockets(graphics);
    }
    Ok(())
}

/// A socket in a guest's private folder was made by the driver.
fn forget_made_sockets(graphics: &mut Graphics) {
    let made = |p: &String| p.starts_with("/var/lib/libvirt/qemu/domain-");
    if let Graphics::Vnc(g) = graphics {
        if g.socket.as_ref().is_some_and(made) {
            g.socket = None;
        }
        g.listens.retain(|l| !l.socket.as_ref().is_some_and(made));
    }
}

/// The model behind every controller.
pub fn complete_controllers(def: &mut Domain, emulator: &Emulator) -> Result<()> {
    let name = &def.os.kind.machine.clone().unwrap_or_default();
    // Further controllers look like the first.
    let first =
        def.devices.controllers.iter().find(|c| c.kind == ControllerKind::Scsi).and_then(|c| c.model.clone());
    let scsi = first.filter(|m| m != "auto").unwrap_or_else(|| default_scsi(name, &emulator.arch).into());
    for c in &mut def.devices.controllers {
        match c.kind {
            // IBM Z has USB only where its place is named.
            ControllerKind::Usb if c.model.is_none() && machine::is_s390(name) => {
                c.model = c.info.address.is_none().then(|| "none".into());
            }
            ControllerKind::Usb if c.model.is_none() => {
                let choices: &[&str] = match emulator.arch.as_str() {
                    "ppc64" | "ppc64le" => &["qemu-xhci", "nec-xhci", "pci-ohci"],
                    "aarch64" | "armv7l" | "loongarch64" => &["qemu-xhci", "nec-xhci"],
                    _ => &["piix3-uhci", "qemu-xhci"],
                };
                let available = choices.iter().find(|m| emulator.has_type(qemu_usb(m)));
                c.model = available.map(|m| (*m).to_string());
            }
            ControllerKind::Scsi if c.model.as_deref().is_none_or(|m| m == "auto") => {
                c.model = Some(scsi.clone());
            }
            ControllerKind::Pci => pci_model(c, name),
            _ => {}
        }
        if let Some(ports) = c.ports
            && c.kind == ControllerKind::Usb
            && let Some(model @ ("nec-xhci" | "qemu-xhci")) = c.model.as_deref()
            && ports > 15
        {
            let text = format!("'{model}' controller only supports up to '15' ports");
            return Err(unsupported(text)).at(c.info.place);
        }
    }
    Ok(())
}

fn qemu_usb(model: &str) -> &str {
    match model {
        "piix3-uhci" => "piix3-usb-uhci",
        "nec-xhci" => "nec-usb-xhci",
        other => other,
    }
}

/// The SCSI controller a machine gets when the document names none.
pub fn default_scsi(name: &str, arch: &str) -> &'static str {
    if machine::is_pseries(name) {
        "ibmvscsi"
    } else if machine::is_s390(name) || machine::is_arm(arch) || arch == "loongarch64" {
        "virtio-scsi"
    } else {
        "lsilogic"
    }
}

/// The device behind each PCI controller's model.
fn pci_model(c: &mut super::types::Controller, name: &str) {
    let model = c.model.clone().unwrap_or_default();
    c.pci_model = c.pci_model.or(match model.as_str() {
        "pci-bridge" => Some(PciModelName::PciBridge),
        "dmi-to-pci-bridge" => Some(PciModelName::I82801b11),
        "pcie-to-pci-bridge" => Some(PciModelName::PciePciBridge),
        "pcie-root-port" => Some(PciModelName::PcieRootPort),
        "pcie-switch-upstream-port" => Some(PciModelName::X3130Upstream),
        "pcie-switch-downstream-port" => Some(PciModelName::Xio3130Downstream),
        "pci-expander-bus" => Some(PciModelName::Pxb),
        "pcie-expander-bus" => Some(PciModelName::PxbPcie),
        "pci-root" if machine::is_pseries(name) => Some(PciModelName::SpaprPhb),
        _ => None,
    });
}

fn interface(net: &mut Interface, emulator: &Emulator, name: &str, arch: &str) {
    match &net.source {
        NetSource::Hostdev(_) => {}
        NetSource::Vdpa(_) | NetSource::VhostUser(_) => {
            net.model.get_or_insert_with(|| "virtio".into());
        }
        _ => {
            net.model.get_or_insert_with(|| default_card(emulator, name, arch).into());
        }
    }
}

/// The card most guests know, of those the emulator has.
fn default_card(emulator: &Emulator, name: &str, arch: &str) -> &'static str {
    if machine::is_s390(name)
        || arch.starts_with("riscv")
        || arch == "loongarch64"
        || machine::is_arm_virt(arch, name)
    {
        return "virtio";
    }
    if machine::is_arm(arch) {
        return if name == "versatilepb" { "smc91c111" } else { "lan9118" };
    }
    ["rtl8139", "e1000"].into_iter().find(|m| emulator.has_type(m)).unwrap_or("virtio")
}

fn complete_input(input: &mut Input, arch: &str) {
    let ps2 = machine::is_x86(arch);
    if matches!(input.kind, InputKind::Evdev) {
        input.bus = Some(InputBus::None);
        return;
    }
    input.bus.get_or_insert(match input.kind {
        InputKind::Mouse | InputKind::Keyboard if ps2 => InputBus::Ps2,
        InputKind::Passthrough => InputBus::Virtio,
        _ => InputBus::Usb,
    });
}

fn complete_panic(panic: &mut Panic, arch: &str, name: &str) {
    let unset = matches!(panic.model, None | Some(PanicModel::Default));
    if unset {
        panic.model = Some(if machine::is_pseries(name) {
            PanicModel::Pseries
        } else if arch == "s390x" {
            PanicModel::S390
        } else if machine::is_x86(arch) {
            PanicModel::Isa
        } else if machine::is_arm_virt(arch, name) {
            PanicModel::Pvpanic
        } else {
            PanicModel::Default
        });
    }
}

fn complete_shmem(shmem: &mut Shmem) {
    // The model of old is what none means; no QEMU has it.
    let model = *shmem.model.get_or_insert_default();
    if model == ShmemModel::Plain && shmem.size.is_none() {
        shmem.size = Some(virt_model::ShmemSize { bytes: 4 << 20 });
    }
    // A doorbell rings by interrupts, whatever is said of them.
    if model == ShmemModel::Doorbell {
        let msi = shmem.msi.get_or_insert_default();
        msi.enabled = None;
        msi.ioeventfd.get_or_insert(true);
    }
}

/// The card a guest with a display gets when the document names none.
pub fn default_video(emulator: &Emulator, name: &str) -> VideoKind {
    if machine::is_s390(name)
        || machine::is_arm_virt(&emulator.arch, name)
        || emulator.arch.starts_with("riscv")
        || emulator.arch == "loongarch64"
    {
        return VideoKind::Virtio;
    }
    if machine::is_pseries(name) {
        return VideoKind::Vga;
    }
    if emulator.has_type("cirrus-vga") { VideoKind::Cirrus } else { VideoKind::Vga }
}

fn complete_videos(videos: &mut [Video]) {
    for video in videos {
        let m = &mut video.model;
        match m.kind {
            VideoKind::Qxl => {
                let megabyte = |v: Option<u32>, least: u32, default: u32| {
                    Some(round_power(v.filter(|v| *v > 0).unwrap_or(default).max(least)))
                };
                m.ram = megabyte(m.ram, 1, 65_536);
                m.vram = megabyte(m.vram, 1, 65_536);
                m.vgamem = megabyte(m.vgamem, 1, 16_384);
                m.vram64 = m.vram64.map(round_power);
            }
            VideoKind::Vga | VideoKind::Cirrus | VideoKind::Vmvga | VideoKind::Bochs => {
                m.vram = Some(round_power(m.vram.filter(|v| *v > 0).unwrap_or(16_384)));
            }
            VideoKind::None => {}
            _ => m.vram = m.vram.filter(|v| *v > 0).map(round_power),
        }
    }
}

/// Video memory sizes are powers of two.
fn round_power(kib: u32) -> u32 {
    kib.checked_next_power_of_two().unwrap_or(kib)
}

/// The host audio a guest gets for its sound when the document names none.
pub fn default_audio(def: &Domain) -> Option<AudioKind> {
    if !def.devices.audios.is_empty() {
        return None;
    }
    if def.devices.graphics.is_empty() {
        return Some(AudioKind::None);
    }
    let spice = def.devices.graphics.iter().any(|g| matches!(g, Graphics::Spice(_)));
    let vnc = def.devices.graphics.iter().any(|g| matches!(g, Graphics::Vnc(_)));
    // QEMU's own window plays sound by itself.
    let window = def.devices.graphics.iter().any(|g| matches!(g, Graphics::Sdl(_)));
    match (spice, vnc) {
        _ if window => None,
        (true, _) => Some(AudioKind::Spice),
        (_, true) => Some(AudioKind::None),
        _ => None,
    }
}
