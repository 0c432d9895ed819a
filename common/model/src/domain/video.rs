//! Video cards.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, OnOff, Xml, YesElse, YesNo, names};

use super::info::{DeviceInfo, VirtioOptions};

names! {
    /// The card.
    pub enum VideoKind {
        Default = "default", Vga = "vga", Cirrus = "cirrus", Vmvga = "vmvga", Xen = "xen", Vbox = "vbox", Qxl = "qxl",
        Parallels = "parallels", Virtio = "virtio", Gop = "gop", None = "none", Bochs = "bochs", Ramfb = "ramfb"
    }
    /// Who runs the card.
    pub enum VideoBackend { Default = "default", Qemu = "qemu", VhostUser = "vhostuser" }
    /// VGA text mode configuration of bhyve.
    pub enum VgaConf { Io = "io", On = "on", Off = "off" }
}

/// `<video>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Video {
    #[xml(child)]
    pub driver: VideoDriver,
    #[xml(child)]
    pub model: VideoModel,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// How the card is driven.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VideoDriver {
    #[xml(flatten)]
    pub virtio: VirtioOptions,
    #[xml(attr)]
    pub name: Option<VideoBackend>,
    #[xml(attr)]
    pub vgaconf: Option<VgaConf>,
}

/// The card and its memory, in KiB.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VideoModel {
    #[xml(attr = "type")]
    pub kind: VideoKind,
    #[xml(attr)]
    pub ram: Option<u32>,
    #[xml(attr)]
    pub vram: Option<u32>,
    #[xml(attr)]
    pub vram64: Option<u32>,
    #[xml(attr)]
    pub vgamem: Option<u32>,
    #[xml(attr, write_when = VideoModel::has_heads)]
    pub heads: Option<u32>,
    #[xml(attr, with = YesElse)]
    pub primary: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub blob: Option<bool>,
    #[xml(child)]
    pub acceleration: Acceleration,
    #[xml(child)]
    pub resolution: Resolution,
}

impl VideoModel {
    fn has_heads(&self) -> bool {
        self.heads != Some(0)
    }
}

/// Hardware drawing.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Acceleration::check)]
pub struct Acceleration {
    #[xml(attr, with = YesNo)]
    pub accel3d: Option<bool>,
    #[xml(attr, with = YesNo)]
    pub accel2d: Option<bool>,
    #[xml(attr)]
    pub rendernode: Option<String>,
}

impl Acceleration {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.accel2d.is_none() && self.accel3d.is_none() && self.rendernode.is_none() {
            let text = "missing values for acceleration";
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        Ok(())
    }
}

/// The first screen's size in pixels.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Resolution {
    #[xml(attr, required)]
    pub x: Option<u32>,
    #[xml(attr, required)]
    pub y: Option<u32>,
}
