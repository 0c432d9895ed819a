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
pub mod volume;

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
#[xml(check = Domain::check)]
pub struct Domain {
    #[xml(
        attr = "type",
        need(InternalError, "missing domain type attribute"),
        say(ConfigUnsupported, "invalid domain type {}"),
        with = KindText
    )]
    pub virt_type: VirtType,
    /// Number of the running guest.
    #[xml(attr, live)]
    pub id: Option<i32>,
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf, with = UuidText, say(InternalError, "malformed uuid element"))]
    pub uuid: Option<Uuid>,
    #[xml(child, once(XmlError, "element 'genid' can only appear once"))]
    pub genid: Option<GenId>,
    #[xml(leaf = "hwuuid", with = UuidText)]
    pub hwuuid: Option<Uuid>,
    #[xml(leaf)]
    pub title: Option<String>,
    #[xml(leaf)]
    pub description: Option<String>,
    #[xml(child)]
    pub metadata: Metadata,
    #[xml(child = "maxMemory")]
    pub max_memory: Option<MaxMemory>,
    #[xml(child)]
    pub memory: Option<Memory>,
    #[xml(child = "currentMemory")]
    pub current_memory: Option<Size>,
    #[xml(child, joined)]
    pub blkiotune: BlkioTune,
    #[xml(child, joined)]
    pub memtune: MemTune,
    #[xml(child = "memoryBacking", joined)]
    pub memory_backing: MemoryBacking,
    #[xml(child)]
    pub vcpu: Option<Vcpu>,
    #[xml(child)]
    pub vcpus: Vcpus,
    #[xml(leaf, say(XmlError, "invalid iothreads count '{}'"))]
    pub iothreads: Option<u32>,
    #[xml(child, joined)]
    pub iothreadids: IothreadIds,
    #[xml(child, keep_if = DefaultIothread::says)]
    pub defaultiothread: Option<DefaultIothread>,
    #[xml(child, joined)]
    pub throttlegroups: ThrottleGroups,
    #[xml(child, joined)]
    pub cputune: CpuTune,
    #[xml(child, once(XmlError, "only one numatune is supported"))]
    pub numatune: NumaTune,
    #[xml(child, once(XmlError, "only one resource element is supported"))]
    pub resource: Resource,
    #[xml(child = "sysinfo")]
    pub sysinfo: Vec<Sysinfo>,
    #[xml(leaf)]
    pub bootloader: Option<String>,
    #[xml(leaf)]
    pub bootloader_args: Option<String>,
    #[xml(child, joined)]
    pub os: Os,
    #[xml(child, joined)]
    pub idmap: IdMap,
    #[xml(child, joined)]
    pub features: Features,
    #[xml(child)]
    pub cpu: Option<Cpu>,
    #[xml(child, joined)]
    pub clock: Option<Clock>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_poweroff action: {}"))]
    pub on_poweroff: Option<LifecycleAction>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_reboot action: {}"))]
    pub on_reboot: Option<LifecycleAction>,
    #[xml(leaf, say(ConfigUnsupported, "unknown on_crash action: {}"))]
    pub on_crash: Option<LifecycleAction>,
    #[xml(leaf)]
    pub on_lockfailure: Option<LockFailure>,
    #[xml(child, joined)]
    pub pm: Pm,
    #[xml(child, joined)]
    pub perf: Perf,
    #[xml(child, joined)]
    pub devices: Devices,
    #[xml(child = "seclabel")]
    pub seclabels: Vec<Seclabel>,
    #[xml(child, joined)]
    pub keywrap: KeyWrap,
    #[xml(child = "launchSecurity")]
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

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let refuse = |code, text: &str| Err(e.error(code, From::Domain, text.to_string()));
        match &self.name {
            None => {
                return Err(virt_xml::rt_error::Error::bare(Code::NoName, From::Domain))
                    .within("/domain/name");
            }
            Some(name) if name.contains('/') => {
                return refuse(Code::XmlError, &format!("name {name} cannot contain '/'"));
            }
            Some(_) => {}
        }
        if self.seclabels.len() > 1 && self.seclabels.iter().any(|l| l.model.is_none()) {
            return refuse(Code::XmlError, "missing security model when using multiple labels");
        }
        if self.title.as_ref().is_some_and(|t| t.contains('\n')) {
            return refuse(Code::XmlError, "Domain title can't contain newlines");
        }
        validate::while_reading(self)
    }
}
