//! PCI buses: which slots each controller model has, what may be plugged into it, and where the next free slot is.
//!
//! Pure bookkeeping: it knows no documents. [`super::pci`] collects a guest's devices into a [`PciSet`].

use virt_error::{Code, Domain, Error, Result};

/// What a device needs from a bus, and what a bus offers, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connect(pub u32);

impl Connect {
    /// The device may be plugged and unplugged while the guest runs.
    pub const HOTPLUG: Self = Self(1);
    /// Several devices of this kind may share one slot as functions.
    pub const AGGREGATE: Self = Self(1 << 1);
    /// The bus may be picked automatically.
    pub const AUTO: Self = Self(1 << 2);
    /// Only the root bus will do.
    pub const INTEGRATED: Self = Self(1 << 3);
    /// A conventional PCI endpoint.
    pub const PCI: Self = Self(1 << 8);
    /// A PCI Express endpoint.
    pub const PCIE: Self = Self(1 << 9);
    /// `pcie-root-port`
    pub const ROOT_PORT: Self = Self(1 << 10);
    /// `pcie-switch-upstream-port`
    pub const UPSTREAM: Self = Self(1 << 11);
    /// `pcie-switch-downstream-port`
    pub const DOWNSTREAM: Self = Self(1 << 12);
    /// `dmi-to-pci-bridge`
    pub const DMI_BRIDGE: Self = Self(1 << 13);
    /// `pci-expander-bus`
    pub const EXPANDER: Self = Self(1 << 14);
    /// `pcie-expander-bus`
    pub const PCIE_EXPANDER: Self = Self(1 << 15);
    /// `pci-bridge`
    pub const PCI_BRIDGE: Self = Self(1 << 16);
    /// `pcie-to-pci-bridge`
    pub const PCIE_TO_PCI: Self = Self(1 << 17);
    const TYPES: Self = Self(0xffff_ff00);

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any bit is shared.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn wants(self) -> &'static str {
        const NAMES: &[(Connect, &str)] = &[
            (Connect::PCI, "standard PCI device"),
            (Connect::PCIE, "PCI Express device"),
            (Connect::ROOT_PORT, "pcie-root-port"),
            (Connect::UPSTREAM, "pcie-switch-upstream-port"),
            (Connect::DOWNSTREAM, "pcie-switch-downstream-port"),
            (Connect::DMI_BRIDGE, "dmi-to-pci-bridge"),
            (Connect::EXPANDER, "pci-expander-bus"),
            (Connect::PCIE_EXPANDER, "pcie-expander-bus"),
            (Connect::PCI_BRIDGE, "pci-bridge"),
            (Connect::PCIE_TO_PCI, "pcie-to-pci-bridge"),
        ];
        NAMES.iter().find(|(bit, _)| self.any(*bit)).map_or("unknown device", |(_, name)| name)
    }
}

/// Models of PCI controllers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum BusModel {
    PciRoot,
    PcieRoot,
    PciBridge,
    DmiToPciBridge,
    PcieToPciBridge,
    PcieRootPort,
    UpstreamPort,
    DownstreamPort,
    PciExpander,
    PcieExpander,
}

impl BusModel {
    /// The document's name for each model.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::PciRoot, "pci-root"),
        (Self::PcieRoot, "pcie-root"),
        (Self::PciBridge, "pci-bridge"),
        (Self::DmiToPciBridge, "dmi-to-pci-bridge"),
        (Self::PcieToPciBridge, "pcie-to-pci-bridge"),
        (Self::PcieRootPort, "pcie-root-port"),
        (Self::UpstreamPort, "pcie-switch-upstream-port"),
        (Self::DownstreamPort, "pcie-switch-downstream-port"),
        (Self::PciExpander, "pci-expander-bus"),
        (Self::PcieExpander, "pcie-expander-bus"),
    ];

    /// The model with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(m, _)| *m)
    }

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(m, _)| *m == self).map_or("", |(_, n)| n)
    }

    /// What the controller itself needs from the bus above it; roots need none.
    pub fn connect(self) -> Connect {
        match self {
            Self::PciRoot | Self::PcieRoot => Connect::default(),
            Self::PciBridge => Connect::PCI_BRIDGE,
            Self::DmiToPciBridge => Connect::DMI_BRIDGE,
            Self::PcieToPciBridge => Connect::PCIE_TO_PCI,
            Self::PcieRootPort => Connect::ROOT_PORT.and(Connect::AGGREGATE),
            Self::UpstreamPort => Connect::UPSTREAM,
            Self::DownstreamPort => Connect::DOWNSTREAM,
            Self::PciExpander => Connect::EXPANDER,
            Self::PcieExpander => Connect::PCIE_EXPANDER,
        }
    }

    fn offers(self) -> Connect {
        let endpoint_port = Connect::PCIE
            .and(Connect::UPSTREAM)
            .and(Connect::PCIE_TO_PCI)
            .and(Connect::HOTPLUG)
            .and(Connect::AUTO);
        let conventional = Connect::PCI.and(Connect::PCI_BRIDGE);
        match self {
            Self::PciRoot => conventional.and(Connect::EXPANDER).and(Connect::HOTPLUG).and(Connect::AUTO),
            Self::PciBridge | Self::PcieToPciBridge | Self::PciExpander => {
                conventional.and(Connect::HOTPLUG).and(Connect::AUTO)
            }
            Self::DmiToPciBridge => conventional.and(Connect::AUTO),
            Self::PcieRoot => Connect::PCIE
                .and(Connect::ROOT_PORT)
                .and(Connect::DMI_BRIDGE)
                .and(Connect::PCIE_EXPANDER)
                .and(Connect::AUTO)
                .and(Connect::INTEGRATED),
            Self::PcieRootPort | Self::DownstreamPort => endpoint_port,
            Self::UpstreamPort => Connect::DOWNSTREAM.and(Connect::AUTO),
            Self::PcieExpander => Connect::ROOT_PORT.and(Connect::DMI_BRIDGE),
        }
    }

    fn slots(self) -> (u8, u8) {
        match self {
            Self::PcieRootPort | Self::DownstreamPort => (0, 0),
            Self::PciExpander | Self::PcieExpander | Self::UpstreamPort | Self::DmiToPciBridge => (0, 31),
            _ => (1, 31),
        }
    }
}

/// A device's place on a PCI bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct PciPlace {
    /// PCI domain; QEMU's x86 machines have 0 only.
    pub domain: u32,
    /// Index of the controller.
    pub bus: u32,
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

impl std::fmt::Display for PciPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.slot, self.function)
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    functions: u8,
    aggregate: bool,
}

/// One bus and what is on it.
#[derive(Clone)]
pub struct Bus {
    /// Its controller's model.
    pub model: BusModel,
    offers: Connect,
    slots: [Slot; 32],
    /// Slots that hold a device.
    taken: u8,
}

/// A controller's index is a byte.
const MOST_BUSES: usize = 256;

impl Bus {
    fn new(model: BusModel) -> Self {
        Self { model, offers: model.offers(), slots: [Slot::default(); 32], taken: 0 }
    }

    /// No device is on it at all.
    pub fn is_full(&self) -> bool {
        let (low, high) = self.model.slots();
        (low..=high).all(|s| self.slots[usize::from(s)].functions != 0)
    }
}

/// All PCI buses of a guest.
pub struct PciSet {
    /// Indexed by the controller's index; `None` where no controller has that index.
    pub buses: Vec<Option<Bus>>,
    /// Whether missing buses may be added.
    pub growing: bool,
    /// Whether a missing conventional bus is a host bridge of its own.
    pub many_roots: bool,
}

fn too_far(place: PciPlace, high: u32) -> Error {
    Error::new(
        Code::XmlError,
        Domain::Domain,
        format!("Invalid PCI address {place}. Only PCI buses up to {high} are available"),
    )
}

impl PciSet {
    /// Buses by index.
    pub fn new(models: &[Option<BusModel>], growing: bool) -> Self {
        Self { buses: models.iter().map(|m| m.map(Bus::new)).collect(), growing, many_roots: false }
    }

    fn bus(&self, place: PciPlace) -> Result<&Bus> {
        if self.buses.is_empty() {
            return Err(Error::new(Code::XmlError, Domain::Domain, "No PCI buses available"));
        }
        if place.domain != 0 {
            return Err(Error::new(
                Code::XmlError,
                Domain::Domain,
                format!("Invalid PCI address {place}. Only PCI domain 0 is available"),
            ));
        }
        let high = self.buses.len() as u32 - 1;
        let bus = self.buses.get(place.bus as usize).ok_or_else(|| too_far(place, high))?;
        bus.as_ref().ok_or_else(|| too_far(place, high))
    }

    /// Whether the place can carry a device with these needs; `from_user` is lenient as libvirt is with what a
    /// document says.
    fn check(&self, place: PciPlace, needs: Connect, from_user: bool) -> Result<()> {
        let bus = self.bus(place)?;
        let mut offers = bus.offers;
        if from_user {
            if offers.any(Connect::PCI) {
                offers = offers.and(Connect::PCIE);
            }
            if offers.any(Connect::PCIE) {
                offers = offers.and(Connect::PCI);
            }
            // Any bridge may be put on a root bus by hand.
            if bus.model == BusModel::PcieRoot {
                offers = offers.and(Connect::PCI_BRIDGE).and(Connect::PCIE_TO_PCI);
            }
        }
        if Connect(needs.0 & offers.0 & Connect::TYPES.0).0 == 0 {
            return Err(Error::new(
                if from_user { Code::XmlError } else { Code::InternalError },
                Domain::Domain,
                format!(
                    "The device at PCI address {place} cannot be plugged into the PCI controller with index='{}'. \
                     It requires a controller that accepts a {}.",
                    place.bus,
                    needs.wants()
                ),
            ));
        }
        if from_user && needs.any(Connect::INTEGRATED) && place.bus != 0 {
            let text = format!("The device at PCI address {place} needs to be an integrated device (bus=0)");
            return Err(Error::new(Code::XmlError, Domain::Domain, text));
        }
        let (low, high) = bus.model.slots();
        if place.slot < low || place.slot > high {
            let (word, limit) = if place.slot < low { (">=", low) } else { ("<=", high) };
            return Err(Error::new(
                Code::XmlError,
                Domain::Domain,
                format!("Invalid PCI address {place}. slot must be {word} {limit}"),
            ));
        }
        if place.function > 7 {
            return Err(Error::new(
                Code::XmlError,
                Domain::Domain,
                format!("Invalid PCI address {place}. function must be <= 7"),
            ));
        }
        Ok(())
    }

    /// Whether anything is in the slot.
    pub fn slot_in_use(&self, place: PciPlace) -> bool {
        self.slot(place).is_some_and(|s| s.functions != 0)
    }

    /// Whether this very function is taken.
    pub fn in_use(&self, place: PciPlace) -> bool {
        self.slot(place).is_some_and(|s| s.functions & (1 << place.function) != 0)
    }

    /// Whether the slot holds more than one function.
    pub fn is_shared(&self, place: PciPlace) -> bool {
        self.slot(place).is_some_and(|s| s.functions.count_ones() > 1)
    }

    fn slot(&self, place: PciPlace) -> Option<&Slot> {
        self.buses.get(place.bus as usize)?.as_ref()?.slots.get(usize::from(place.slot))
    }

    /// Takes a place that the document or the chipset names.
    pub fn reserve(&mut self, place: PciPlace, needs: Connect, from_user: bool) -> Result<()> {
        if self.growing
            && place.domain == 0
            && place.bus as usize >= self.buses.len()
            && !self.buses.is_empty()
        {
            self.grow(place.bus as usize, needs)?;
        }
        self.check(place, needs, from_user)?;
        let Some(Some(bus)) = self.buses.get_mut(place.bus as usize) else {
            return Err(too_far(place, 0));
        };
        let slot = &mut bus.slots[usize::from(place.slot & 31)];
        let bit = 1u8 << (place.function & 7);
        if slot.functions & bit != 0 {
            return Err(Error::new(
                Code::XmlError,
                Domain::Domain,
                format!("Attempted double use of PCI Address {place}"),
            ));
        }
        if slot.functions == 0 {
            slot.aggregate = needs.any(Connect::AGGREGATE);
        } else if !needs.any(Connect::AGGREGATE) {
            slot.aggregate = false;
        }
        slot.functions |= bit;
        Ok(())
    }

    /// Takes a place without asking what fits there: parts of the chipset.
    pub fn occupy(&mut self, place: PciPlace) {
        if let Some(Some(bus)) = self.buses.get_mut(place.bus as usize) {
            bus.slots[usize::from(place.slot & 31)].functions |= 1 << (place.function & 7);
        }
    }

    /// Takes the next free place for a device, with `function` in a free slot unless the needs allow sharing.
    pub fn next(&mut self, needs: Connect, function: u8) -> Result<PciPlace> {
        self.next_except(needs, function, None)
    }

    /// The same, not on the bus `except`: a controller cannot sit on the bus it makes.
    pub fn next_except(&mut self, needs: Connect, function: u8, except: Option<u32>) -> Result<PciPlace> {
        if self.buses.is_empty() {
            return Err(Error::new(Code::XmlError, Domain::Domain, "No PCI buses available"));
        }
        if let Some(place) = self.find(needs, function, except) {
            self.take(place, needs);
            return Ok(place);
        }
        if needs == Connect::default() {
            return Err(Error::internal(
                Domain::Domain,
                "Cannot automatically add a new PCI bus for a device with connect flags 00",
            ));
        }
        if !self.growing {
            return Err(Error::internal(Domain::Domain, "No more available PCI slots"));
        }
        let at = self.grow(self.buses.len(), needs)?;
        let low = self.buses.get(at).and_then(Option::as_ref).map_or(0, |b| b.model.slots().0);
        let place = PciPlace { domain: 0, bus: at as u32, slot: low, function };
        self.take(place, needs);
        Ok(place)
    }

    fn take(&mut self, place: PciPlace, needs: Connect) {
        if let Some(Some(bus)) = self.buses.get_mut(place.bus as usize) {
            let slot = &mut bus.slots[usize::from(place.slot)];
            if slot.functions == 0 {
                slot.aggregate = needs.any(Connect::AGGREGATE);
            }
            bus.taken += u8::from(slot.functions == 0);
            slot.functions |= 1 << place.function;
        }
    }

    fn find(&self, needs: Connect, function: u8, except: Option<u32>) -> Option<PciPlace> {
        for (index, bus) in self.buses.iter().enumerate() {
            let Some(bus) = bus.as_ref().filter(|_| except != Some(index as u32)) else { continue };
            let fits = bus.offers.any(Connect::AUTO)
                && Connect(needs.0 & bus.offers.0 & Connect::TYPES.0).0 != 0
                && (!needs.any(Connect::HOTPLUG) || bus.offers.any(Connect::HOTPLUG))
                && (!needs.any(Connect::INTEGRATED) || bus.offers.any(Connect::INTEGRATED));
            if !fits {
                continue;
            }
            let (low, high) = bus.model.slots();
            // Most buses of a guest with very many devices are full.
            if bus.taken > high - low && !needs.any(Connect::AGGREGATE) {
                continue;
            }
            for number in low..=high {
                let slot = bus.slots[usize::from(number)];
                let place =
                    |function| Some(PciPlace { domain: 0, bus: index as u32, slot: number, function });
                if slot.functions == 0 {
                    return place(function);
                }
                if needs.any(Connect::AGGREGATE) && slot.aggregate {
                    // The lowest free function of a slot that already holds such devices.
                    let free = (0..8).find(|f| slot.functions & (1 << f) == 0);
                    if let Some(free) = free {
                        return place(free);
                    }
                }
            }
        }
        None
    }

    /// Adds the buses that let a device with these needs sit on bus `at`; returns the bus for the device.
    fn grow(&mut self, at: usize, needs: Connect) -> Result<usize> {
        if self.buses.len() > MOST_BUSES {
            // Thousands of devices are not placed on buses that cannot be.
            let text = format!("PCI controller index {MOST_BUSES} too high, maximum is {}", MOST_BUSES - 1);
            return Err(Error::new(Code::XmlError, Domain::Domain, text));
        }
        let pcie = matches!(self.buses.first(), Some(Some(b)) if b.model == BusModel::PcieRoot);
        let conventional = needs.any(Connect::PCI.and(Connect::PCI_BRIDGE));
        if !conventional && !needs.any(Connect::PCIE.and(Connect::UPSTREAM).and(Connect::PCIE_TO_PCI)) {
            let model =
                BusModel::NAMES.iter().find(|(m, _)| m.connect().any(Connect(needs.0 & Connect::TYPES.0)));
            let name = model.map_or("unknown", |(_, n)| n);
            let parent = match needs {
                n if n.any(Connect::DOWNSTREAM) => " ",
                _ => " slot ",
            };
            return Err(Error::internal(
                Domain::Domain,
                format!(
                    "a PCI{parent}is needed to connect a PCI controller model='{name}', but none is available, \
                     and it cannot be automatically added"
                ),
            ));
        }
        let bridged = self
            .buses
            .iter()
            .flatten()
            .any(|b| matches!(b.model, BusModel::PcieToPciBridge | BusModel::DmiToPciBridge));
        let model = match (conventional, pcie) {
            (true, true) if bridged => BusModel::PciBridge,
            (true, true) => BusModel::PcieToPciBridge,
            (true, false) if self.many_roots => BusModel::PciRoot,
            (true, false) => BusModel::PciBridge,
            (false, _) => BusModel::PcieRootPort,
        };
        if model == BusModel::PcieToPciBridge {
            // The bridge comes with a port of its own, even where another is free.
            let mut port = Bus::new(BusModel::PcieRootPort);
            port.slots[0].functions = 1;
            self.buses.push(Some(port));
            self.buses.push(Some(Bus::new(model)));
        }
        while self.buses.len() <= at {
            self.buses.push(Some(Bus::new(model)));
        }
        Ok(self.buses.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bus: u32, slot: u8, function: u8) -> PciPlace {
        PciPlace { domain: 0, bus, slot, function }
    }

    #[test]
    fn slots_of_a_conventional_root_are_taken_in_order() {
        let mut set = PciSet::new(&[Some(BusModel::PciRoot)], false);
        let pci = Connect::PCI.and(Connect::HOTPLUG);
        set.reserve(place(0, 1, 1), pci, true).unwrap();
        assert_eq!(set.next(pci, 0).unwrap(), place(0, 2, 0));
        assert_eq!(set.next(pci, 0).unwrap(), place(0, 3, 0));
        let error = set.reserve(place(0, 3, 0), pci, true).unwrap_err();
        assert_eq!(error.message(), "XML error: Attempted double use of PCI Address 0000:00:03.0");
    }

    #[test]
    fn a_full_root_grows_a_bridge_only_when_it_may() {
        let pci = Connect::PCI.and(Connect::HOTPLUG);
        for growing in [true, false] {
            let mut set = PciSet::new(&[Some(BusModel::PciRoot)], growing);
            for _ in 0..31 {
                set.next(pci, 0).unwrap();
            }
            match set.next(pci, 0) {
                Ok(at) => assert!(growing && at == place(1, 1, 0)),
                Err(e) => assert!(!growing && e.message().contains("No more available PCI slots")),
            }
        }
    }

    #[test]
    fn express_guests_grow_ports_and_a_bridge_for_old_devices() {
        let mut set = PciSet::new(&[Some(BusModel::PcieRoot)], true);
        assert_eq!(set.next(Connect::PCIE.and(Connect::HOTPLUG), 0).unwrap(), place(1, 0, 0));
        assert_eq!(set.next(Connect::PCI.and(Connect::HOTPLUG), 0).unwrap(), place(3, 1, 0));
        let models: Vec<_> = set.buses.iter().flatten().map(|b| b.model.name()).collect();
        assert_eq!(models, ["pcie-root", "pcie-root-port", "pcie-root-port", "pcie-to-pci-bridge"]);
    }

    #[test]
    fn ports_share_a_slot_as_functions() {
        let mut set = PciSet::new(&[Some(BusModel::PcieRoot)], false);
        let port = BusModel::PcieRootPort.connect();
        assert_eq!(set.next(port, 0).unwrap(), place(0, 1, 0));
        assert_eq!(set.next(port, 0).unwrap(), place(0, 1, 1));
        assert_eq!(set.next(Connect::PCIE, 0).unwrap(), place(0, 2, 0));
    }
}
