//! Folders shared with the guest: 9p and virtiofs.

use virt_error::{Code, Domain, Error, Result};

use super::Builder;
use super::address::virtio;
use super::props::{Opts, Props};
use crate::document::types::{
    AccessMode, Filesystem, FsDriverType, FsSource, Multidevs, VirtioModel, WritePolicy,
};

impl Builder<'_> {
    /// All shared folders.
    pub(super) fn filesystems(&mut self) -> Result<()> {
        let def = self.def;
        for fs in &def.devices.filesystems {
            match fs.driver.kind {
                Some(FsDriverType::Virtiofs) => self.virtiofs(fs),
                Some(FsDriverType::Mtp) => self.mtp(fs),
                _ => self.plan9(fs)?,
            }
        }
        Ok(())
    }

    fn plan9(&mut self, fs: &Filesystem) -> Result<()> {
        let alias = fs.info.alias.clone().unwrap_or_default();
        let id = format!("fsdev-{alias}");
        let path = match &fs.source {
            FsSource::Mount(m) => m.dir.clone().unwrap_or_default(),
            _ => {
                return Err(Error::new(
                    Code::ConfigUnsupported,
                    Domain::Qemu,
                    "only supports mount filesystem type",
                ));
            }
        };
        let mut opts = match fs.driver.kind {
            Some(FsDriverType::Handle) => Opts::new("handle"),
            _ => {
                let model = match fs.accessmode.unwrap_or_default() {
                    AccessMode::Mapped => "mapped",
                    AccessMode::Squash => "none",
                    _ => "passthrough",
                };
                let opts = Opts::new("local").with("security_model", model);
                match fs.multidevs {
                    Some(m) if m != Multidevs::Default => opts.with("multidevs", m),
                    _ => opts,
                }
            }
        };
        opts = opts.opt("fmode", fs.fmode.as_deref()).opt("dmode", fs.dmode.as_deref());
        if fs.driver.wrpolicy == Some(WritePolicy::Immediate) {
            opts.put("writeout", "immediate");
        }
        opts.put("id", &id);
        opts.put("path", path);
        if fs.readonly {
            opts.word("readonly");
        }
        self.line.opts("-fsdev", opts);
        let model = fs.model.or(Some(VirtioModel::Default));
        let props = virtio("virtio-9p", model, &fs.info, &fs.driver.virtio)
            .with("id", alias)
            .with("fsdev", id)
            .opt("mount_tag", fs.target.as_deref());
        let props = self.place(props, &fs.info);
        self.line.device(props);
        Ok(())
    }

    fn mtp(&mut self, fs: &Filesystem) {
        let folder = match &fs.source {
            FsSource::Mount(m) => m.dir.clone(),
            _ => None,
        };
        let props = Props::driver("usb-mtp")
            .with("id", fs.info.alias.clone().unwrap_or_default())
            .opt("rootdir", folder)
            .opt("desc", fs.target.as_deref())
            .with("readonly", fs.readonly);
        let props = self.place(props, &fs.info);
        self.line.device(props);
    }

    fn virtiofs(&mut self, fs: &Filesystem) {
        let alias = fs.info.alias.clone().unwrap_or_default();
        let chardev = format!("chr-vu-{alias}");
        let socket = match &fs.source {
            FsSource::Mount(m) => m.socket.clone(),
            _ => None,
        };
        let socket = socket.unwrap_or_else(|| format!("{}/{alias}-fs.sock", self.launch.private_dir));
        self.line.opts("-chardev", Opts::new("socket").with("id", &chardev).with("path", socket));
        let props = virtio("vhost-user-fs", None, &fs.info, &fs.driver.virtio)
            .with("id", alias)
            .with("chardev", chardev)
            .opt("queue-size", fs.driver.queue)
            .opt("tag", fs.target.as_deref())
            .opt("bootindex", fs.info.boot.as_ref().map(|b| b.order));
        let props = self.place(props, &fs.info);
        self.line.device(props);
    }
}
