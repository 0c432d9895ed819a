//! Cards that show themselves as many: the virtual functions of a physical one, as sysfs lists them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Functions of one card at most; the standard allows fewer.
const MOST: usize = 1 << 16;

/// Where the kernel shows its devices.
#[derive(Debug, Clone)]
pub struct Sysfs(PathBuf);

impl Default for Sysfs {
    fn default() -> Self {
        Self("/sys".into())
    }
}

/// The place of a PCI device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciPlace {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u32,
    /// Slot.
    pub slot: u32,
    /// Function.
    pub function: u32,
}

/// A virtual function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its place.
    pub place: PciPlace,
    /// Its network interface; none while another driver, or none, has it.
    pub interface: Option<String>,
}

impl fmt::Display for PciPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

impl FromStr for PciPlace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = |part: &str| u32::from_str_radix(part, 16).map_err(drop);
        let (rest, function) = text.rsplit_once('.').ok_or(())?;
        let parts: Vec<&str> = rest.split(':').collect();
        let [domain, bus, slot] = parts[..] else { return Err(()) };
        Ok(Self { domain: hex(domain)?, bus: hex(bus)?, slot: hex(slot)?, function: hex(function)? })
    }
}

impl Sysfs {
    /// Below another folder, for tests.
    pub fn at(root: &Path) -> Self {
        Self(root.to_path_buf())
    }

    /// The folder of a PCI device.
    pub fn device(&self, place: PciPlace) -> PathBuf {
        self.0.join("bus/pci/devices").join(place.to_string())
    }

    /// Whether a PCI device is a virtual function.
    pub fn is_function(&self, place: PciPlace) -> bool {
        self.device(place).join("physfn").exists()
    }

    /// The virtual functions of a network interface, in the card's order; none of one that is no such card, or is not
    /// there. Blocking.
    pub fn functions(&self, interface: &str) -> Vec<Function> {
        let card = self.0.join("class/net").join(interface).join("device");
        let place = |n: usize| {
            let link = std::fs::read_link(card.join(format!("virtfn{n}"))).ok()?;
            link.file_name()?.to_str()?.parse().ok()
        };
        let places = (0..MOST).map_while(place);
        places.map(|place| Function { place, interface: self.interface(place) }).collect()
    }

    /// The network interface of a PCI device: the first by name.
    fn interface(&self, place: PciPlace) -> Option<String> {
        let all = std::fs::read_dir(self.device(place).join("net")).ok()?.flatten();
        all.filter_map(|e| e.file_name().into_string().ok()).min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn functions_are_found_with_their_interfaces() {
        let root = tempfile::tempdir().unwrap();
        let made = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let card = made("devices/pci0000:00/0000:05:00.0");
        for (n, place) in ["0000:05:10.0", "0000:05:10.2"].into_iter().enumerate() {
            let function = made(&format!("devices/pci0000:00/{place}"));
            symlink("../0000:05:00.0", function.join("physfn")).unwrap();
            symlink(format!("../{place}"), card.join(format!("virtfn{n}"))).unwrap();
            symlink(&function, made("bus/pci/devices").join(place)).unwrap();
        }
        made("devices/pci0000:00/0000:05:10.2/net/eth9");
        symlink(&card, made("class/net/eth0").join("device")).unwrap();
        let sysfs = Sysfs::at(root.path());
        let found = sysfs.functions("eth0");
        let shown: Vec<_> = found.iter().map(|f| (f.place.to_string(), f.interface.as_deref())).collect();
        assert_eq!(shown, [("0000:05:10.0".into(), None), ("0000:05:10.2".into(), Some("eth9"))]);
        assert!(sysfs.is_function(found[0].place) && !sysfs.is_function("0000:05:00.0".parse().unwrap()));
        assert!(sysfs.functions("eth1").is_empty());
        assert!("0000:05:00".parse::<PciPlace>().is_err() && "x:0:0.0".parse::<PciPlace>().is_err());
    }
}
