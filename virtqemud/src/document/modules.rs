//! Parts of QEMU that distributions install apart. A document may name them anywhere; a guest starts only where they are.

use virt_error::Result;

use super::types::{Domain, Graphics, VideoKind};
use super::unsupported;
use crate::emulator::Emulator;

/// Errors with code 67, in the reference's words, for the first part that is not installed.
pub fn check(def: &Domain, emulator: &Emulator) -> Result<()> {
    let devices = &def.devices;
    let spice = devices.graphics.iter().any(|g| matches!(g, Graphics::Spice(_)));
    if spice && !emulator.options.contains("spice") {
        return Err(unsupported("spice graphics are not supported with this QEMU"));
    }
    for video in &devices.videos {
        let model = &video.model;
        if model.kind == VideoKind::Qxl && !emulator.has_type("qxl") && !emulator.has_type("qxl-vga") {
            let text = format!("domain configuration does not support video model '{}'", model.kind);
            return Err(unsupported(text));
        }
        let gl = ["virtio-vga-gl", "virtio-gpu-gl-pci", "virtio-gpu-gl-device", "vhost-user-gpu"];
        if model.acceleration.accel3d == Some(true) && !gl.iter().any(|t| emulator.has_type(t)) {
            return Err(unsupported("3d acceleration is not supported by this QEMU binary"));
        }
    }
    Ok(())
}
