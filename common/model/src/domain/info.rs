//! What every device has: alias, boot place, option ROM, ACPI index and address.

use virt_xml::rt_error::Result;
use virt_xml::{At, El, Hex, Mode, NonZero, OnOff, Place, Xml, YesNo};

use super::address::Address;

/// Alias, boot place and address of a device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = DeviceInfo::check)]
pub struct DeviceInfo {
    #[xml(child)]
    pub boot: Option<BootOrder>,
    /// Of a configuration only names the user chose (`ua-...`) are read.
    #[xml(attr = "alias@name", read_if = alias_kept)]
    pub alias: Option<String>,
    /// The USB controller this companion belongs to.
    #[xml(attr = "master@startport")]
    pub master_startport: Option<u32>,
    #[xml(child)]
    pub rom: Rom,
    #[xml(attr = "acpi@index", with = NonZero)]
    pub acpi_index: Option<u32>,
    #[xml(child)]
    pub address: Option<Address>,
    /// Where the device stands in the text it was read from, for errors that are found later.
    #[xml(skip)]
    pub place: Place,
}

/// A device that knows where it was read.
pub trait Placed {
    /// Its place.
    fn place(&self) -> Place;
}

impl Placed for DeviceInfo {
    fn place(&self) -> Place {
        self.place
    }
}

macro_rules! placed {
    ($($device:path),* $(,)?) => {$(
        impl Placed for $device {
            fn place(&self) -> Place {
                self.info.place
            }
        }
    )*};
}

placed!(
    super::chardev::Channel,
    super::chardev::Console,
    super::chardev::Parallel,
    super::chardev::Serial,
    super::controller::Controller,
    super::disk::Disk,
    super::filesystem::Filesystem,
    super::hostdev::Hostdev,
    super::input::Input,
    super::interface::Interface,
    super::memory::MemoryDevice,
    super::misc::Crypto,
    super::misc::Hub,
    super::misc::Iommu,
    super::misc::Memballoon,
    super::misc::NvramDevice,
    super::misc::Panic,
    super::misc::Pstore,
    super::misc::Redirdev,
    super::misc::Rng,
    super::misc::Shmem,
    super::misc::Smartcard,
    super::misc::Vsock,
    super::misc::Watchdog,
    super::sound::Sound,
    super::tpm::Tpm,
    super::video::Video,
);

/// Checks devices one after another; a refusal knows whose it is.
///
/// Errors: the first of `check`.
pub fn each<'a, T: Placed + 'a>(
    devices: impl IntoIterator<Item = &'a T>,
    mut check: impl FnMut(&'a T) -> Result<()>,
) -> Result<()> {
    devices.into_iter().try_for_each(|d| check(d).at(d.place()))
}

#[allow(clippy::ptr_arg)] // The derive passes the field's own type.
fn alias_kept(alias: &String, mode: Mode) -> bool {
    !mode.inactive || alias.starts_with("ua-")
}

impl DeviceInfo {
    /// Parts that only some devices have are not read for others.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.place = e.place();
        let device = e.name();
        if !matches!(device, "disk" | "interface" | "hostdev" | "redirdev" | "filesystem") {
            self.boot = None;
        }
        if !matches!(device, "interface" | "hostdev") {
            self.rom = Rom::default();
        }
        if device != "controller" {
            self.master_startport = None;
        }
        Ok(())
    }
}

/// `<boot order='1'/>`: the place in the boot order, from 1.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BootOrder {
    #[xml(attr, with = NonZero, required)]
    pub order: u32,
    #[xml(attr)]
    pub loadparm: Option<String>,
}

/// The option ROM of a PCI device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Rom {
    #[xml(attr, with = YesNo)]
    pub enabled: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub bar: Option<bool>,
    /// An empty name turns the device's own program off.
    #[xml(attr, even_empty)]
    pub file: Option<String>,
}

/// `driver` attributes of every virtio device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VirtioOptions {
    #[xml(attr, with = OnOff)]
    pub iommu: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub ats: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub packed: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub page_per_vq: Option<bool>,
}

/// A PCI device's two extra numbers on s390x.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Zpci {
    #[xml(attr, with = Hex<4>)]
    pub uid: Option<u32>,
    #[xml(attr, with = Hex<8>)]
    pub fid: Option<u32>,
}
