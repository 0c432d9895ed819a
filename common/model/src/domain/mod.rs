//! The domain document: a guest, its hardware and its place on the host.
//!
//! [`Domain::parse`] reads, [`Domain::format`] writes. An `Option` that is `None` was not given: post-parse code of
//! the driver fills it in. In every type the fields stand in the order of the output; where a flattened field writes an
//! element's `type` attribute, the element's other attributes come after it.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

pub mod actual;
pub mod address;
pub mod chardev;
pub mod clock;
pub mod controller;
pub mod cpu;
pub mod defaults;
pub mod devices;
pub mod disk;
pub mod features;
pub mod filesystem;
pub mod graphics;
pub mod hostdev;
pub mod hyperv;
pub mod info;
pub mod input;
pub mod interface;
pub mod memory;
pub mod metadata;
pub mod misc;
pub mod net;
pub mod os;
pub mod qemu;
pub mod seclabel;
pub mod sound;
pub mod source;
mod stability;
pub mod sysinfo;
pub mod tpm;
pub mod tuning;
mod validate;
pub mod vcpu;
pub mod video;
pub mod virtualport;
pub mod volume;

pub use validate::DeviceKind;
use virt_xml::rt_error::{Code, Domain as From, Result};
use virt_xml::{At, El, Mode, Xml, names};

use crate::{Size, Uuid, UuidText};
use clock::Clock;
use cpu::Cpu;
use devices::Devices;
use disk::ThrottleGroups;
use features::Features;
use filesystem::IdMap;
use graphics::Graphics;
use memory::{MaxMemory, MemTune, Memory, MemoryBacking};
use metadata::Metadata;
use os::Os;
use qemu::QemuNamespace;
use seclabel::Seclabel;
use sysinfo::Sysinfo;
use tuning::{BlkioTune, KeyWrap, LaunchSecurity, LifecycleAction, LockFailure, Perf, Pm, Resource};
use vcpu::{CpuTune, DefaultIothread, IothreadIds, NumaTune, Vcpu, Vcpus};

names! {
    /// What runs the guest.
    pub enum VirtType {
        Qemu = "qemu", Kqemu = "kqemu", Kvm = "kvm", Xen = "xen", Lxc = "lxc", Uml = "uml", Openvz = "openvz", Test = "test",
        Vmware = "vmware", Hyperv = "hyperv", Vbox = "vbox", Phyp = "phyp", Parallels = "parallels", Bhyve = "bhyve",
        Vz = "vz", Hvf = "hvf"
    }
}

/// A domain's type; an empty one counts as missing.
pub struct KindText;

const NO_KIND: virt_xml::Say =
    virt_xml::Say { code: Code::InternalError, domain: From::Domain, text: "missing domain type attribute" };

impl virt_xml::Codec<VirtType> for KindText {
    fn parse(text: &str) -> std::result::Result<VirtType, virt_xml::Bad> {
        match text {
            "" => Err(virt_xml::Bad::Own(&NO_KIND)),
            _ => VirtType::from_name(text).ok_or(virt_xml::Bad::Unknown),
        }
    }
    fn put(value: &VirtType, out: &mut String) {
        out.push_str(value.as_str());
    }
}

/// `<domain>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Domain::named, check = Domain::check)]
pub struct Domain {
    #[xml(
        attr = "type",
        need(InternalError, "missing domain type attribute"),
        say(ConfigUnsupported, "invalid domain type {}"),
        with = KindText,
        turn = 4
    )]
    pub virt_type: VirtType,
    /// Number of the running guest.
    #[xml(attr, live)]
    pub id: Option<i32>,
    #[xml(leaf, turn = 1)]
    pub name: Option<String>,
    #[xml(leaf, with = UuidText, say(InternalError, "malformed uuid element"), turn = 2)]
    pub uuid: Option<Uuid>,
    #[xml(child, once(XmlError, "element 'genid' can only appear once"), turn = 3)]
    pub genid: Option<GenId>,
    #[xml(leaf = "hwuuid", with = UuidText)]
    pub hwuuid: Option<Uuid>,
    #[xml(leaf, after = one_line, turn = 5)]
    pub title: Option<String>,
    #[xml(leaf)]
    pub description: Option<String>,
    #[xml(child)]
    pub metadata: Metadata,
    #[xml(child = "maxMemory", turn = 9)]
    pub max_memory: Option<MaxMemory>,
    #[xml(child, turn = 7)]
    pub memory: Option<Memory>,
    #[xml(child = "currentMemory", turn = 8)]
    pub current_memory: Option<Size>,
    #[xml(child, joined, after = validate::blkio, turn = 11)]
    pub blkiotune: BlkioTune,
    #[xml(child, joined, turn = 11)]
    pub memtune: MemTune,
    #[xml(child = "memoryBacking", joined, after = validate::page_sizes, turn = 10)]
    pub memory_backing: MemoryBacking,
    #[xml(child, turn = 13)]
    pub vcpu: Option<Vcpu>,
    #[xml(child, after = validate::vcpu_list, turn = 14)]
    pub vcpus: Vcpus,
    #[xml(leaf, say(XmlError, "invalid iothreads count '{}'"), turn = 15)]
    pub iothreads: Option<u32>,
    #[xml(child, joined, turn = 15)]
    pub iothreadids: IothreadIds,
    #[xml(child, keep_if = DefaultIothread::says, turn = 15)]
    pub defaultiothread: Option<DefaultIothread>,
    #[xml(child, joined)]
    pub throttlegroups: ThrottleGroups,
    #[xml(child, joined, after = validate::schedulers, turn = 16)]
    pub cputune: CpuTune,
    #[xml(child, once(XmlError, "only one numatune is supported"), after = validate::numa_places, turn = 18)]
    pub numatune: NumaTune,
    #[xml(child, once(XmlError, "only one resource element is supported"), turn = 19)]
    pub resource: Resource,
    #[xml(child = "sysinfo", after = validate::smbios, turn = 40)]
    pub sysinfo: Vec<Sysinfo>,
    #[xml(leaf, after = validate::guest_kind, turn = 12)]
    pub bootloader: Option<String>,
    #[xml(leaf)]
    pub bootloader_args: Option<String>,
    #[xml(child, joined, turn = 30)]
    pub os: Os,
    #[xml(child, joined)]
    pub idmap: IdMap,
    #[xml(child, joined, turn = 20)]
    pub features: Features,
    #[xml(child, after = validate::cells, turn = 17)]
    pub cpu: Option<Cpu>,
    #[xml(child, joined, after = validate::clock, turn = 22)]
    pub clock: Option<Clock>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_poweroff action: {}"), turn = 21)]
    pub on_poweroff: Option<LifecycleAction>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_reboot action: {}"), turn = 21)]
    pub on_reboot: Option<LifecycleAction>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_crash action: {}"), turn = 21)]
    pub on_crash: Option<LifecycleAction>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_lockfailure action: {}"), turn = 21)]
    pub on_lockfailure: Option<LockFailure>,
    #[xml(child, joined, turn = 21)]
    pub pm: Pm,
    #[xml(child, joined, turn = 21)]
    pub perf: Perf,
    #[xml(child, joined, turn = 31)]
    pub devices: Devices,
    #[xml(child = "seclabel", after = validate::labels, turn = 6)]
    pub seclabels: Vec<Seclabel>,
    #[xml(child, joined)]
    pub keywrap: KeyWrap,
    #[xml(child = "launchSecurity", turn = 32)]
    pub launch_security: Option<LaunchSecurity>,
    #[xml(flatten)]
    pub qemu: QemuNamespace,
}

/// `<genid>`: given, or to be made.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct GenId {
    #[xml(text, with = UuidText, say(InternalError, "malformed genid element"))]
    pub uuid: Option<Uuid>,
}

/// The guest's own words about itself that stand in lists.
fn one_line(title: &Option<String>, e: El<'_>) -> Result<()> {
    match title.as_ref().is_some_and(|t| t.contains('\n')) {
        true => Err(e.error(Code::XmlError, From::Domain, "Domain title can't contain newlines")),
        false => Ok(()),
    }
}

impl Domain {
    /// Reads a document. Parts of a running guest are left out when `mode.inactive`.
    ///
    /// Errors carry libvirt's code and text, with element path, line and value as context.
    pub fn parse(text: &str, mode: Mode) -> Result<Self> {
        virt_xml::parse(text, "domain", mode, From::Domain)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self, mode: Mode) -> String {
        if mode.inactive && self.id.is_some() {
            let mut config = self.clone();
            config.devices.interfaces.iter_mut().for_each(|i| i.actual = None);
            config.devices.graphics.iter_mut().for_each(Graphics::forget_ports);
            return virt_xml::format(&config, "domain", mode);
        }
        if !mode.status && self.devices.interfaces.iter().any(|i| i.actual.is_some()) {
            let mut shown = self.clone();
            shown.devices.interfaces.iter_mut().for_each(|i| *i = i.shown());
            return virt_xml::format(&shown, "domain", mode);
        }
        virt_xml::format(self, "domain", mode)
    }

    /// The ids of all I/O threads; those only counted have 1, 2, 3 ...
    pub fn iothread_ids(&self) -> Vec<u32> {
        let listed = &self.iothreadids.iothreads;
        match listed.is_empty() {
            false => listed.iter().map(|t| t.id).collect(),
            true => (1..=self.iothreads.unwrap_or(0)).collect(),
        }
    }

    /// A guest without a name is refused before anything else in it is looked at.
    fn named(e: El<'_>) -> Result<()> {
        match e.child("name").is_none_or(|n| n.text().is_empty()) {
            true => Err(virt_xml::rt_error::Error::bare(Code::NoName, From::Domain)).within("/domain/name"),
            false => Ok(()),
        }
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.bootloader.is_some() {
            self.os.kind.name.get_or_insert_with(|| "xen".into());
        }
        validate::while_reading(self)
    }
}
