//! Video cards.

use crate::document::types::{Video, VideoBackend, VideoKind};
use virt_error::Result;

use super::Builder;
use super::address::virtio;
use super::props::{Opts, Props};

impl Builder<'_> {
    /// All video cards, the primary one first as the document has it.
    pub(super) fn videos(&mut self) -> Result<()> {
        let def = self.def;
        for video in &def.devices.videos {
            if video.model.kind == VideoKind::None {
                continue;
            }
            if video.driver.name == Some(VideoBackend::VhostUser) {
                let alias = video.info.alias.clone().unwrap_or_default();
                let path = self.launch.vhost_user_gpu_socket(&video.info);
                let opts = Opts::new("socket").with("id", format!("chr-vu-{alias}")).with("path", path);
                self.line.opts("-chardev", opts);
            }
            if let Some(props) = self.video(video) {
                self.line.device(props);
            }
        }
        Ok(())
    }

    fn video(&self, video: &Video) -> Option<Props> {
        let model = &video.model;
        let primary = model.primary == Some(true);
        let alias = video.info.alias.clone().unwrap_or_default();
        let gl = model.acceleration.accel3d == Some(true);
        let user = video.driver.name == Some(VideoBackend::VhostUser);
        let megabytes = |kib: Option<u32>| kib.map(|k| k / 1024);
        let props = match model.kind {
            VideoKind::Virtio => {
                // Only x86's VGA variant shows anything before the guest's driver runs.
                let vga = primary && self.vga_capable();
                let base = match (user, vga, gl) {
                    (true, true, _) => "vhost-user-vga",
                    (true, false, _) => "vhost-user-gpu",
                    (false, true, false) => "virtio-vga",
                    (false, true, true) => "virtio-vga-gl",
                    (false, false, false) => "virtio-gpu",
                    (false, false, true) => "virtio-gpu-gl",
                };
                let props = if vga {
                    super::address::virtio_options(Props::driver(base), &video.driver.virtio)
                } else {
                    virtio(base, None, &video.info, &video.driver.virtio)
                };
                let props = props.with("id", alias.as_str());
                if user {
                    props.opt("max_outputs", model.heads).with("chardev", format!("chr-vu-{alias}"))
                } else {
                    props.opt("max_outputs", model.heads).opt("blob", model.blob)
                }
            }
            VideoKind::Qxl => Props::driver(if primary { "qxl-vga" } else { "qxl" })
                .with("id", alias)
                .opt("max_outputs", model.heads)
                .opt("ram_size", model.ram.map(|k| u64::from(k) * 1024))
                .opt("vram_size", model.vram.map(|k| u64::from(k) * 1024))
                .with("vram64_size_mb", megabytes(model.vram64).unwrap_or(0))
                .opt("vgamem_mb", megabytes(model.vgamem)),
            VideoKind::Vga => Props::driver(if primary { "VGA" } else { "secondary-vga" })
                .with("id", alias)
                .opt("vgamem_mb", megabytes(model.vram)),
            VideoKind::Vmvga => {
                Props::driver("vmware-svga").with("id", alias).opt("vgamem_mb", megabytes(model.vram))
            }
            VideoKind::Bochs => Props::driver("bochs-display")
                .with("id", alias)
                .opt("vgamem", model.vram.map(|k| u64::from(k) * 1024)),
            VideoKind::Cirrus => Props::driver("cirrus-vga").with("id", alias),
            VideoKind::Ramfb => Props::driver("ramfb").with("id", alias),
            _ => return None,
        };
        let props = match (model.resolution.x, model.resolution.y) {
            (Some(x), Some(y)) => props.with("xres", x).with("yres", y),
            _ => props,
        };
        Some(self.place(props, &video.info))
    }

    fn vga_capable(&self) -> bool {
        matches!(self.emulator.target.as_str(), "x86_64" | "i386" | "ppc64" | "ppc" | "riscv64" | "riscv32")
    }
}
