//! Options handed to dnsmasq as they are.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Writer, Xml};

/// The namespace of `dnsmasq:options`.
pub const DNSMASQ_NAMESPACE: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";

/// `<dnsmasq:options>`. The prefix is always written as `dnsmasq`, declared at the root.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DnsmasqOptions {
    /// Lines of its configuration file.
    pub options: Vec<String>,
}

fn named<'d>(e: El<'d>, local: &'d str) -> impl Iterator<Item = El<'d>> {
    e.children().filter(move |c| c.local_name() == local && c.namespace() == Some(DNSMASQ_NAMESPACE))
}

impl Xml for DnsmasqOptions {
    fn read(e: El<'_>) -> Result<Self> {
        let mut options = Vec::new();
        for option in named(e, "options").flat_map(|o| named(o, "option")) {
            let Some(value) = option.attr("value") else {
                return Err(option.error(
                    Code::InternalError,
                    Domain::Network,
                    "No dnsmasq options value specified",
                ));
            };
            options.push(value.to_string());
        }
        Ok(Self { options })
    }

    fn write_attrs(&self, w: &mut Writer) {
        if !self.options.is_empty() {
            w.attr("xmlns:dnsmasq", DNSMASQ_NAMESPACE);
        }
    }

    fn write_children(&self, w: &mut Writer) {
        if self.options.is_empty() {
            return;
        }
        w.start("dnsmasq:options");
        for option in &self.options {
            w.start("dnsmasq:option");
            w.attr("value", option);
            w.end();
        }
        w.end();
    }
}
