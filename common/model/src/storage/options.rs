//! Options in namespaces of their own: of mounts, and of Ceph's client library.

use virt_xml::rt_error::Result;
use virt_xml::{El, Writer, Xml};

use super::xml_error;

/// The namespace of options for mounts.
const FS: &str = "http://libvirt.org/schemas/storagepool/fs/1.0";
/// The namespace of options for Ceph.
const RBD: &str = "http://libvirt.org/schemas/storagepool/rbd/1.0";

/// `<fs:mount_opts>` and `<rbd:config_opts>`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Names of mount options.
    pub mount: Vec<String>,
    /// Names and values for Ceph.
    pub ceph: Vec<(String, String)>,
}

impl Xml for Options {
    fn read(e: El<'_>) -> Result<Self> {
        let inside = |uri: &'static str, list: &'static str| {
            e.children()
                .filter(move |c| c.local_name() == list && c.namespace() == Some(uri))
                .flat_map(|c| c.children())
                .filter(|c| c.local_name() == "option")
        };
        let name = |o: &El<'_>, what: &str| {
            let missing = || xml_error(*o, format!("no {what} option name specified"));
            o.attr("name").map(str::to_string).ok_or_else(missing)
        };
        let mut all = Self::default();
        if e.attr("type").is_some_and(|t| t == "fs" || t == "netfs") {
            all.mount = inside(FS, "mount_opts").map(|o| name(&o, "fs mount")).collect::<Result<_>>()?;
        }
        if e.attr("type") == Some("rbd") {
            for option in inside(RBD, "config_opts") {
                let name = name(&option, "rbd")?;
                if name.is_empty() {
                    return Err(xml_error(option, "empty rbd option name specified"));
                }
                let said =
                    |what| xml_error(option, format!("{what} rbd option value specified for name '{name}'"));
                match option.attr("value") {
                    None => return Err(said("no")),
                    Some("") => return Err(said("empty")),
                    Some(value) => all.ceph.push((name, value.to_string())),
                }
            }
        }
        Ok(all)
    }
    fn write_attrs(&self, w: &mut Writer) {
        if !self.mount.is_empty() {
            w.attr("xmlns:fs", FS);
        }
        if !self.ceph.is_empty() {
            w.attr("xmlns:rbd", RBD);
        }
    }
    fn write_children(&self, w: &mut Writer) {
        if !self.mount.is_empty() {
            w.start("fs:mount_opts");
            for name in &self.mount {
                w.start("fs:option");
                w.attr("name", name);
                w.end();
            }
            w.end();
        }
        if !self.ceph.is_empty() {
            w.start("rbd:config_opts");
            for (name, value) in &self.ceph {
                w.start("rbd:option");
                w.attr("name", name);
                w.attr("value", value);
                w.end();
            }
            w.end();
        }
    }
}
