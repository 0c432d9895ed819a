//! `<devices>`: all devices, in the order the reference writes their kinds.

use virt_xml::Xml;

use super::chardev::{Channel, Console, Parallel, Serial};
use super::controller::Controller;
use super::disk::Disk;
use super::filesystem::Filesystem;
use super::graphics::Graphics;
use super::hostdev::Hostdev;
use super::input::Input;
use super::interface::Interface;
use super::memory::MemoryDevice;
use super::misc::{
    Crypto, Hub, Iommu, Lease, Memballoon, NvramDevice, Panic, Pstore, Redirdev, Redirfilter, Rng, Shmem,
    Smartcard, Vsock, Watchdog,
};
use super::sound::{Audio, Sound};
use super::tpm::Tpm;
use super::video::Video;

/// `<devices>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Devices {
    #[xml(leaf)]
    pub emulator: Option<String>,
    #[xml(child = "disk")]
    pub disks: Vec<Disk>,
    #[xml(child = "controller", after = super::validate::usb_controllers)]
    pub controllers: Vec<Controller>,
    #[xml(child = "lease")]
    pub leases: Vec<Lease>,
    #[xml(child = "filesystem")]
    pub filesystems: Vec<Filesystem>,
    #[xml(child = "interface")]
    pub interfaces: Vec<Interface>,
    #[xml(child = "smartcard")]
    pub smartcards: Vec<Smartcard>,
    #[xml(child = "serial")]
    pub serials: Vec<Serial>,
    #[xml(child = "parallel")]
    pub parallels: Vec<Parallel>,
    #[xml(child = "console")]
    pub consoles: Vec<Console>,
    #[xml(child = "channel")]
    pub channels: Vec<Channel>,
    #[xml(child = "input")]
    pub inputs: Vec<Input>,
    #[xml(child = "tpm")]
    pub tpms: Vec<Tpm>,
    #[xml(child = "graphics")]
    pub graphics: Vec<Graphics>,
    #[xml(child = "sound")]
    pub sounds: Vec<Sound>,
    #[xml(child = "audio")]
    pub audios: Vec<Audio>,
    #[xml(child = "video")]
    pub videos: Vec<Video>,
    #[xml(child = "hostdev")]
    pub hostdevs: Vec<Hostdev>,
    #[xml(child = "redirdev")]
    pub redirdevs: Vec<Redirdev>,
    #[xml(child, once(InternalError, "only one set of redirection filter rule is supported"))]
    pub redirfilter: Option<Redirfilter>,
    #[xml(child = "hub")]
    pub hubs: Vec<Hub>,
    #[xml(child = "watchdog")]
    pub watchdogs: Vec<Watchdog>,
    #[xml(child, once(InternalError, "only a single memory balloon device is supported"))]
    pub memballoon: Option<Memballoon>,
    #[xml(child = "rng")]
    pub rngs: Vec<Rng>,
    #[xml(child, once(InternalError, "only a single nvram device is supported"))]
    pub nvram: Option<NvramDevice>,
    #[xml(child = "panic")]
    pub panics: Vec<Panic>,
    #[xml(child = "shmem")]
    pub shmems: Vec<Shmem>,
    #[xml(child = "memory")]
    pub memories: Vec<MemoryDevice>,
    #[xml(child = "iommu")]
    pub iommus: Vec<Iommu>,
    #[xml(child = "crypto")]
    pub cryptos: Vec<Crypto>,
    #[xml(child, once(XmlError, "only a single vsock device is supported"))]
    pub vsock: Option<Vsock>,
    #[xml(child, once(XmlError, "only a single pstore device is supported"))]
    pub pstore: Option<Pstore>,
}
