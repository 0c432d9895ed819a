//! Keyboards, pointers and passed-through input devices.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, OnOff, Xml, names};

use super::disk::VirtioModel;
use super::info::{DeviceInfo, VirtioOptions};

names! {
    /// What the device is.
    pub enum InputKind { Mouse = "mouse", Tablet = "tablet", Keyboard = "keyboard", Passthrough = "passthrough", Evdev = "evdev" }
    /// What it sits on.
    pub enum InputBus { Default = "default", Ps2 = "ps2", Usb = "usb", Xen = "xen", Parallels = "parallels", Virtio = "virtio", None = "none" }
    /// Who gets the events.
    pub enum InputGrab { Default = "default", All = "all" }
    /// Keys that switch between host and guest.
    pub enum GrabToggle {
        Default = "default", CtrlCtrl = "ctrl-ctrl", AltAlt = "alt-alt", ShiftShift = "shift-shift", MetaMeta = "meta-meta",
        Scrolllock = "scrolllock", CtrlScrolllock = "ctrl-scrolllock"
    }
}

impl InputBus {
    /// What QEMU reads from the host itself is on none, and does not say so.
    fn is_one(&self, _: Mode) -> bool {
        *self != Self::None
    }
}

/// `<input>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Input::check)]
pub struct Input {
    #[xml(
        attr = "type",
        need(InternalError, "missing input device type"),
        say(ConfigUnsupported, "unknown input device type '{}'")
    )]
    pub kind: InputKind,
    #[xml(attr, say(ConfigUnsupported, "unknown input bus type '{}'"), keep_if = InputBus::is_one)]
    pub bus: Option<InputBus>,
    #[xml(attr)]
    pub model: Option<VirtioModel>,
    #[xml(child)]
    pub driver: VirtioOptions,
    #[xml(child)]
    pub source: InputSource,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

impl Input {
    /// Only devices of the host's have a source, and those that are read by QEMU itself no bus.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.bus == Some(InputBus::Default) {
            let text = "unknown input bus type 'default'";
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        match self.kind {
            InputKind::Evdev => {
                if self.bus.is_some() {
                    let text = "input evdev doesn't support bus element";
                    return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
                }
                self.source.evdev = None;
            }
            InputKind::Passthrough => {
                self.source = InputSource { evdev: self.source.evdev.take(), ..InputSource::default() };
            }
            _ => {
                self.source = InputSource::default();
                return Ok(());
            }
        }
        if self.source.dev.is_none() && self.source.evdev.is_none() && e.child("source").is_some() {
            return Err(e.error(Code::XmlError, Domain::Domain, "Missing evdev path for input device"));
        }
        Ok(())
    }
}

/// A host event device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct InputSource {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr)]
    pub evdev: Option<String>,
    #[xml(attr)]
    pub grab: Option<InputGrab>,
    #[xml(attr = "grabToggle")]
    pub grab_toggle: Option<GrabToggle>,
    #[xml(attr, with = OnOff)]
    pub repeat: Option<bool>,
}
