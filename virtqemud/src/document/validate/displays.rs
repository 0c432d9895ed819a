//! Displays and video cards that QEMU cannot have.

use virt_error::Result;
use virt_model::domain::info::each;
use virt_xml::At;

use super::{Checker, unsupported};
use crate::document::types::{
    AudioKind, DbusDisplay, Domain, Graphics, MemorySource, Video, VideoBackend, VideoKind, Vnc,
};
use crate::document::xml_error;

/// KiB that the cards with a mode of their own at power-on need.
const LEAST_VRAM: u32 = 1024;

/// What matters only when a guest is to run.
pub(super) fn check_live(def: &Domain) -> Result<()> {
    for (i, g) in def.devices.graphics.iter().enumerate() {
        let place = format!("/domain/devices/graphics[{}]", i + 1);
        if g.listens().len() > 1 {
            return Err(unsupported("QEMU does not support multiple listens for one graphics device."))
                .within(&place);
        }
        let kind = std::mem::discriminant(g);
        if def.devices.graphics[..i].iter().any(|other| std::mem::discriminant(other) == kind) {
            return Err(unsupported(
                "only 1 graphics device of each type (sdl, vnc, spice, headless, dbus, rdp) is supported",
            ))
            .within(&place);
        }
    }
    Ok(())
}

/// The protocol's passwords have eight bytes (RFC 6143, 7.2.2).
///
/// # Errors
/// Code 67 for a longer one.
pub fn vnc_password(vnc: &Vnc) -> Result<()> {
    match vnc.auth.passwd.as_ref().map(String::len) {
        Some(length @ 9..) => {
            Err(unsupported(format!("VNC password is {length} characters long, only 8 permitted")))
        }
        _ => Ok(()),
    }
}

impl Checker<'_> {
    pub(super) fn displays(&self) -> Result<()> {
        self.graphics().within("/domain/devices/graphics")?;
        self.videos()
    }

    fn graphics(&self) -> Result<()> {
        let all = &self.def.devices.graphics;
        let mut seen: Vec<&str> = Vec::new();
        for (i, g) in all.iter().enumerate() {
            let name = g.kind();
            if matches!(name, "rdp" | "desktop") {
                let place = format!("/domain/devices/graphics[{}]", i + 1);
                let text = format!("{name} graphics are not supported with this QEMU");
                return Err(unsupported(text)).within(&place);
            }
            if let Graphics::Vnc(vnc) = g {
                vnc_password(vnc)?;
            }
            if let Graphics::Dbus(DbusDisplay { audio: Some(id), .. }) = g
                && self.def.devices.audios.iter().any(|a| a.id == *id && a.kind != AudioKind::Dbus)
            {
                return Err(unsupported("The associated audio is not of 'dbus' kind."));
            }
            seen.push(name);
        }
        let egl = seen.contains(&"egl-headless");
        if egl && seen.iter().any(|n| !matches!(*n, "egl-headless" | "vnc" | "spice")) {
            return Err(unsupported(
                "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types",
            ));
        }
        let gl = |g: &Graphics| matches!(g, Graphics::Spice(s) if s.gl.enable == Some(true));
        if egl && all.iter().any(gl) {
            return Err(unsupported("multiple OpenGL displays are not supported by QEMU"));
        }
        Ok(())
    }

    fn videos(&self) -> Result<()> {
        let videos = &self.def.devices.videos;
        if videos.len() > 1 && videos.iter().any(|v| v.model.kind == VideoKind::None) {
            return Err(unsupported(
                "a 'none' video type must be the only video device defined for the domain",
            ));
        }
        each(videos, |video| {
            let m = &video.model;
            let primary = m.primary == Some(true);
            let device = match m.kind {
                VideoKind::Xen
                | VideoKind::Vbox
                | VideoKind::Parallels
                | VideoKind::Gop
                | VideoKind::Default => {
                    return Err(unsupported(format!(
                        "domain configuration does not support video model '{}'",
                        m.kind
                    )));
                }
                VideoKind::Vga => "VGA",
                VideoKind::Cirrus => "cirrus-vga",
                VideoKind::Vmvga => "vmware-svga",
                VideoKind::Qxl => "qxl",
                VideoKind::Bochs => "bochs-display",
                VideoKind::Ramfb => "ramfb",
                VideoKind::Virtio => "virtio-gpu-device",
                VideoKind::None => return Ok(()),
            };
            if !self.emulator.has_type(device) && !self.emulator.has_type("virtio-gpu-pci") {
                return Err(unsupported(format!(
                    "domain configuration does not support video model '{}'",
                    m.kind
                )));
            }
            if m.kind == VideoKind::Ramfb && video.info.address.is_some() {
                return Err(unsupported("address not supported for video type ramfb"));
            }
            self.video_settings(video)?;
            if !primary && !matches!(m.kind, VideoKind::Qxl | VideoKind::Virtio) {
                return Err(unsupported(format!(
                    "video type '{}' is only valid as primary video device",
                    m.kind
                )));
            }
            if m.acceleration.accel2d == Some(true) {
                return Err(unsupported("qemu does not support the accel2d setting"));
            }
            if m.acceleration.accel3d == Some(true) && m.kind != VideoKind::Virtio {
                return Err(unsupported("3d acceleration is supported only with 'virtio' video device"));
            }
            let least = matches!(m.kind, VideoKind::Vga | VideoKind::Vmvga).then_some(LEAST_VRAM);
            if m.vram.is_some_and(|v| Some(v) < least) {
                return Err(unsupported(format!(
                    "value for 'vram' must be at least 1 MiB ({LEAST_VRAM} KiB)"
                )));
            }
            if video.driver.name == Some(VideoBackend::VhostUser) && m.kind != VideoKind::Virtio {
                return Err(unsupported("'vhostuser' driver is only supported with 'virtio' device"));
            }
            if m.blob.is_some() && m.kind != VideoKind::Virtio {
                return Err(unsupported("'blob' is only supported for virtio video devices"));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Settings that only some cards have.
    fn video_settings(&self, video: &Video) -> Result<()> {
        let m = &video.model;
        if m.kind != VideoKind::Qxl {
            let only = [("vram64", m.vram64), ("ram", m.ram), ("vgamem", m.vgamem)];
            if let Some((name, _)) = only.iter().find(|(_, value)| value.is_some()) {
                let text = format!("{name} attribute only supported for video type qxl");
                return Err(unsupported(text));
            }
        }
        if !matches!(m.kind, VideoKind::Qxl | VideoKind::Virtio) && m.heads.is_some_and(|h| h != 1) {
            let text = format!("video type '{}' doesn't support multiple 'heads'", m.kind);
            return Err(unsupported(text));
        }
        let sized = [VideoKind::Vga, VideoKind::Qxl, VideoKind::Virtio, VideoKind::Bochs];
        let nothing = m.resolution.x == Some(0) || m.resolution.y == Some(0);
        if nothing {
            return Err(unsupported("video resolution values must be greater than 0"));
        }
        if m.resolution != Default::default() && !sized.contains(&m.kind) {
            return Err(xml_error("model resolution is not supported"));
        }
        if m.kind != VideoKind::Virtio {
            let v = &video.driver.virtio;
            let given =
                [(v.iommu, "iommu"), (v.ats, "ats"), (v.packed, "packed"), (v.page_per_vq, "page_per_vq")];
            if let Some((_, name)) = given.iter().find(|(value, _)| value.is_some()) {
                let text = format!("{name} driver option is only supported for virtio devices");
                return Err(unsupported(text));
            }
        }
        let shared = matches!(self.def.memory_backing.source, Some(MemorySource::Memfd));
        if m.blob == Some(true) && !shared {
            return Err(unsupported("'blob' support for virtio-gpu devices requires a memfd memory backend"));
        }
        if m.acceleration.rendernode.is_some() && video.driver.name != Some(VideoBackend::VhostUser) {
            return Err(unsupported("unsupported rendernode accel attribute without 'vhostuser'"));
        }
        Ok(())
    }
}
