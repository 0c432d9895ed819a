//! Serial and parallel ports, consoles, channels and redirected devices that QEMU cannot have.

use virt_error::Result;
use virt_model::domain::info::each;
use virt_xml::{At, Place};

use super::{Checker, unsupported};
use crate::document::machine;
use crate::document::types::{
    Address, AudioKind, CharBackend, ConsoleTarget, Domain, Graphics, RngBackend, Serial, SerialModel,
    SerialTarget, SmartcardMode, TcpProtocol,
};

impl Checker<'_> {
    pub(super) fn ports(&self) -> Result<()> {
        let d = &self.def.devices;
        each(&d.serials, |s| self.serial(s))?;
        let none = machine::is_s390(self.machine) || machine::is_pseries(self.machine);
        if none && !d.parallels.is_empty() {
            return Err(unsupported("parallel ports are not supported"));
        }
        each(&d.consoles, |console| {
            match console.target.kind.unwrap_or(ConsoleTarget::Serial) {
                ConsoleTarget::Serial | ConsoleTarget::Virtio | ConsoleTarget::None => {}
                kind @ (ConsoleTarget::Sclp | ConsoleTarget::SclpLm) => {
                    let name = format!("{kind}console");
                    if !self.emulator.has_type(&name) {
                        return Err(unsupported(format!("{name} is not supported in this QEMU binary")));
                    }
                }
                kind => return Err(unsupported(format!("unsupported console target type {kind}"))),
            }
            Ok(())
        })?;
        if let Some(second) = d.smartcards.get(1) {
            let text = "this QEMU binary lacks multiple smartcard support";
            return Err(unsupported(text)).at(second.info.place);
        }
        self.backends()
    }

    fn serial(&self, serial: &Serial) -> Result<()> {
        let arch = self.arch();
        let (kind, model) = (serial.target.kind.unwrap_or_default(), serial.target.model.unwrap_or_default());
        let address = serial.info.address.as_ref();
        let wanted = match kind {
            SerialTarget::Isa | SerialTarget::IsaDebug => Some("isa"),
            SerialTarget::Usb => Some("usb"),
            SerialTarget::Pci => Some("pci"),
            SerialTarget::SpaprVio => Some("spapr-vio"),
            SerialTarget::System | SerialTarget::Sclp => None,
            SerialTarget::None => address.map(Address::tag),
        };
        match (address.map(Address::tag), wanted) {
            (Some(given), Some(wanted)) if given != wanted => {
                return Err(unsupported(format!("Target type '{kind}' requires address type '{wanted}'")));
            }
            (Some(_), None) => {
                return Err(unsupported(format!("Target type '{kind}' cannot have an associated address")));
            }
            _ => {}
        }
        let home = match model {
            SerialModel::None => kind,
            SerialModel::IsaSerial => SerialTarget::Isa,
            SerialModel::UsbSerial => SerialTarget::Usb,
            SerialModel::PciSerial => SerialTarget::Pci,
            SerialModel::SpaprVty => SerialTarget::SpaprVio,
            SerialModel::Pl011 | SerialModel::Uart16550a => SerialTarget::System,
            SerialModel::SclpConsole | SerialModel::SclpLmConsole => SerialTarget::Sclp,
            SerialModel::IsaDebugcon => SerialTarget::IsaDebug,
        };
        if kind != home && kind != SerialTarget::None {
            return Err(unsupported(format!("Target model '{model}' requires target type '{home}'")));
        }
        let fits = match model {
            SerialModel::IsaSerial | SerialModel::IsaDebugcon => machine::is_x86(arch),
            SerialModel::SpaprVty => machine::is_pseries(self.machine),
            SerialModel::Pl011 => machine::is_arm(arch),
            SerialModel::Uart16550a => arch.starts_with("riscv") || arch == "loongarch64",
            SerialModel::SclpConsole | SerialModel::SclpLmConsole => arch == "s390x",
            SerialModel::None | SerialModel::UsbSerial | SerialModel::PciSerial => true,
        };
        let named = model != SerialModel::None || kind == SerialTarget::None;
        // A port on the board of no named model is left to the board.
        let open = kind == SerialTarget::System && machine::is_x86(arch) && model == SerialModel::None;
        if open || fits && named {
            return Ok(());
        }
        Err(unsupported(format!(
            "Serial device with target type '{kind}' and target model '{model}' not compatible with guest architecture or machine type"
        )))
    }

    /// The host side: what needs a SPICE display, what only channels can have, and what QEMU has not.
    fn backends(&self) -> Result<()> {
        let d = &self.def.devices;
        let spice = d.graphics.iter().any(|g| matches!(g, Graphics::Spice(_)));
        for (place, backend) in backends(self.def) {
            if let CharBackend::Tcp(t) = backend
                && let Some(protocol @ (TcpProtocol::Telnets | TcpProtocol::Tls)) = t.protocol
            {
                return Err(unsupported(format!("tcp chardev protocol '{protocol}' not supported")))
                    .at(place);
            }
            match backend {
                CharBackend::Spicevmc | CharBackend::Spiceport(_) if !spice => {
                    let kind = if *backend == CharBackend::Spicevmc { "spicevmc" } else { "spiceport" };
                    let text = format!("chardev '{kind}' not supported without spice graphics");
                    return Err(unsupported(text)).at(place);
                }
                _ => {}
            }
        }
        // The host's side of SPICE speaks to virtio ports and to devices that know how to.
        let usb = |s: &&Serial| s.target.kind != Some(SerialTarget::Usb);
        let plain = d.serials.iter().filter(usb).map(|x| (x.info.place, &x.backend));
        let plain = plain.chain(d.parallels.iter().map(|x| (x.info.place, &x.backend)));
        let mut plain = plain.chain(d.consoles.iter().map(|x| (x.info.place, &x.backend)));
        if let Some((place, _)) = plain.find(|(_, b)| **b == CharBackend::Spicevmc) {
            return Err(unsupported("spicevmc device type only supports virtio")).at(place);
        }
        if !spice && d.audios.iter().any(|a| a.kind == AudioKind::Spice) {
            return Err(unsupported("Spice audio is not supported without spice graphics"));
        }
        Ok(())
    }
}

/// The host side of every character device, and where that device stands.
pub(super) fn backends(def: &Domain) -> impl Iterator<Item = (Place, &CharBackend)> {
    let d = &def.devices;
    let cards = d.smartcards.iter().filter_map(|s| match &s.mode {
        SmartcardMode::Passthrough(side) => Some((s.info.place, &side.backend)),
        _ => None,
    });
    let rngs = d.rngs.iter().filter_map(|r| match &r.backend {
        Some(RngBackend::Egd(side)) => Some((r.info.place, &side.backend)),
        _ => None,
    });
    let ports = d.serials.iter().map(|x| (x.info.place, &x.backend));
    let ports = ports.chain(d.parallels.iter().map(|x| (x.info.place, &x.backend)));
    let ports = ports.chain(d.consoles.iter().map(|x| (x.info.place, &x.backend)));
    let others = d.channels.iter().map(|x| (x.info.place, &x.backend));
    let others = others.chain(d.redirdevs.iter().map(|x| (x.info.place, &x.backend)));
    ports.chain(others).chain(cards).chain(rngs)
}
