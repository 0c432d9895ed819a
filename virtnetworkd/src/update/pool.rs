//! The interfaces of a network's pool, and its groups of settings.

use virt_error::{Code, Domain, Error, Result};
use virt_model::Element;
use virt_model::network::Network;
use virt_model::network::forward::{Forward, ForwardInterface};
use virt_model::network::portgroup::PortGroup;

use super::{Command, Update, element, unrecognized, unsupported};
use crate::network::invalid;

impl Update {
    pub(super) fn interface(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "interface")?;
        let name = net.name().to_string();
        if self.command == Command::Modify {
            return Err(unsupported("forward interface entries cannot be modified, only added or deleted"));
        }
        if !part.attrs.iter().any(|(attr, _)| attr == "dev") {
            let text = "missing dev attribute in <interface> element";
            return Err(Error::new(Code::XmlError, Domain::Network, text));
        }
        let places = vec![element("forward", &[], Vec::new())];
        let interface: ForwardInterface = Self::read(net, part, places, false)?;
        let missing = || {
            invalid(format!(
                "couldn't find an interface entry in network '{name}' matching <interface dev='{}'>",
                interface.dev
            ))
        };
        let forward: &mut Forward = match (&mut net.forward, self.command) {
            (_, Command::Unknown(number)) => return Err(unrecognized(number)),
            (Some(forward), _) => forward,
            (None, Command::Delete) => return Err(missing()),
            // The reference answers that it did it, and shows nothing of it.
            (None, _) => {
                return Err(unsupported(format!(
                    "can't update 'forward interface' section of network '{name}'"
                )));
            }
        };
        let found = forward.interfaces.iter().position(|i| i.dev == interface.dev);
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(forward.interfaces.remove(at)),
            (Command::Delete, None) => return Err(missing()),
            (_, Some(_)) => {
                return Err(invalid(format!(
                    "there is an existing interface entry in network '{name}' that matches \"<interface dev='{}'>\"",
                    interface.dev
                )));
            }
            (_, None) => self.insert(&mut forward.interfaces, interface),
        }
        forward.dev = forward.interfaces.first().map(|i| i.dev.clone());
        Ok(())
    }

    pub(super) fn portgroup(&self, net: &mut Network, part: Element) -> Result<()> {
        Self::expect(net, &part, "portgroup")?;
        let name = net.name().to_string();
        let group: PortGroup = Self::read(net, part, Vec::new(), false)?;
        let this = group.name.clone().unwrap_or_default();
        let found = net.portgroups.iter().position(|g| g.name == group.name);
        let fault = match (self.command, found) {
            (Command::Unknown(number), _) => return Err(unrecognized(number)),
            (Command::Delete | Command::Modify, None) => Some(format!(
                "couldn't find a portgroup entry in network '{name}' matching <portgroup name='{this}'>"
            )),
            (Command::AddLast | Command::AddFirst, Some(_)) => Some(format!(
                "there is an existing portgroup entry in network '{name}' that matches \"<portgroup name='{this}'>\""
            )),
            _ => None,
        };
        if let Some(text) = fault {
            return Err(invalid(text));
        }
        let other = |g: &PortGroup| g.default == Some(true) && g.name != group.name;
        if self.command != Command::Delete && group.default == Some(true) && net.portgroups.iter().any(other)
        {
            return Err(invalid(format!(
                "a different portgroup entry in network '{name}' is already set as the default. Only one default is allowed."
            )));
        }
        match (self.command, found) {
            (Command::Delete, Some(at)) => drop(net.portgroups.remove(at)),
            (_, Some(at)) => net.portgroups[at] = group,
            (_, None) => self.insert(&mut net.portgroups, group),
        }
        Ok(())
    }
}
