//! Keyboards, pointers and passed-through input devices.

use virt_xml::{OnOff, Xml, names};

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

/// `<input>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Input {
    #[xml(
        attr = "type",
        need(InternalError, "missing input device type"),
        say(ConfigUnsupported, "unknown input device type '{}'")
    )]
    pub kind: InputKind,
    #[xml(attr, say(ConfigUnsupported, "unknown input bus type '{}'"))]
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

/// A host event device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct InputSource {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr)]
    pub evdev: Option<String>,
    #[xml(attr)]
    pub grab: Option<InputGrab>,
    #[xml(attr, with = OnOff)]
    pub repeat: Option<bool>,
    #[xml(attr = "grabToggle")]
    pub grab_toggle: Option<GrabToggle>,
}
