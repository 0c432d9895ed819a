//! QEMU's own namespace: arguments, capabilities, overrides and deprecation handed straight through.

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{El, Writer, Xml, names};

/// The namespace of `qemu:commandline` and its like.
pub const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

names! {
    /// What QEMU does when it meets something deprecated.
    pub enum DeprecationBehavior { None = "none", Omit = "omit", Reject = "reject", Crash = "crash" }
    /// The type of an overridden property.
    pub enum PropertyKind { String = "string", Unsigned = "unsigned", Signed = "signed", Bool = "bool", Remove = "remove" }
}

/// Everything of QEMU's namespace. The prefix is always written as `qemu`, declared at the root.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QemuNamespace {
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, Option<String>)>,
    /// Capabilities of the binary to assume.
    pub capabilities_add: Vec<String>,
    /// Capabilities of the binary to leave unused.
    pub capabilities_del: Vec<String>,
    /// Properties of devices, by alias.
    pub overrides: Vec<DeviceOverride>,
    /// What happens on deprecated use. As in the reference, an unknown word counts as none.
    pub deprecation: Option<DeprecationBehavior>,
}

/// Properties of one device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceOverride {
    /// The device.
    pub alias: String,
    /// Properties of its frontend: name, type, value.
    pub properties: Vec<(String, PropertyKind, Option<String>)>,
}

impl QemuNamespace {
    /// Whether the document needs no namespace.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn need<'d>(e: El<'d>, attr: &str, text: &str) -> Result<&'d str> {
    e.attr(attr)
        .ok_or_else(|| e.error(Code::InternalError, Domain::Qemu, text.to_string()).with("attribute", attr))
}

/// Child elements of QEMU's namespace with this local name.
fn named<'d>(e: El<'d>, local: &'d str) -> impl Iterator<Item = El<'d>> {
    e.children().filter(move |c| c.local_name() == local && c.namespace() == Some(QEMU_NAMESPACE))
}

fn unknown(e: El<'_>, attr: &str, value: &str) -> Error {
    e.bad_attr(attr, value, virt_xml::Bad::Unknown)
}

impl Xml for QemuNamespace {
    fn read(e: El<'_>) -> Result<Self> {
        let mut out = Self::default();
        for c in named(e, "commandline") {
            for arg in named(c, "arg") {
                out.args.push(need(arg, "value", "No qemu command-line argument specified")?.to_string());
            }
            for env in named(c, "env") {
                let name = need(env, "name", "No qemu environment name specified")?;
                if name.is_empty() {
                    return Err(env.error(
                        Code::InternalError,
                        Domain::Qemu,
                        "Empty qemu environment name specified",
                    ));
                }
                let of_words = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let wrong = match name.chars().next() {
                    Some(c) if !c.is_ascii_alphabetic() && c != '_' => "begin with a letter or underscore",
                    _ if !name.chars().all(of_words) => "contain only alphanumerics and underscore",
                    _ => "",
                };
                if !wrong.is_empty() {
                    let text = format!("Invalid environment name, it must {wrong}");
                    return Err(env.error(Code::InternalError, Domain::Qemu, text));
                }
                out.env.push((name.to_string(), env.attr("value").map(str::to_string)));
            }
        }
        for c in named(e, "capabilities") {
            for (local, into) in [("add", &mut out.capabilities_add), ("del", &mut out.capabilities_del)] {
                for cap in named(c, local) {
                    into.push(need(cap, "capability", "missing capability name")?.to_string());
                }
            }
        }
        for device in named(e, "override").flat_map(|c| named(c, "device")) {
            let alias = device.attr("alias").ok_or_else(|| device.missing_attr("alias"))?;
            let mut properties = Vec::new();
            for p in named(device, "frontend").flat_map(|f| named(f, "property")) {
                let refuse = |text: String| p.error(Code::XmlError, Domain::Qemu, text);
                let name = p
                    .attr("name")
                    .ok_or_else(|| refuse("missing 'name' attribute for qemu:property".into()))?;
                let kind = p.attr("type").ok_or_else(|| p.missing_attr("type"))?;
                let kind = PropertyKind::from_name(kind).ok_or_else(|| unknown(p, "type", kind))?;
                let value = p.attr("value");
                let number = || value.and_then(|v| virt_xml::parse_int(v, 10));
                let fits = match kind {
                    PropertyKind::Remove | PropertyKind::String => true,
                    PropertyKind::Bool => matches!(value, Some("true" | "false")),
                    PropertyKind::Unsigned => number().is_some_and(|n| u64::try_from(n).is_ok()),
                    PropertyKind::Signed => number().is_some_and(|n| i64::try_from(n).is_ok()),
                };
                match value {
                    None if kind != PropertyKind::Remove => {
                        return Err(refuse("missing 'value' attribute for 'qemu:property'".into()));
                    }
                    Some(v) if !fits => {
                        let text = format!("invalid value '{v}' of 'value' attribute of 'qemu:property'");
                        return Err(refuse(text));
                    }
                    _ => {}
                }
                properties.push((name.to_string(), kind, value.map(str::to_string)));
            }
            if properties.is_empty() {
                continue;
            }
            out.overrides.push(DeviceOverride { alias: alias.to_string(), properties });
        }
        out.deprecation = named(e, "deprecation")
            .next()
            .and_then(|d| d.attr("behavior"))
            .and_then(DeprecationBehavior::from_name);
        Ok(out)
    }

    fn write_attrs(&self, w: &mut Writer) {
        if !self.is_empty() {
            w.attr("xmlns:qemu", QEMU_NAMESPACE);
        }
    }

    fn write_children(&self, w: &mut Writer) {
        let one = |w: &mut Writer, name: &'static str, attrs: &[(&str, Option<&str>)]| {
            w.start(name);
            for (n, v) in attrs {
                if let Some(v) = v {
                    w.attr(n, v);
                }
            }
            w.end();
        };
        if !self.args.is_empty() || !self.env.is_empty() {
            w.start("qemu:commandline");
            for arg in &self.args {
                one(w, "qemu:arg", &[("value", Some(arg))]);
            }
            for (name, value) in &self.env {
                one(w, "qemu:env", &[("name", Some(name)), ("value", value.as_deref())]);
            }
            w.end();
        }
        if !self.capabilities_add.is_empty() || !self.capabilities_del.is_empty() {
            w.start("qemu:capabilities");
            for cap in &self.capabilities_add {
                one(w, "qemu:add", &[("capability", Some(cap))]);
            }
            for cap in &self.capabilities_del {
                one(w, "qemu:del", &[("capability", Some(cap))]);
            }
            w.end();
        }
        if !self.overrides.is_empty() {
            w.start("qemu:override");
            for device in &self.overrides {
                w.start("qemu:device");
                w.attr("alias", &device.alias);
                w.start("qemu:frontend");
                for (name, kind, value) in &device.properties {
                    let attrs = [
                        ("name", Some(name.as_str())),
                        ("type", Some(kind.as_str())),
                        ("value", value.as_deref()),
                    ];
                    one(w, "qemu:property", &attrs);
                }
                w.end();
                w.end();
            }
            w.end();
        }
        if let Some(d) = self.deprecation {
            one(w, "qemu:deprecation", &[("behavior", Some(d.as_str()))]);
        }
    }
}
